"""Presentation times and keyframes of a video stream, read from its packets without decoding."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from lipwright.config import MediaLimits
from lipwright.errors import MediaError, MediaLimitError
from lipwright.media.container import (
    discard_other_streams,
    ffmpeg_errors,
    file_status,
    open_container,
    origin_seconds,
    pictures,
)
from lipwright.media.frame_rate import FREEZE_SECONDS, MAX_FPS, FrameRate, frame_rate, stated_rate

_MAX_HIDDEN_FRAMES: Final = 20_000
"""Frames decoded but not shown because of an edit list, as in a trimmed screen recording with a single keyframe."""
_HIDDEN_PER_FRAME: Final = 8
_ROUNDING: Final = 1 / 3  # of a frame, see `lipwright.media.frame_rate`
_PICTURE_DEMUXERS: Final = frozenset({"png_pipe", "jpeg_pipe", "webp_pipe"})


@dataclass(frozen=True)
class FrameTable:
    """All frames of one stream in presentation order, and the constant-rate grid they are mapped to.

    Attributes:
        pts: (N,) presentation times in `time_base` units, ascending when `timed`.
        keys: (K,) indices of key frames, ascending; decoding can start at each.
        fps: Rate of the constant-rate grid, frames per second.
        num_frames: Frames on the constant-rate grid, which begins with the sound.
        num_before: Grid frames before the first frame, which they repeat: the picture begins later than the sound.
        timed: Whether each frame has a time of its own. If not, frames can only be counted from the start.
        frozen_seconds: Seconds for which the picture is frozen; those grid frames repeat a frame.
    """

    pts: NDArray[np.int64]
    keys: NDArray[np.int64]
    time_base: Fraction
    fps: Fraction
    num_frames: int
    num_before: int
    is_variable_rate: bool
    timed: bool
    is_picture: bool
    frozen_seconds: float = 0.0

    def source_frame(self, index: int) -> int:
        """Return the stream frame nearest in time to grid frame `index` (the earlier one in a tie)."""
        last = len(self.pts) - 1
        index = max(index - self.num_before, 0)
        if not self.is_variable_rate:
            return min(index, last)
        target = int(self.pts[0]) + index / self.fps / self.time_base
        after = min(int(np.searchsorted(self.pts, float(target))), last)
        before = max(after - 1, 0)
        return before if target - int(self.pts[before]) <= int(self.pts[after]) - target else after

    def key_before(self, frame: int) -> int:
        """Return the index of the last keyframe at or before `frame`; 0 if there is none or frames have no times."""
        if not self.timed:
            return 0
        position = int(np.searchsorted(self.keys, frame, side="right")) - 1
        return int(self.keys[position]) if position >= 0 else 0


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """Return the first video stream that is not a cover picture.

    Raises:
        MediaError: There is none, or this build of FFmpeg cannot decode it.
    """
    streams = pictures(container)
    if not streams:
        kinds = {"a cover picture" if stream.type == "video" else stream.type for stream in container.streams}
        found = ", ".join(sorted(kinds)) or "no stream"
        raise MediaError(f"{path.name}: expected a video stream or a picture, found only: {found}.")
    if streams[0].codec_context is None:
        raise MediaError(f"{path.name}: expected a video codec that FFmpeg decodes, found an unknown one.")
    return streams[0]


def frame_table(path: Path, limits: MediaLimits) -> FrameTable:
    """Return the table of a file, cached by path, size and modification time: every segment of a job needs it.

    Raises:
        MediaError: No video stream, no frame, or an encrypted stream.
        MediaLimitError: More frames or seconds than allowed.
    """
    status = file_status(path)
    return _read_table(path, status.st_size, status.st_mtime_ns, limits)


@lru_cache(maxsize=8)
def _read_table(path: Path, num_bytes: int, changed_ns: int, limits: MediaLimits) -> FrameTable:
    with open_container(path, limits) as container:
        stream = video_stream(container, path)
        discard_other_streams(container, stream)
        pts, keys, last_duration = _read_packets(container, stream, path, limits)
        time_base = stream.time_base or Fraction(1, 90000)
        origin = origin_seconds(container)
        stated = [rate for rate in (stream.average_rate, stream.base_rate, stream.guessed_rate) if rate]
        is_picture = container.format.name in _PICTURE_DEMUXERS
        # AVI stores no presentation times; the times that FFmpeg makes up are in decoding order.
        has_times = not (container.format.name == "avi" and stream.codec_context.has_b_frames)
    order = np.argsort(pts, kind="stable")
    timed = has_times and bool(np.all(np.diff(pts[order]) > 0))
    if timed:
        pts, keys = pts[order], np.flatnonzero(np.isin(order, keys))
    seconds = float((int(pts[-1]) - int(pts[0]) + last_duration) * time_base) if timed else 0.0
    if seconds > limits.max_video_seconds:
        raise MediaLimitError(
            f"{path.name}: expected at most {limits.max_video_seconds:g} s of video, found {seconds:.0f} s."
        )
    rate = frame_rate(pts, time_base, last_duration, stated) if timed else FrameRate(stated_rate(stated), False)
    late_seconds = max(float(int(pts[0]) * time_base - origin), 0.0) if timed else 0.0
    frozen_seconds = rate.frozen_seconds + max(late_seconds - FREEZE_SECONDS, 0.0)
    _check_rate(path, rate.fps, seconds + late_seconds, frozen_seconds, limits)
    num_before = int(late_seconds * rate.fps + _ROUNDING)
    num_frames = num_before + (len(pts) if not rate.is_variable else max(round(seconds * rate.fps), 1))
    if num_frames > limits.max_video_frames:
        raise MediaLimitError(
            f"{path.name}: expected at most {limits.max_video_frames} frames of video, found {num_frames} at "
            f"{float(rate.fps):g} per second (limit: limits.max_video_frames)."
        )
    return FrameTable(
        pts, keys, time_base, rate.fps, num_frames, num_before, rate.is_variable, timed, is_picture, frozen_seconds
    )


def _check_rate(path: Path, fps: Fraction, seconds: float, frozen_seconds: float, limits: MediaLimits) -> None:
    """Reject implausible frame rates, and few frames that are shown for hours."""
    if fps > MAX_FPS:
        raise MediaLimitError(f"{path.name}: expected at most {MAX_FPS} frames per second, found {float(fps):.0f}.")
    most = limits.max_frozen_seconds + seconds - frozen_seconds
    if frozen_seconds > most:
        raise MediaLimitError(
            f"{path.name}: expected a picture that is frozen for at most {most:.0f} s, "
            f"found {frozen_seconds:.0f} s (limits.max_frozen_seconds)."
        )


def _check_hidden(path: Path, num_hidden: int, num_shown: int) -> None:
    """Reject edit lists that return to keyframes again and again: each time, all frames after them are decoded."""
    most = _MAX_HIDDEN_FRAMES + _HIDDEN_PER_FRAME * num_shown
    if num_hidden > most:
        raise MediaLimitError(
            f"{path.name}: expected an edit list that decodes at most {most} frames beside the {num_shown} that it "
            "shows, found more."
        )


def _read_packets(
    container: InputContainer, stream: VideoStream, path: Path, limits: MediaLimits
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Return times (decoding order), positions of keyframes and the duration of the last frame, in time_base units."""
    pts: list[int] = []
    keys: list[int] = []
    last = (-(2**62), 0)
    step = num_hidden = 0
    with ffmpeg_errors(path, "readable video packets"):
        for packet in container.demux(stream):
            if packet.size == 0 or packet.is_discard:
                num_hidden += packet.is_discard
                _check_hidden(path, num_hidden, len(pts))
                continue
            if not pts and packet.has_sidedata("encryption_info"):
                raise MediaError(f"{path.name}: expected a video that can be decoded, found an encrypted one.")
            # A frame without a time repeats the last one, which makes the table an untimed one.
            time = packet.pts if packet.pts is not None else (pts[-1] if pts else 0)
            step = packet.duration or step
            last = max(last, (time, step))
            if packet.is_keyframe:
                keys.append(len(pts))
            pts.append(time)
            if len(pts) > limits.max_video_frames:
                raise MediaLimitError(
                    f"{path.name}: expected at most {limits.max_video_frames} frames of video, found more. "
                    "Send a shorter video or fewer frames per second (limit: limits.max_video_frames)."
                )
    if not pts:
        raise MediaError(f"{path.name}: expected at least one video frame, found none.")
    return np.array(pts, np.int64), np.array(keys, np.int64), last[1]
