"""Frames passed from a decoder process: memory files that the decoder fills and the asking process maps.

A file is reused once its frames are no longer referenced. With a new file, the kernel would have to allocate, clear and
map its pages, which costs five times as much as the copy.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Final

import numpy as np

from media.decoding.channel import memory_file, write_whole
from media.yuv_frame import YuvFrame

_MAX_FREE_BYTES: Final = 96 * 1024**2  # of one reader: the batches of a chunk (64 MiB), which are released together


def frame_bytes(width: int, height: int) -> int:
    """Bytes of one frame of even size: its planes (H, W), (H/2, W/2), (H/2, W/2), one after the other."""
    return width * height * 3 // 2


def write_frame(file: int, planes: YuvFrame) -> None:
    """Append a frame to a memory file, at half the cost of filling mapped pages."""
    write_whole(file, *(np.ascontiguousarray(plane) for plane in planes))


class FrameBufferPool:
    """The memory files of one reader. Use from one thread; frames may be released in any.

    Readers share no files: a decoder that was taken over could keep one and read what is written to it later.
    """

    def __init__(self, num_frames: int, width: int, height: int) -> None:
        self._num_frames, self._width, self._height = num_frames, width, height
        file_bytes = num_frames * frame_bytes(width, height)
        self._free: deque[FrameBuffer] = deque(maxlen=max(_MAX_FREE_BYTES // file_bytes, 1))

    def take(self) -> FrameBuffer:
        """Return a file that is not in use."""
        try:
            return self._free.pop()
        except IndexError:
            return self.new()

    def new(self) -> FrameBuffer:
        """Return a new file, which no decoder has had."""
        return FrameBuffer(self._num_frames * frame_bytes(self._width, self._height))

    def frames(self, file: FrameBuffer, num_frames: int) -> Iterator[YuvFrame]:
        """Yield read-only views of the first frames in `file`, which is reused once all of them are released."""
        size, half = frame_bytes(self._width, self._height), (self._height // 2, self._width // 2)
        whole = np.frombuffer(file.mapped, np.uint8)
        # NumPy makes this array the base of every view, also of views of views: it lives as long as the last of them.
        weakref.finalize(whole, self._free.append, file).atexit = False
        for frame in whole[: num_frames * size].reshape(num_frames, size):
            y, u, v = np.split(frame, (self._width * self._height, self._width * self._height * 5 // 4))
            yield YuvFrame(y.reshape(self._height, self._width), u.reshape(half), v.reshape(half))


class FrameBuffer:
    """A memory file, mapped into this process; closed with the last reference to it."""

    def __init__(self, num_bytes: int) -> None:
        self.number = memory_file("frames", num_bytes)
        """Its file descriptor."""
        weakref.finalize(self, os.close, self.number)
        self.mapped = mmap.mmap(self.number, num_bytes, mmap.MAP_SHARED, mmap.PROT_READ)
        """All of it."""
