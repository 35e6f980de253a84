"""From raw landmarks to the track of a source, with lips that close even where the source never shows them closed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from media.frame_source import FrameSource
from media.planes import Planes
from media.probe import VideoInfo
from models.geometry.face_points import INNER_LOWER, INNER_UPPER
from models.mouth.lip_edges import LipEdges, inner_lip_edges, move_inner_lips
from models.mouth.lip_model import meeting_lips, shut_lips
from models.mouth.lip_seam import seam_shifts
from models.mouth.shape import CHANNELS, CLOSED_SHARE, measure
from models.track.face_track import FaceTrack, finish_track
from models.track.judgement import judge
from models.track.raw_landmarks import RawLandmarks
from models.track.square_pixels import pixel_aspect

# A mouth whose tracked opening varies by less (standard deviation, eye distances; speech: .03 to .09) shows nothing
# worth copying; on shut mouths that never move it varies by up to .0051 (24 films).
_TALKING_STD = 0.011
# A mouth that opens and that the mesh never sees shut (over a moustache, or with thick lips) is looked at where it is
# least high; so many frames of those.
_CLOSED_FRAMES = 15
_LIP_FRAMES = 5  # in which the edges of lips that never close are looked at
# What a picture shows between the lips: the gap between their edges in eye distances, times the evidence of
# `inner_lip_edges` that it is the inside of a mouth. Hair and shine make a wide gap, the dark line of shut lips much
# evidence, and only open ones both. Nine shut talkers in the wild have .003 to .027; the shipped portrait .077, at a
# third of its size .061, and at half of it and out of focus .058.
_PARTED = 0.04


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
    aspect = pixel_aspect(info)
    shot, passed = judge(raw, aspect)
    finish = partial(
        finish_track, present=raw.present, shot=shot, passed=passed, fps=float(info.fps), pixel_aspect=aspect
    )
    track = finish(raw.points)
    if opens(track):
        track = track if not track.is_rest_closed_by_model else _seen_closed(track, reader)
        if not track.is_rest_closed_by_model:
            return track
    # The mouth is never seen to close, or never to move. What closes it has to know where its lips end.
    shown = np.flatnonzero(track.present)
    looked_at = np.unique(shown[np.linspace(0, len(shown) - 1, _LIP_FRAMES).astype(int)])
    pictures = list(reader.read(looked_at.tolist()))
    edges = _edges(track, looked_at, pictures)
    if not opens(track) and _are_shut(track, looked_at, edges).mean() > 0.5:
        seam = seam_shifts(pictures, track.points[looked_at])
        return finish(move_inner_lips(raw.points, seam))
    shifts = np.median([each.shifts for each in edges], 0)
    points = move_inner_lips(raw.points, shifts)
    track = finish(points)
    rest = shut_lips(track.rest)
    shape = track.shape + measure(track.rest[None]) - measure(rest[None])
    return replace(track, rest=rest, shape=shape, is_rest_closed_by_model=True)


def _seen_closed(track: FaceTrack, reader: FrameSource) -> FaceTrack:
    """The track at rest where its pictures show closed lips, whatever the mesh says of them; itself if none do."""
    shown = np.flatnonzero(track.present)
    low = shown[track.shape[shown, CHANNELS.index("open_out")].argsort(kind="stable")]
    lowest = low[: max(_LIP_FRAMES, round(CLOSED_SHARE * len(low)))]
    looked_at = np.sort(lowest[np.unique(np.linspace(0, len(lowest) - 1, _CLOSED_FRAMES).astype(int))])
    closed = looked_at[_are_shut(track, looked_at, _edges(track, looked_at, reader.read(looked_at.tolist())))]
    if not len(closed):
        return track
    rest = meeting_lips(track.head_points[closed].mean(0))
    shape = measure(track.head_points) - measure(rest[None])
    return replace(track, rest=rest, shape=shape, is_rest_closed_by_model=False)


def _edges(track: FaceTrack, frames: NDArray[np.integer], pictures: Iterable[Planes]) -> list[LipEdges]:
    """The edges of the lips in the pictures of (F,) source frames."""
    return [inner_lip_edges(each, track.points[frame]) for frame, each in zip(frames, pictures, strict=True)]


def _are_shut(track: FaceTrack, frames: NDArray[np.integer], edges: list[LipEdges]) -> NDArray[np.bool_]:
    """(F,) whether the pictures of source frames show lips that meet."""
    moved = [move_inner_lips(track.points[[f]], each.shifts) for f, each in zip(frames, edges, strict=True)]
    seen = np.concatenate(moved)[..., :2]
    gaps = np.linalg.norm(seen[:, list(INNER_LOWER)] - seen[:, list(INNER_UPPER)], axis=-1).mean(1)
    evidence = np.array([each.evidence for each in edges])
    return np.asarray(gaps / track.scale[frames] * evidence < _PARTED)
