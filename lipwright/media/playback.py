"""Fits the source video to the speech: how long the result is, and which source frame each of its frames shows."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

LoopMode = Literal["pingpong", "loop", "hold", "cut", "source", "retime", "natural"]
AfterEnd = Literal["pingpong", "loop", "hold"]
ClipKind = Literal["idle", "talk", "action"]

MAX_SPEED: Final = 1.35
"""Fastest playback of speech; it remains natural up to about this speed."""
SPEED_LIMITS: Final = (0.5, 2.0)
"""Slowest and fastest playback of `retime`, in source frames per output frame."""


class Playback(NamedTuple):
    """How a source is played.

    Attributes:
        after_end: What follows the last source frame: `pingpong` plays backward and forward again, without repeating
            the turning frames; `loop` starts again at frame 0; `hold` stays on the last frame.
        speed: Source frames per output frame.
        path: What is shown instead of the source from its start to its end: pairs of a position, in source frames since
            the start of the result, and the frame from which on the source is played there; by position, the first at
            0, or at the first that is shown of a part. Empty: the source is played as `after_end` says.
    """

    after_end: AfterEnd = "pingpong"
    speed: float = 1.0
    path: tuple[tuple[int, int], ...] = ()

    def part(self, frames: range) -> Playback:
        """Return how the source is played in some output frames: with only the part of the path that they show."""
        if not self.path or not frames:
            return self
        first, last = (int((frame + 0.5) * self.speed) for frame in (frames[0], frames[-1]))
        positions = [position for position, _ in self.path]
        begin, stop = bisect_right(positions, first) - 1, bisect_right(positions, last)
        position, frame = self.path[begin]
        return self._replace(path=((first, frame + first - position), *self.path[begin + 1 : stop]))

    def source_frames(self, frames: range, num_source_frames: int) -> NDArray[np.int32]:
        """Return the (T,) source frames, in [0, num_source_frames), that are shown in T output frames."""
        # The middle of an output frame falls into the source frame that it shows.
        index = ((np.asarray(frames, np.float64) + 0.5) * self.speed).astype(np.int64)
        last = num_source_frames - 1
        if self.path:
            positions, starts = np.array(self.path, np.int64).T
            part = np.searchsorted(positions, index, side="right") - 1
            index = np.minimum(starts[part] + index - positions[part], last)
        elif self.after_end == "hold":
            index = np.minimum(index, last)
        elif self.after_end == "loop":
            index %= num_source_frames
        else:
            index %= max(2 * last, 1)
            index = np.minimum(index, 2 * last - index)
        return index.astype(np.int32)


def fit_audio(speech_seconds: float, video_seconds: float, max_stretch: float) -> float:
    """Return the speed of speech that ends as close to the video as `max_stretch` allows, 1 or more."""
    return min(max(speech_seconds / video_seconds, 1 / max_stretch), max_stretch)


def fit(loop: LoopMode, num_speech_frames: int, num_source_frames: int | None) -> tuple[int, Playback]:
    """Return the number of frames of a result, and how its source is played.

    Args:
        loop: `pingpong`, `loop` and `hold` extend a source that is shorter than the speech, see `Playback`. `cut` ends
            with the shorter of the two, `source` with the source. `retime` plays the source slower or faster, within
            `SPEED_LIMITS`, so that it ends with the speech. `natural` follows a `Playback.path`, which the caller adds.
        num_speech_frames: Frames that cover the speech, 1 or more.
        num_source_frames: Frames of the source, 1 or more; None for a still, which has no length of its own.
    """
    if loop in ("pingpong", "loop", "hold"):
        return num_speech_frames, Playback(loop)
    if num_source_frames is None or loop == "natural":
        return num_speech_frames, Playback()
    if loop == "retime":
        slowest, fastest = SPEED_LIMITS
        speed = min(max(num_source_frames / num_speech_frames, slowest), fastest)
        return num_speech_frames, Playback(speed=speed)
    is_cut = loop == "cut"
    return min(num_speech_frames, num_source_frames) if is_cut else num_source_frames, Playback()
