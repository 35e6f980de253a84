"""Frames on their way from a decoder process: a memory file, written once and mapped where it arrives."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator

import numpy as np

from errors import LipwrightError
from media.decoding.channel import write_whole
from media.planes import Planes


def frame_bytes(width: int, height: int) -> int:
    """Length of one frame of even size: its planes (H, W), (H/2, W/2), (H/2, W/2), one behind the other."""
    return width * height * 3 // 2


def write_frame(file: int, planes: Planes) -> None:
    """Append a frame to a memory file; writing costs half of what filling mapped pages does."""
    write_whole(file, *(np.ascontiguousarray(plane) for plane in planes))


def map_frames(file: int, num_frames: int, width: int, height: int) -> Iterator[Planes]:
    """Read-only views of the frames in a memory file; its memory goes when the last of them does.

    Args:
        file: Closed here.
        num_frames: At least 1.
        width: Pixels, even.
        height: Pixels, even.

    Raises:
        LipwrightError: The file is too short for that.
    """
    size = frame_bytes(width, height)
    try:
        # Whoever could shorten the file could end the process that has it mapped.
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        if os.fstat(file).st_size < num_frames * size:
            raise LipwrightError(f"Expected {num_frames} frames of {size} bytes, got {os.fstat(file).st_size} bytes.")
        mapped = mmap.mmap(file, num_frames * size, mmap.MAP_SHARED | mmap.MAP_POPULATE, mmap.PROT_READ)
    finally:
        os.close(file)
    for frame in np.frombuffer(mapped, np.uint8).reshape(num_frames, size):
        y, u, v = np.split(frame, (width * height, width * height * 5 // 4))
        half = (height // 2, width // 2)
        yield Planes(y.reshape(height, width), u.reshape(half), v.reshape(half))
