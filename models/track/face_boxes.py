"""The box around a face in each frame of a result, for a crop that follows it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lipwright.media.output.crop_path import FaceBoxes
from models.track.face_track import FaceTrack


def face_boxes(
    tracks: Sequence[FaceTrack],
    speaker: NDArray[np.int8],
    source_index: NDArray[np.int32],
    *,
    is_still: bool,
    min_frames: int = 0,
) -> FaceBoxes:
    """Return the box of the face that speaks in each of T output frames.

    A face that speaks for a moment only is left out, unless the picture is cut: it is the box of the last one.

    Args:
        tracks: The faces in one source.
        speaker: (T,) index of the face that speaks.
        source_index: (T,) source frames.
        is_still: Whether the source is a picture: the box then covers all its idle motion, and does not move.
        min_frames: Frames for which a face speaks at least to be followed.
    """
    index = np.zeros_like(source_index) if is_still else source_index
    step = np.abs(np.diff(index, prepend=index[:1]))
    # Playback that starts again is a cut, too: it is farther than frames that are skipped for another frame rate.
    shot = tracks[0].shot[index]
    is_cut = (np.diff(shot, prepend=shot[:1]) != 0) | (step > 2 * np.median(step) + 2)
    followed = _drop_short_turns(speaker, is_cut, min_frames)
    low, high = (np.empty((len(index), 2), np.float32) for _ in range(2))
    for number, track in enumerate(tracks):
        flat = track.points[..., :2]  # (N, 468, 2)
        of_track = flat.min(1), flat.max(1)
        if is_still:
            of_track = of_track[0].min(0, keepdims=True), of_track[1].max(0, keepdims=True)
        shown = followed == number
        low[shown], high[shown] = of_track[0][index[shown]], of_track[1][index[shown]]
    return FaceBoxes(low, high, is_cut, np.diff(followed, prepend=followed[:1]) != 0)


def _drop_short_turns(speaker: NDArray[np.int8], is_cut: NDArray[np.bool_], min_frames: int) -> NDArray[np.int8]:
    """Return `speaker` without the turns within a shot that are shorter than `min_frames`."""
    followed = speaker.copy()
    starts = np.flatnonzero((np.diff(speaker, prepend=speaker[:1]) != 0) | is_cut)
    for start, end in pairwise([*starts.tolist(), len(speaker)]):
        if end - start < min_frames and not is_cut[start]:
            followed[start:end] = followed[start - 1]
    return followed
