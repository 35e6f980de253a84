"""Ends programs that speak."""

from __future__ import annotations

from asyncio.subprocess import Process
from typing import Final

_PIECE_BYTES: Final = 1 << 16


async def kill(process: Process) -> None:
    """Kill a process whose output is a pipe, and wait for it.

    Its output is read to the end first. Once its buffer is full, asyncio stops reading a pipe, and `Process.wait`
    returns only when the pipe is closed.
    """
    assert process.stdout is not None
    process.kill()
    while await process.stdout.read(_PIECE_BYTES):
        pass
    await process.wait()
