"""The head that moves in a picture."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from media.yuv_frame import YuvFrame
from models.avatar.head_warp import HeadWarp
from models.avatar.idle_motion import IdleMotion
from tests.unit.models.still import Still

_FEATURES = (1, 33, 133, 362, 263, 105, 334, 61, 291, 152, 10)  # nose, eyes, brows, mouth, chin, forehead


def _warp(still: Still, motion: IdleMotion) -> HeadWarp:
    height, width = still.planes.y.shape
    return HeadWarp(still.track, motion, width, height)


def _spots(still: Still, places: NDArray[np.floating]) -> YuvFrame:
    """The picture with its luma replaced by soft spots."""
    rows, columns = np.indices(still.planes.y.shape)
    luma = sum(200 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 18) for x, y in places)
    return still.planes._replace(y=np.asarray(luma).clip(0, 255).astype(np.uint8))


def _centre(luma: NDArray[np.uint8], place: NDArray[np.floating]) -> NDArray[np.float64]:
    x, y = (int(v) for v in np.rint(place))
    part = luma[y - 10 : y + 11, x - 10 : x + 11].astype(float)
    rows, columns = np.indices(part.shape)
    inside = np.array([(part * columns).sum(), (part * rows).sum()]) / part.sum()
    return np.asarray(inside + [x - 10, y - 10])


def test_the_picture_moves_with_its_landmarks(still: Still, motion: IdleMotion) -> None:
    frame = int(np.abs(motion.rotation).sum(1).argmax())
    before = still.track.points[0, list(_FEATURES), :2]
    after = motion.move(still.track).points[frame, list(_FEATURES), :2]
    assert np.linalg.norm(after - before, axis=1).max() > 2
    warp = _warp(still, motion)
    for start, stop in zip(before, after, strict=True):
        seen = _centre(warp.render(_spots(still, start[None]), frame).y, stop)
        np.testing.assert_allclose(seen, stop, atol=0.4)


def test_a_nod_is_drawn_where_its_landmarks_are(still: Still, motion: IdleMotion) -> None:
    low_face = (1, 33, 133, 362, 263, 61, 13, 14, 291, 152)  # no brow is among them
    row = int(motion.rows(np.array([60]), np.array([1.0]))[0])
    before = still.track.points[0, list(low_face), :2]
    after = motion.move(still.track).points[row, list(low_face), :2]
    assert (after - before)[:, 1].min() > 2
    warp = _warp(still, motion)
    for start, stop in zip(before, after, strict=True):
        seen = _centre(warp.render(_spots(still, start[None]), row).y, stop)
        np.testing.assert_allclose(seen, stop, atol=0.4)


def test_brows_rise_and_eyes_stay_as_they_are(still: Still, motion: IdleMotion) -> None:
    brows_alone = replace(motion, nod=0 * motion.nod)
    rows = [level * motion.num_frames for level in (0, 8, 16)]  # at rest but for the brows
    unit, face = float(still.track.scale[0]), still.track.points[0, :, :2]
    warp = _warp(still, brows_alone)
    for brow in (face[[105, 52]].mean(0), face[[334, 282]].mean(0)):
        spot = _spots(still, brow[None])
        none, half, full = (_centre(warp.render(spot, row).y, brow)[1] for row in rows)
        assert abs(half - none) < 0.1, "weaker stresses do not move them"
        assert 0.02 * unit < none - full < 0.035 * unit
    noise = still.planes._replace(y=np.random.default_rng(1).integers(0, 256, still.planes.y.shape).astype(np.uint8))
    shown = warp.render(noise, rows[2]).y
    for corner, other, upper, lower in ((33, 133, 159, 145), (362, 263, 386, 374)):
        (x0, x1), (y0, y1) = sorted(face[[corner, other], 0]), face[[upper, lower], 1]
        eye = np.s_[round(y0) : round(y1) + 1, round(x0) : round(x1) + 1]
        assert np.abs(shown[eye].astype(int) - noise.y[eye]).mean() < 6, "gaze and lids stay"


def test_the_nose_turns_more_than_the_hair(still: Still, motion: IdleMotion) -> None:
    yaw = np.zeros_like(motion.rotation)
    yaw[:, 1] = np.radians(2)
    still_body = replace(motion, rotation=yaw, shift=0 * motion.shift, breath=0 * motion.breath)
    unit = float(still.track.scale[0])
    nose, top = still.track.points[0, 1, :2], still.track.points[0, 10, :2] - [0, 0.55 * unit]
    shown = _warp(still, still_body).render(_spots(still, np.stack([nose, top])), 3).y
    moved = [float((_centre(shown, place) - place)[0]) for place in (nose, top)]
    assert moved[0] > 2
    assert abs(moved[1]) < 0.5 * moved[0]


def test_the_surroundings_stay_and_nothing_tears(still: Still, motion: IdleMotion) -> None:
    warp = _warp(still, motion)
    height, width = still.planes.y.shape
    columns = np.broadcast_to(np.linspace(0, 255, width).astype(np.uint8), (height, width))
    rows = np.broadcast_to(np.linspace(0, 255, height).astype(np.uint8)[:, None], (height, width))
    nods = motion.rows(np.arange(0, motion.num_frames, 60), np.ones(5)).tolist()
    for frame in [*range(0, motion.num_frames, 30), *nods]:
        for ramp, axis in ((columns, 1), (rows, 0)):
            shown = warp.render(still.planes._replace(y=ramp), frame).y.astype(int)
            assert np.abs(shown - ramp).max() < 8  # a few pixels
            assert np.diff(shown, axis=axis).min() >= -1  # order is kept
            assert np.diff(shown, axis=axis).max() <= 3
        for plane, own in zip(warp.render(still.planes, frame), still.planes, strict=True):
            border = np.ones(plane.shape, bool)
            border[2:-2, 2:-2] = False
            assert np.abs(plane.astype(int) - own)[border].max() <= 4


def test_a_motion_of_nothing_changes_no_bit(still: Still, motion: IdleMotion) -> None:
    for frame in (0, motion.num_frames - 1):
        for plane, own in zip(_warp(still, motion).render(still.planes, frame), still.planes, strict=True):
            np.testing.assert_array_equal(plane, own)


def test_a_moved_face_keeps_its_sharpness(still: Still, motion: IdleMotion) -> None:
    face = still.track.points[0, :, :2]
    (x0, y0), (x1, y1) = face.min(0).astype(int), face.max(0).astype(int)
    warp = _warp(still, motion)
    sharpness = [
        cv2.Laplacian(warp.render(still.planes, frame).y[y0:y1, x0:x1], cv2.CV_64F).var()
        for frame in range(0, motion.num_frames, 20)
    ]
    assert min(sharpness) > 0.85 * sharpness[0]
