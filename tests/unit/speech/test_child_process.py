from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE

from speech.child_process import kill

_ENDLESS = "import sys\nwhile True: sys.stdout.write('x' * 9999)"


async def test_a_program_with_unread_output_is_killed() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-IS", "-c", _ENDLESS, stdout=PIPE, stderr=DEVNULL)
    assert process.stdout is not None
    await process.stdout.read(1)
    await asyncio.sleep(0.3)  # until asyncio's buffer is full
    async with asyncio.timeout(20):
        await kill(process)
    assert process.returncode == -9
