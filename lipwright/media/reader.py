"""Random access to the frames of a video at a constant rate, as upright 8-bit 4:2:0 planes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Self

from av.video.frame import VideoFrame

from lipwright.config import MediaLimits
from lipwright.errors import MediaError
from lipwright.media.forward_decoder import ForwardDecoder
from lipwright.media.frame_table import frame_table
from lipwright.media.probe import VideoInfo
from lipwright.media.upright import upright_planes
from lipwright.media.yuv_frame import YuvFrame

# A seek discards frames in the decoder; below this distance, decoding forward is cheaper.
_FRAMES_PER_SEEK: Final = 8


class FrameReader:
    """Reads frames of one video or picture by their index on the constant-rate grid. Not thread-safe.

    A video whose frames all fit `cache_bytes` is decoded once, however often it is read. In a longer one, ascending
    indices continue decoding where the last `read` stopped. A step back decodes from the previous keyframe and keeps as
    many frames as fit, at least one, so that reverse playback decodes a GOP once if it fits, and once per cache size
    otherwise. After a jump back, as in a loop or between clips, the frames that were read last are kept. No frame is
    held beyond that cache and the decoder's own reference frames. `limits` are enforced again on every frame.

    Raises:
        MediaError: The file can no longer be opened.
    """

    def __init__(
        self, path: Path, info: VideoInfo, cache_bytes: int, num_threads: int = 1, limits: MediaLimits | None = None
    ) -> None:
        self._path = path
        self._info = info
        limits = limits or MediaLimits()
        self._table = frame_table(path, limits)
        self._decoder = ForwardDecoder(path, self._table, limits, num_threads)
        self._max_kept = max(cache_bytes // (info.width * info.height * 3 // 2), 1)
        self._kept: dict[int, YuvFrame] = {}
        self._num_decodable = len(self._table.pts)
        self._keeps_all = self._num_decodable <= self._max_kept
        self._last = -1  # the frame that was read last
        self._jumps = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def read(self, indices: Iterable[int]) -> Iterator[YuvFrame]:
        """Yield frames in the order of `indices`, decoded on demand; see `FrameSource`.

        Yields:
            Read-only planes, (info.height, info.width) luma.

        Raises:
            ValueError: An index outside the range.
            MediaError: Nothing can be decoded there.
            MediaLimitError: A frame has more pixels than allowed.
        """
        for index in indices:
            if not 0 <= index < self._info.num_frames:
                raise ValueError(f"Expected an index in [0, {self._info.num_frames}), got {index = }.")
            frame = min(self._table.source_frame(index), self._num_decodable - 1)
            is_jump = frame < self._last - _FRAMES_PER_SEEK
            self._jumps = self._jumps or is_jump
            if frame not in self._kept:
                self._decode_to(frame, is_jump)
            if frame < self._last and not (self._keeps_all or self._jumps):
                self._drop_after(frame)
            self._last = frame
            frame = min(frame, self._num_decodable - 1)
            self._kept[frame] = self._kept.pop(frame)  # the least recently read one comes first
            yield self._kept[frame]

    def close(self) -> None:
        """Close the file; frames already returned stay valid."""
        self._kept.clear()
        self._decoder.close()

    def _drop_after(self, frame: int) -> None:
        """Drop cached frames that reverse playback has passed."""
        for passed in [kept for kept in self._kept if kept > frame]:
            del self._kept[passed]

    def _decode_to(self, frame: int, is_jump: bool) -> None:
        """Decode until `frame` is cached. Without jumps, drop the previous cache if not all frames fit."""
        key = self._table.key_before(frame)
        is_ahead = frame >= self._decoder.position
        if self._keeps_all:
            keep_from = 0
        else:
            if not self._jumps:
                self._kept.clear()
            keep_from = frame if is_ahead or is_jump else max(frame - self._max_kept + 1, key)
        if not is_ahead or key > self._decoder.position + _FRAMES_PER_SEEK:
            self._decoder.seek(frame)
        if not self._walk(frame, keep_from):
            # The stream ended early: its last frame replaces the missing ones.
            self._keep_last_decodable(key)

    def _walk(self, frame: int, keep_from: int) -> bool:
        while (step := self._decoder.step(keep_from)) is not None:
            index, picture = step
            if index >= keep_from:
                self._kept[index] = upright_planes(picture, self._info)
                if len(self._kept) > self._max_kept:
                    del self._kept[next(iter(self._kept))]
            if index >= frame:
                # A damaged frame is replaced by the next one that decodes.
                self._kept.setdefault(frame, self._kept[index])
                return True
        return False

    def _keep_last_decodable(self, key: int) -> None:
        last: tuple[int, VideoFrame] | None = None
        while last is None:
            self._decoder.seek(key)
            while (step := self._decoder.step()) is not None:
                last = step
            if last is None and key == 0:
                self._decoder.raise_if_broken()
                raise MediaError(f"{self._path.name}: expected frames that can be decoded, found none.")
            key = self._table.key_before(max(key - 1, 0))
        self._num_decodable = last[0] + 1
        self._kept[last[0]] = upright_planes(last[1], self._info)
