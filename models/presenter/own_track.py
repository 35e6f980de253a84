"""From raw landmarks to the track of a source, with lips that close even where the source never shows them closed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from media.frame_source import FrameSource
from media.probe import VideoInfo
from models.geometry.face_points import INNER_LOWER, INNER_UPPER
from models.mouth.lip_edges import inner_lip_shifts, move_inner_lips
from models.mouth.lip_model import shut_lips
from models.mouth.shape import measure
from models.track.face_track import FaceTrack, finish_track
from models.track.judgement import judge
from models.track.raw_landmarks import RawLandmarks

# A mouth whose tracked opening varies by less (standard deviation, eye distances; speech: .015 to .05) shows nothing
# worth copying.
_TALKING_STD = 0.008
_LIP_FRAMES = 5  # in which the edges of lips that never close are looked at
# Mean gap between the lips' edges in the picture, in eye distances, above which a mouth that the mesh takes for shut is
# open: .006 to .022 on shut mouths of six talkers, .041 and more where teeth are seen between their lips.
_PARTED = 0.03
# Pixels of real footage are between these; a file may claim any, and regions grow with it.
_PIXEL_ASPECTS = (0.5, 2.0)


def opens(track: FaceTrack) -> bool:
    """Returns whether the mouth opens and closes in the track."""
    return bool(track.present.sum() > 1 and track.shape[track.present, 0].std() > _TALKING_STD)


def own_track(raw: RawLandmarks, reader: FrameSource, info: VideoInfo) -> FaceTrack:
    """Returns the track of a source.

    Args:
        raw: Landmarks of all its frames.
        reader: Reads a few of its frames, where its mouth is never seen to close.
        info: The source.

    Raises:
        FaceNotFoundError: The face is in no frame.
    """
    # A still is moved by what knows square pixels only.
    aspect = 1.0 if info.is_still else float(np.clip(float(info.sample_aspect_ratio), *_PIXEL_ASPECTS))
    shot, passed = judge(raw, aspect)
    finish = partial(
        finish_track, present=raw.present, shot=shot, passed=passed, fps=float(info.fps), pixel_aspect=aspect
    )
    track = finish(raw.points)
    if opens(track) and not track.is_rest_closed_by_model:
        return track
    # The mouth is never seen to close. What closes it has to know where its lips end.
    shown = np.flatnonzero(track.present)
    looked_at = np.unique(shown[np.linspace(0, len(shown) - 1, _LIP_FRAMES).astype(int)])
    pictures = zip(looked_at, reader.read(looked_at.tolist()), strict=True)
    shifts = np.median([inner_lip_shifts(planes, track.points[frame]) for frame, planes in pictures], 0)
    seen = move_inner_lips(track.points[looked_at], shifts)[..., :2]
    gaps = np.linalg.norm(seen[:, list(INNER_LOWER)] - seen[:, list(INNER_UPPER)], axis=-1).mean(1)
    if not track.is_rest_closed_by_model and np.median(gaps / track.scale[looked_at]) < _PARTED:
        return track
    points = move_inner_lips(raw.points, shifts)
    track = finish(points)
    rest = shut_lips(track.rest)
    shape = track.shape + measure(track.rest[None]) - measure(rest[None])
    return replace(track, rest=rest, shape=shape, is_rest_closed_by_model=True)
