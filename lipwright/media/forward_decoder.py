"""Decodes a video stream forward, and seeks only to keyframes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from lipwright.config import MediaLimits
from lipwright.errors import MediaLimitError
from lipwright.media.container import (
    decoder_max_pixels,
    discard_other_streams,
    ffmpeg_errors,
    open_container,
    passes_pixel_limit,
)
from lipwright.media.frame_table import FrameTable, video_stream

# One packet is one frame here. In AV1 and VP9 a packet may hide frames that later ones refer to.
_SKIPPING_CODECS: Final = frozenset({"h264", "hevc"})


class ForwardDecoder:
    """Decodes the frames of a stream in presentation order.

    Frames are identified by their index in the table. In streams without usable times, frames are counted from the
    start, and seeking back reopens the file.

    Attributes:
        position: Index of the next frame.
    """

    position: int

    def __init__(self, path: Path, table: FrameTable, limits: MediaLimits, num_threads: int) -> None:
        self._path = path
        self._table = table
        self._limits = limits
        self._num_threads = num_threads
        self._ready: deque[VideoFrame] = deque()
        self._packets: Iterator[Packet[VideoStream]] = iter(())
        self._last_error: FFmpegError | None = None
        self._open()

    def seek(self, frame: int) -> None:
        """Seek to the last keyframe at or before `frame`, or further back if the container requires it."""
        key = self._table.key_before(frame)
        if not self._table.timed or key == 0:
            self.close()
            self._open()
            return
        for target in (key, self._table.key_before(key - 1)):
            if self._seek_to_key(target, key):
                return
        self.close()
        self._open()

    def step(self, skip_before: int = 0) -> tuple[int, VideoFrame] | None:
        """Return the next frame and its index, or None at the end of the stream.

        Frames before `skip_before` are not needed: of them, non-reference frames are not decoded.

        Raises:
            MediaLimitError: A frame has more pixels than allowed, or memory ran out.
        """
        while not self._ready:
            packet = next(self._packets, None)
            if packet is None:
                return None
            self._decode(packet, skip_before)
        frame = self._ready.popleft()
        index = self.position
        if self._table.timed and frame.pts is not None:
            found = int(np.searchsorted(self._table.pts, frame.pts))
            index = min(found, len(self._table.pts) - 1)
        self.position = index + 1
        return index, frame

    def raise_if_broken(self) -> None:
        """Raise MediaError (or MediaLimitError) if a packet failed to decode."""
        with ffmpeg_errors(self._path, "frames that can be decoded"):
            if self._last_error is not None:
                raise self._last_error

    def close(self) -> None:
        """Stop the decoder threads and close the file."""
        self._ready.clear()
        # Flushing stops frame threads without holding the GIL, which their error messages need.
        self._stream.codec_context.flush_buffers()
        self._container.close()

    def _open(self) -> None:
        self._container: InputContainer = open_container(self._path, self._limits)
        self._stream: VideoStream = video_stream(self._container, self._path)
        discard_other_streams(self._container, self._stream)
        context = self._stream.codec_context
        context.options = {"max_pixels": str(decoder_max_pixels(self._limits))}
        self._stream.thread_type = "AUTO"
        context.thread_count = self._num_threads
        self._can_skip = self._table.timed and context.name in _SKIPPING_CODECS
        self._packets = self._container.demux(self._stream)
        self.position = 0

    def _seek_to_key(self, target: int, key: int) -> bool:
        """Seek to the keyframe `target`; False if the container lands after `key`."""
        self._ready.clear()
        try:
            self._container.seek(int(self._table.pts[target]), stream=self._stream)
        except FFmpegError:
            return False
        self._packets = self._container.demux(self._stream)
        for packet in self._packets:
            if packet.is_keyframe and packet.pts is not None:
                landed = int(np.searchsorted(self._table.pts, packet.pts))
                if landed > key:
                    return False
                self.position = landed
                self._decode(packet, 0)
                return True
        return False

    def _decode(self, packet: Packet[VideoStream], skip_before: int) -> None:
        is_early = self._can_skip and packet.pts is not None and packet.pts < self._table.pts[skip_before]
        self._stream.codec_context.skip_frame = "NONREF" if is_early else "DEFAULT"
        try:
            self._ready.extend(packet.decode())
        except FFmpegError as error:
            # Decoders conceal or drop broken frames and continue; only too many pixels or bytes are fatal.
            self._last_error = error
            if isinstance(error, MemoryError):
                self.raise_if_broken()
            context = self._stream.codec_context
            if passes_pixel_limit(error) or context.width * context.height > self._limits.max_pixels:
                raise MediaLimitError(
                    f"{self._path.name}: expected at most {self._limits.max_pixels} pixels per frame, "
                    f"found {context.width} x {context.height}."
                ) from error
