"""Builds the track of a source from raw landmarks; closed lips meet where the image shows their line."""

from __future__ import annotations

from functools import partial

import numpy as np

from media.frame_source import FrameSource
from media.probe import VideoInfo
from models.mouth.lip_seam import move_inner_lips, seam_shifts
from models.track.face_track import FaceTrack, finish_track
from models.track.raw_landmarks import RawLandmarks
from models.track.square_pixels import pixel_aspect
from models.track.visibility import assess_visibility

# A mouth whose tracked opening varies by less (standard deviation, eye distances; speech: .03 to .09) shows nothing
# worth copying; for closed mouths that never move it varies by up to .0051 (24 films).
_TALKING_STD = 0.011
_SEAM_FRAMES = 5  # in which to search for the line where closed lips meet


def opens(track: FaceTrack) -> bool:
    """Returns whether the mouth opening varies in the track, even if the mouth never closes completely."""
    return bool(track.visible.sum() > 1 and track.shape[track.visible, 0].std() > _TALKING_STD)


def own_track(raw: RawLandmarks, reader: FrameSource, info: VideoInfo) -> FaceTrack:
    """Returns the track of a source.

    Args:
        raw: Landmarks of all its frames.
        reader: Reads a few of its frames if the mouth is closed and never moves.
        info: The source.

    Raises:
        FaceNotFoundError: The face is in no frame.
    """
    aspect = pixel_aspect(info)
    judged = assess_visibility(raw, float(info.fps), aspect)
    finish = partial(
        finish_track,
        present=raw.present,
        shot=judged.shot,
        skip_reason=judged.skip_reason,
        visible=judged.visible,
        fps=float(info.fps),
        pixel_aspect=aspect,
    )
    track = finish(raw.points)
    if opens(track):
        return finish(raw.points, lips_move=True)
    if track.is_rest_closed_by_model:
        return track
    shown = np.flatnonzero(track.visible)
    looked_at = np.unique(shown[np.linspace(0, len(shown) - 1, _SEAM_FRAMES).astype(int)])
    seam = seam_shifts(list(reader.read(looked_at.tolist())), track.points[looked_at])
    return finish(move_inner_lips(raw.points, seam))
