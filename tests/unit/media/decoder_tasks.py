"""What test decoders do; module-level, so that another process can find it by name."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

import numpy as np

from config import MediaLimits
from errors import MediaError
from media.probe import probe_video
from media.reader import FrameReader


def crash() -> None:
    ctypes.string_at(0)


def hoard(num_bytes: int) -> int:
    return int(np.ones(num_bytes, np.uint8).sum())


def spin() -> None:
    while True:
        pass


def sleep(seconds: float, started: Path | None = None) -> str:
    if started is not None:
        started.write_text(str(os.getpid()))
    time.sleep(seconds)
    return "woke"


def refuse() -> None:
    raise MediaError("clip.mp4: expected this, found that.")


def fail() -> None:
    raise OddError(1, 2)


class OddError(Exception):
    """Does not survive pickling."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def write_much(path: Path, num_bytes: int) -> None:
    (path.parent / "left over").write_bytes(b"x")
    path.write_bytes(bytes(num_bytes))


def process_id() -> int:
    return os.getpid()


def parent_id() -> int:
    return os.getppid()


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def decode_all(path: Path) -> int:
    info = probe_video(path, MediaLimits())
    with FrameReader(path, info, 0) as reader:
        return len(list(reader.read(range(info.num_frames))))


def echo(value: bytes) -> bytes:
    return value
