"""Maps output frames to source frames when the speech is longer than the source."""

from __future__ import annotations

from typing import Literal

Loop = Literal["pingpong", "loop", "hold"]


def source_index(frame: int, num_source_frames: int, loop: Loop) -> int:
    """Returns the source frame shown at output frame `frame`.

    Args:
        frame: Output frame, 0 or more.
        num_source_frames: Frames of the source, 1 or more.
        loop: `pingpong` plays forward, then backward, without repeating the turning frames; `loop` starts
            again at frame 0; `hold` stays on the last frame.

    Returns:
        Index in the half-open range [0, num_source_frames).

    Raises:
        ValueError: A negative frame, an empty source or an unknown `loop`.
    """
    if frame < 0 or num_source_frames < 1:
        raise ValueError(f"Expected frame >= 0 and num_source_frames >= 1, got {frame = }, {num_source_frames = }.")
    if loop == "hold":
        return min(frame, num_source_frames - 1)
    if loop == "loop":
        return frame % num_source_frames
    if loop == "pingpong":
        period = max(2 * num_source_frames - 2, 1)
        phase = frame % period
        return min(phase, period - phase) if num_source_frames > 1 else 0
    raise ValueError(f"Expected loop to be pingpong, loop or hold, got {loop = }.")
