from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.material import FramesInMemory
from lipwright.media.playback import Playback
from models.avatar.avatar import Avatar
from models.avatar.face_region import FaceRegion
from models.avatar.folder import TRACK_FILE
from models.avatar.head_warp import HeadWarp
from models.avatar.moving_still import MovingMatte, MovingStill
from models.avatar.still_frame import MAX_TURN, NUM_FRAMES, NUM_ROWS, StillFrames, turned_track
from models.geometry.head_frame import RIGID, fit_head_pose
from models.speech.prosody import Prosody
from models.track.face_track import FaceTrack
from tests.unit.models.avatar.frames import frame_of, shown, with_spots
from tests.unit.models.still import FPS, Still

_AWAKE = int(frame_of(pitch=2.0, yaw=-2.0, roll=1.0, gaze=(0.01, 0.0))[0])
_ASLEEP = int(frame_of(pitch=2.0, yaw=-2.0, roll=1.0, closing=1.0)[0])


def test_moving_still_frames_do_not_depend_on_order(still: Still) -> None:
    indices = [0, _AWAKE, int(frame_of(closing=0.5)[0]), _ASLEEP, int(frame_of(gaze=(0.01, 0.0))[0])]
    with closing(MovingStill(still.reader(), still.track)) as frames:
        *forward, again, same = frames.read([*indices, _AWAKE, _AWAKE])
        backward = list(frames.read(indices[::-1]))[::-1]
    assert again is same and again is not forward[1], "a repeated frame is drawn once"
    np.testing.assert_array_equal(again.y, forward[1].y)
    for one, other in zip(forward, backward, strict=True):
        np.testing.assert_array_equal(one.y, other.y)
        assert one.y.shape == (still.info.height, still.info.width)
        assert not any(plane.flags.writeable for plane in one)
    np.testing.assert_array_equal(forward[0].y, still.planes.y)
    assert all((frame.y != still.planes.y).any() for frame in forward[1:])
    for index in (-1, NUM_FRAMES):
        with pytest.raises(ValueError, match=f"index = {index}"):
            list(frames.read([index]))


def test_avatar_of_a_still_has_moving_frames(still: Still, tmp_path: Path) -> None:
    with still.reader() as reader:
        built = Avatar.build(tmp_path, still.info, still.raw, reader)
    avatar = Avatar.load(tmp_path)
    assert avatar.info == built.info == still.info
    assert avatar.info.is_still and not avatar.talks
    assert avatar.track.num_frames == built.track.num_frames == NUM_ROWS
    np.testing.assert_array_equal(avatar.track.points, built.track.points)
    assert FaceTrack.load(tmp_path / TRACK_FILE).num_frames == 1, "the rest is made of it"
    with closing(avatar.frames(still.reader())) as frames:
        start, later = frames.read([0, _AWAKE])
    np.testing.assert_array_equal(start.y, still.planes.y)
    assert (later.y != start.y).any()
    slow, fast = (
        avatar.shown_frames(range(3 * fps, 4 * fps), fps, Playback(), Prosody.silence(fps)) for fps in (FPS, 2 * FPS)
    )
    assert len(set(slow.tolist())) > 15, "what is shown depends on time and motion"
    np.testing.assert_array_equal(slow[:3], fast[:6:2])
    rows = avatar.rows(slow)
    assert rows.dtype == np.int32 and rows.max() < NUM_ROWS and not np.array_equal(rows, slow)
    assert not avatar.shown_frames(range(4), FPS, Playback(), Prosody.silence(4), ()).any()


def test_moving_matte_moves_with_the_picture(still: Still) -> None:
    """The luma of the still, taken as a matte, moves like the luma itself, and its eyes do not shut."""
    indices = [int(frame_of(pitch=2.0, yaw=-2.0)[0]), int(frame_of(roll=2.0, breath=0.01, brows=0.02)[0]), _ASLEEP]
    with (
        closing(MovingStill(still.reader(), still.track)) as frames,
        closing(MovingMatte(FramesInMemory([still.planes]), still.track)) as mattes,
    ):
        pairs = list(zip(frames.read(indices), mattes.read(indices), strict=True))
    for frame, matte in pairs[:-1]:
        np.testing.assert_array_equal(frame.y, matte.y)
        assert not matte.y.flags.writeable
    assert (pairs[-1][0].y != pairs[-1][1].y).any(), "the lids are drawn into the picture only"


def test_still_frames_of_index_restores_the_values() -> None:
    rng, num = np.random.default_rng(1), 2000
    turn, gaze = rng.uniform(-1, 1, (num, 3)) * MAX_TURN, rng.uniform(-0.026, 0.026, (num, 2))
    ranges = (-0.25, 1), (-0.05, 0.063), (-0.035, 0.035), (0, 0.015), (-1, 1)
    closing, *others = (rng.uniform(low, high, num) for low, high in ranges)
    frames = StillFrames(turn, closing, gaze, *others)
    index = frames.index()
    assert index.dtype == np.int64 and index.min() >= 0 and index.max() < NUM_FRAMES
    errors = dict.fromkeys(("gaze", "brows", "inner_brows", "breath"), 0.0021)
    for name, error in {"turn": np.radians(0.03), "closing": 0.021, "smile": 0.021, **errors}.items():
        np.testing.assert_allclose(getattr(StillFrames.of(index), name), getattr(frames, name), rtol=0, atol=error)
    rows = StillFrames.of(index % NUM_ROWS)
    assert np.abs(rows.turn - frames.turn).max() < np.radians(0.41), "the row is the nearest pose of the grid"
    assert not rows.closing.any() and not rows.gaze.any() and not rows.smile.any()
    beyond = {"pitch": 30.0, "yaw": -30.0, "closing": 2.0, "brows": 1.0, "breath": -1.0, "smile": -2.0}
    far = StillFrames.of(frame_of(**beyond, gaze=(1.0, -1.0)))
    np.testing.assert_allclose(np.abs(far.turn[0, :2]), MAX_TURN[:2], atol=0.003)
    assert (far.closing[0], far.breath[0], far.smile[0]) == (1, 0, -1)
    assert far.gaze[0].tolist() == pytest.approx([0.027, -0.027]) and far.brows[0] == pytest.approx(0.063)


def test_turned_track_landmarks_turn_rigidly(still: Still) -> None:
    turned = turned_track(still.track)
    assert frame_of().tolist() == [0]
    np.testing.assert_allclose(turned.points[0], still.track.points[0], atol=1e-3)
    assert np.shares_memory(turned.head_points[0], turned.head_points[-1])
    assert not turned.head_points.flags.writeable
    with pytest.raises(ValueError, match="one frame"):
        turned_track(turned)
    assert turned.num_frames == NUM_ROWS
    rows = np.concatenate([frame_of(pitch=2.0), frame_of(yaw=2.0), frame_of(roll=2.4)]) % NUM_ROWS
    fitted = fit_head_pose(turned.points[rows])
    np.testing.assert_allclose(fitted.rotation, turned.rotation[rows], atol=2e-3)
    yaw, pitch, roll = (turned.pose_degrees[rows] - still.track.pose_degrees).T
    np.testing.assert_allclose([pitch[0], yaw[1], -roll[2]], [-2.0, 2.0, 2.4], atol=0.25)
    eyes = np.linalg.norm(turned.points[:, RIGID[20]] - turned.points[:, RIGID[23]], axis=1)
    np.testing.assert_allclose(eyes, eyes[0], rtol=1e-4)
    np.testing.assert_array_equal(turned.shape[rows], np.repeat(still.track.shape, 3, 0))
    region = FaceRegion.of(turned)
    assert region.size == FaceRegion.of(still.track).size
    assert (np.ptp(region.origins, 0) >= 2).all()


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
    middle = [np.average(np.arange(21), weights=part.sum(axis)) for axis in (0, 1)]
    return np.asarray(np.add(middle, [x - 10, y - 10]))


def test_head_warp_moves_pixels_with_landmarks(still: Still, warp: HeadWarp) -> None:
    features = [1, 33, 133, 362, 263, 105, 334, 61, 291, 152, 10]  # nose, eyes, brows, mouth, chin, forehead
    row = int(frame_of(pitch=2.0, yaw=2.0, roll=-1.6)[0])
    assert row < NUM_ROWS, "a pose of the grid"
    before, after = still.track.points[0, features, :2], turned_track(still.track).points[row, features, :2]
    assert np.linalg.norm(after - before, axis=1).max() > 2
    for start, stop in zip(before, after, strict=True):
        seen = _centre(warp.render(with_spots(still, start[None]), shown(pitch=2.0, yaw=2.0, roll=-1.6)).y, stop)
        np.testing.assert_allclose(seen, stop, atol=0.4)
    unit = float(still.track.scale[0])
    nose, hair = still.track.points[0, 1, :2], still.track.points[0, 10, :2] - [0, 0.55 * unit]
    turned = warp.render(with_spots(still, np.stack([nose, hair])), shown(yaw=2.0)).y
    moved = [float((_centre(turned, place) - place)[0]) for place in (nose, hair)]
    assert moved[0] > 2 and abs(moved[1]) < 0.7 * moved[0]


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


def test_head_warp_keeps_the_border_without_folds(still: Still, warp: HeadWarp) -> None:
    rows, columns = (np.linspace(0, 255, side).astype(np.uint8) for side in still.planes.y.shape)
    for frame in (shown(**turn) for turn in _TURNS):
        for ramp, axis in ((columns[None], 1), (rows[:, None], 0)):
            ramp = np.broadcast_to(ramp, still.planes.y.shape)
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
