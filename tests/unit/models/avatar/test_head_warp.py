import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from models.avatar.head_warp import HeadWarp
from models.avatar.still_frame import NUM_ROWS, turned_track
from tests.unit.models.avatar.frames import frame_of, shown, with_spots
from tests.unit.models.still import Still

_FEATURES = (1, 33, 133, 362, 263, 105, 334, 61, 291, 152, 10)  # nose, eyes, brows, mouth, chin, forehead


_TURNS = (  # degrees
    {"pitch": 3.2, "yaw": -2.0, "roll": 0.8},
    {"pitch": -2.4, "yaw": 4.4, "roll": -2.4},
    {"pitch": 1.2, "yaw": -4.4, "roll": 2.4},
    {"yaw": 3.2, "breath": 0.014, "roll": 1.6},
    {"pitch": -3.6, "brows": 0.06, "inner_brows": -0.035},
)


@pytest.fixture(scope="module")
def warp(still: Still) -> HeadWarp:
    height, width = still.planes.y.shape
    return HeadWarp(still.track, width, height)


def _centre(luma: NDArray[np.uint8], place: NDArray[np.floating]) -> NDArray[np.float64]:
    x, y = (int(v) for v in np.rint(place))
    part = luma[y - 10 : y + 11, x - 10 : x + 11].astype(float)
    rows, columns = np.indices(part.shape)
    inside = np.array([(part * columns).sum(), (part * rows).sum()]) / part.sum()
    return np.asarray(inside + [x - 10, y - 10])


def test_head_warp_moves_pixels_with_landmarks(still: Still, warp: HeadWarp) -> None:
    before = still.track.points[0, list(_FEATURES), :2]
    row = int(frame_of(pitch=2.0, yaw=2.0, roll=-1.6)[0])
    assert row < NUM_ROWS, "a pose of the grid"
    after = turned_track(still.track).points[row, list(_FEATURES), :2]
    assert np.linalg.norm(after - before, axis=1).max() > 2
    for start, stop in zip(before, after, strict=True):
        seen = _centre(warp.render(with_spots(still, start[None]), shown(pitch=2.0, yaw=2.0, roll=-1.6)).y, stop)
        np.testing.assert_allclose(seen, stop, atol=0.4)


def test_head_warp_brows_rise_and_eyes_stay(still: Still, warp: HeadWarp) -> None:
    unit, face = float(still.track.scale[0]), still.track.points[0, :, :2]
    for brow in (face[[105, 52]].mean(0), face[[334, 282]].mean(0)):
        spot = with_spots(still, brow[None])
        none, half, full = (_centre(warp.render(spot, shown(brows=rise)).y, brow)[1] for rise in (0, 0.015, 0.03))
        assert none - full == pytest.approx(2 * (none - half), abs=0.3)
        assert 0.02 * unit < none - full < 0.035 * unit
    noise = still.planes._replace(y=np.random.default_rng(1).integers(0, 256, still.planes.y.shape).astype(np.uint8))
    raised = warp.render(noise, shown(brows=0.03)).y
    for corner, other, upper, lower in ((33, 133, 159, 145), (362, 263, 386, 374)):
        (x0, x1), (y0, y1) = sorted(face[[corner, other], 0]), face[[upper, lower], 1]
        eye = np.s_[round(y0) : round(y1) + 1, round(x0) : round(x1) + 1]
        assert np.abs(raised[eye].astype(int) - noise.y[eye]).mean() < 6, "gaze and lids stay"


@pytest.mark.parametrize("inner", [0.03, -0.03])
def test_head_warp_inner_brows_move_alone(still: Still, warp: HeadWarp, inner: float) -> None:
    unit, face = float(still.track.scale[0]), still.track.points[0, :, :2]

    def shift(point: int) -> NDArray[np.float64]:
        moved = warp.render(with_spots(still, face[[point]]), shown(inner_brows=inner)).y
        return np.asarray((_centre(moved, face[point]) - face[point]) / unit)

    inner_ends = np.array([shift(107), shift(336)])
    assert (-inner_ends[:, 1] / inner > 0.6).all() and (-inner_ends[:, 1] / inner < 1.2).all()
    assert np.abs([shift(46), shift(276), shift(133), shift(362)]).max() < 0.006, "outer ends and eyes stay"
    together = inner_ends[0, 0] - inner_ends[1, 0]
    assert together > 0.01 if inner < 0 else abs(together) < 0.008


def test_head_warp_yaw_moves_nose_more_than_hair(still: Still, warp: HeadWarp) -> None:
    unit = float(still.track.scale[0])
    nose, top = still.track.points[0, 1, :2], still.track.points[0, 10, :2] - [0, 0.55 * unit]
    turned = warp.render(with_spots(still, np.stack([nose, top])), shown(yaw=2.0)).y
    moved = [float((_centre(turned, place) - place)[0]) for place in (nose, top)]
    assert moved[0] > 2
    assert abs(moved[1]) < 0.7 * moved[0]


def test_head_warp_keeps_the_border_without_folds(still: Still, warp: HeadWarp) -> None:
    height, width = still.planes.y.shape
    columns = np.broadcast_to(np.linspace(0, 255, width).astype(np.uint8), (height, width))
    rows = np.broadcast_to(np.linspace(0, 255, height).astype(np.uint8)[:, None], (height, width))
    for turn in _TURNS:
        frame = shown(**turn)
        for ramp, axis in ((columns, 1), (rows, 0)):
            moved = warp.render(still.planes._replace(y=ramp), frame).y.astype(int)
            assert np.abs(moved - ramp).max() < 14  # 28 pixels
            assert np.diff(moved, axis=axis).min() >= -1  # order is kept
            assert np.diff(moved, axis=axis).max() <= 3
        for plane, own in zip(warp.render(still.planes, frame), still.planes, strict=True):
            border = np.ones(plane.shape, bool)
            border[2:-2, 2:-2] = False
            assert np.abs(plane.astype(int) - own)[border].max() <= 4


def test_head_warp_at_rest_is_the_picture_and_moved_is_sharp(still: Still, warp: HeadWarp) -> None:
    points = still.track.points[0, :, :2]
    (x0, y0), (x1, y1) = points.min(0).astype(int), points.max(0).astype(int)
    for plane, own in zip(warp.render(still.planes, shown()), still.planes, strict=True):
        np.testing.assert_array_equal(plane, own)
    faces = (warp.render(still.planes, shown(**turn)).y[y0:y1, x0:x1] for turn in ({}, *_TURNS))
    sharpness = [cv2.Laplacian(face, cv2.CV_64F).var() for face in faces]
    assert min(sharpness) > 0.85 * sharpness[0]
