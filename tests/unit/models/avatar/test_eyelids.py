import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.material import FramesInMemory
from lipwright.media.kept_squares import SquareReader
from lipwright.media.yuv_frame import YuvFrame
from models.avatar.blinks import blinks
from models.avatar.eye_white import eye_white, measure_eye_white
from models.avatar.eyelids import Eyelids, EyeState
from models.geometry.head_frame import EYES, LID_CREASES
from models.speech.prosody import Prosody
from tests.unit.models.avatar.frames import with_spots
from tests.unit.models.still import Still

Points = NDArray[np.float32]
_UPPER, _LOWER = (159, 386), (145, 374)
_BROWS = (105, 334)


@pytest.fixture(params=[0, 1])
def eye(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def _copy(planes: YuvFrame) -> YuvFrame:
    return YuvFrame(*(plane.copy() for plane in planes))


def _drawn(still: Still, state: EyeState, planes: YuvFrame | None = None, points: Points | None = None) -> YuvFrame:
    source = still.planes if planes is None else planes
    target = _copy(source)
    Eyelids(source, still.track.points[0] if points is None else points, _unit(still)).draw(target, state)
    return target


def _unit(still: Still) -> float:
    return float(still.track.scale[0])


def _eye(still: Still, planes: YuvFrame, eye: int) -> NDArray[np.uint8]:
    """Luma of the iris: a square as high as half of the opening."""
    upper, lower = (still.track.points[0, ids[eye], :2] for ids in (_UPPER, _LOWER))
    (x, y), reach = (upper + lower) / 2, (lower - upper)[1] / 4
    return planes.y[round(y - reach) : round(y + reach) + 1, round(x - reach) : round(x + reach) + 1]


def test_eyelids_closed_cover_the_iris(still: Still, eye: int) -> None:
    opened, closed = _eye(still, still.planes, eye), _eye(still, _drawn(still, EyeState(1.0)), eye)
    assert opened.min() < 40  # the pupil
    assert closed.min() > 85
    assert np.abs(np.diff(closed.astype(int), axis=1)).max() < 0.4 * np.abs(np.diff(opened.astype(int), axis=1)).max()


def test_eyelids_half_closed_cover_the_upper_part(still: Still, eye: int) -> None:
    (column, top), (_, bottom) = (np.rint(still.track.points[0, ids[eye], :2]).astype(int) for ids in (_UPPER, _LOWER))
    frames = still.planes, _drawn(still, EyeState(0.5)), _drawn(still, EyeState(1.0))
    own, half, whole = (frame.y[top:bottom, column].astype(int) for frame in frames)
    changed, third = np.abs(half - own), (bottom - top) // 3
    assert changed[:third].mean() > 1.5 * changed[-third:].mean()
    assert (whole != half).any()


def test_eyelids_closed_soften_the_crease(still: Still, eye: int) -> None:
    line = np.rint(still.track.points[0, LID_CREASES[eye][2:-2], :2]).astype(np.int32) - [0, 2]
    crease = cv2.polylines(np.zeros_like(still.planes.y), [line], False, 50, thickness=1)
    marked = still.planes._replace(y=np.asarray(cv2.subtract(still.planes.y, crease), np.uint8))
    x, y = line[len(line) // 2]
    depths = {}
    for closing in (0.1, 1.0):
        plain, dark = (_drawn(still, EyeState(closing), planes).y.astype(int) for planes in (still.planes, marked))
        change = (plain - dark)[y - 2 : y + 6, x]
        depths[closing] = change[:4].max() - change[-2:].mean()
    assert depths[0.1] > 35
    assert depths[1.0] < 0.5 * depths[0.1]


def test_eyelids_closed_have_a_tapered_lash_line(still: Still, eye: int) -> None:
    luma, unit = _drawn(still, EyeState(1.0)).y, _unit(still)
    x, y = np.rint(still.track.points[0, _LOWER[eye], :2]).astype(int)
    reach = round(0.12 * unit)
    column = luma[y - reach : y + reach, x - 3 : x + 4].mean(1)
    middle = int(column.argmin())
    depth = column[:middle].max() - column[middle]
    assert abs(middle - reach) < 0.03 * unit, "it lies on the lower lid"
    assert column[:middle].max() - column[middle + round(0.03 * unit)] > 0.4 * depth, "its lower edge is soft"
    x, y = np.rint(still.track.points[0, (33, 263)[eye], :2]).astype(int)
    above = luma[y - round(0.12 * unit) : y - round(0.04 * unit), x - 4 : x + 5]
    assert above.min() > 0.6 * np.median(above[0]), "no lashes of the open eye beside it"
    tail = luma[y - round(0.03 * unit) : y + round(0.03 * unit), [x - 9, x + 9]].min(0)
    assert abs(int(tail[0]) - int(tail[1])) > 0.3 * depth, "it ends beyond the corner"


def _height(luma: NDArray[np.uint8], place: NDArray[np.floating]) -> float:
    """The row of the spot near a place."""
    x, y = (round(float(v)) for v in place)
    part = luma[y - 9 : y + 10, x - 9 : x + 10].astype(float).sum(1)
    return float(y - 9 + np.average(np.arange(len(part)), weights=part))


def test_eyelids_follow_gaze_and_smile(still: Still, eye: int) -> None:
    upper, lower = (still.track.points[0, ids[eye], :2] for ids in (_UPPER, _LOWER))
    states = {"down": EyeState(down=0.026), "up": EyeState(down=-0.026), "smile": EyeState(smile=1)}
    states["wide"], moved = EyeState(-0.25), {}
    for name, place in (("upper", upper), ("middle", (upper + lower) / 2), ("lower", lower)):
        spots = with_spots(still, place[None])
        for state, values in states.items():
            change = _height(_drawn(still, values, spots).y, place) - _height(spots.y, place)
            moved[name, state] = change / _unit(still)
    for state, sign in (("down", 1), ("up", -1)):
        assert sign * moved["middle", state] > sign * moved["upper", state] > 0.005
        assert 0.002 < sign * moved["lower", state] < sign * moved["middle", state]
    assert moved["upper", "wide"] < -0.01 and abs(moved["lower", "wide"]) < 0.006
    assert moved["lower", "smile"] < -0.005 < moved["middle", "smile"] < moved["upper", "smile"] + 0.002


@pytest.mark.parametrize(
    "state", [EyeState(1.0), EyeState(down=0.026, smile=1.0), EyeState(down=-0.026), EyeState(-0.25)]
)
def test_eyelids_change_only_the_eyes(still: Still, state: EyeState) -> None:
    changed, points = _drawn(still, state).y != still.planes.y, still.track.points[0]
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    brow, cheek = points[list(_BROWS), 1].min(), points[list(_LOWER), 1].max() + 0.25 * _unit(still)
    assert brow < rows[0] and rows[-1] < cheek
    left, right = points[[33, 263], 0] + np.array([-0.16, 0.16]) * _unit(still)
    assert left < columns[0] and columns[-1] < right
    target, lids = _copy(still.planes), Eyelids(still.planes, still.track.points[0], _unit(still))
    for each in (state, EyeState(1.0), EyeState()):
        lids.draw(target, each)
    assert all(np.array_equal(plane, own) for plane, own in zip(target, still.planes, strict=True)), "opened again"


def test_eyelids_of_closed_or_outside_eyes_are_not_drawn(still: Still) -> None:
    points = still.track.points[0].copy()
    upper, lower = (246, 161, 160, 159, 158, 157, 173), (7, 163, 144, 145, 153, 154, 155)
    points[list(upper)] = points[list(lower)]
    drawn = _drawn(still, EyeState(1.0), points=points)
    np.testing.assert_array_equal(_eye(still, drawn, 0), _eye(still, still.planes, 0))
    assert (_eye(still, drawn, 1) != _eye(still, still.planes, 1)).mean() > 0.9
    outside = still.track.points[0] - [still.track.points[0, 133, 0] + 60, 0, 0]
    drawn = _drawn(still, EyeState(1.0), points=outside)
    width = float(still.track.points[0, 263, 0] - still.track.points[0, 362, 0])
    x = round(float(outside[263, 0]) + 0.3 * width) + 2
    np.testing.assert_array_equal(drawn.y[:, x:], still.planes.y[:, x:])


def _shaded_and_rough(still: Still) -> YuvFrame:
    """The picture with shade between brows and eyes, and grain all over."""
    luma = still.planes.y + np.random.default_rng(3).normal(0, 4, still.planes.y.shape)
    for eye in (0, 1):
        x, y = still.track.points[0, _UPPER[eye], :2]
        reach = 0.3 * _unit(still)
        luma[round(y - reach * 0.6) : round(y), round(x - reach) : round(x + reach)] -= 40
    return still.planes._replace(y=luma.clip(0, 255).astype(np.uint8))


def test_eyelids_have_light_and_grain_of_the_skin_below(still: Still, eye: int) -> None:
    picture = _shaded_and_rough(still)
    lid = _eye(still, _drawn(still, EyeState(1.0), picture), eye).astype(float)
    lid = lid[: len(lid) // 2]  # above the lashes
    x, y = still.track.points[0, _LOWER[eye], :2]
    side = len(lid)
    below = round(float(y) + 0.08 * _unit(still))
    skin = picture.y[below - side : below + side, round(x) - side : round(x) + side].astype(float)
    assert lid.mean() > skin.mean() - 50  # stretched down as it is, the shaded skin is 70 levels darker
    assert np.diff(lid, axis=1).std() > 0.4 * np.diff(skin, axis=1).std()


def _with_lids(still: Still, levels: tuple[float, float, float]) -> YuvFrame:
    """The picture with the skin between lashes and brows changed by levels of Y, U and V."""
    changed = []
    for plane, level, step in zip(still.planes, levels, (1, 2, 2), strict=True):
        part = np.zeros(plane.shape, np.float32)
        for eye in (0, 1):
            ids = ([33, 246, 161, 160, 159, 158, 157, 173, 133], [362, 398, 384, 385, 386, 387, 388, 466, 263])[eye]
            upper = still.track.points[0, ids, :2]
            above = upper[::-1] - [0, 0.14 * _unit(still)]
            cv2.fillPoly(part, [np.rint(np.concatenate([upper, above]) / step).astype(np.int32)], 1.0)
        part = np.asarray(cv2.GaussianBlur(part, (0, 0), 2 / step), np.float32)
        changed.append(np.rint(plane + level * part).clip(0, 255).astype(np.uint8))
    return YuvFrame(*changed)


def test_eyelids_have_the_colour_of_the_upper_lid(still: Still, eye: int) -> None:
    upper, lower = (still.track.points[0, ids[eye], :2] for ids in (_UPPER, _LOWER))
    x, y = np.rint((0.6 * upper + 0.4 * lower) / 2).astype(int)
    lids = []
    for levels in ((0, 0, 0), (0, 30, -20)):
        target = _drawn(still, EyeState(1.0), _with_lids(still, levels))
        lids.append([plane[y - 1 : y + 2, x - 3 : x + 4].mean() for plane in target[1:]])
    np.testing.assert_allclose(np.subtract(lids[1], lids[0]), [30, -20], atol=7)


def test_eyelids_lashes_have_no_highlights(still: Still, eye: int) -> None:
    x, y = np.rint(still.track.points[0, _UPPER[eye], :2]).astype(int)
    picture = _copy(still.planes)
    picture.y[y - 5 : y + 1, x - 1 : x + 2] = 255
    target = _drawn(still, EyeState(1.0), picture)
    bottom = round(float(still.track.points[0, _LOWER[eye], 1]))
    skin = target.y[bottom + 8 : bottom + 14, x - 6 : x + 7].max()
    assert target.y[y - 2 : bottom, x - 6 : x + 7].max() < skin + 25


@pytest.mark.parametrize("fps", [10, 25, 60])
def test_blinks_are_irregular_and_close_the_eyes(fps: int) -> None:
    seconds = np.arange(120 * fps) / fps
    closing, other = (blinks(seed, seconds, fps, Prosody.silence(len(seconds))) for seed in (5, 6))
    starts, other_starts = (np.flatnonzero(np.diff((each == 1).astype(int)) > 0) / fps for each in (closing, other))
    assert 13 * 2 < len(starts) < 21 * 2, "17 a minute"
    pauses = np.diff(starts)
    assert pauses.min() > 0.6 and pauses.max() > 4 and pauses.std() > 0.8
    rises = np.flatnonzero((closing[1:] > 0) & (closing[:-1] == 0)) + 1
    assert all(closing[start : start + fps // 2].max() == 1 for start in rises)
    steps = np.diff(closing)
    assert fps < 60 or (steps < 0).sum() > 1.4 * (steps > 0).sum(), "they close faster than they open"
    assert other_starts.tolist() != starts.tolist(), "with another seed they start at other times"


def test_blinks_follow_most_phrase_ends() -> None:
    seconds = np.arange(200 * 25) / 25
    ends = np.arange(200, 10000, 200)  # every four seconds
    silence = Prosody.silence(len(seconds))
    with_ends, without = (blinks(5, seconds, 25, prosody) for prosody in (silence._replace(ends=ends), silence))
    blinked, by_chance = (
        np.mean([closing[end // 2 : end // 2 + 20].max() == 1 for end in ends]) for closing in (with_ends, without)
    )
    assert blinked > 0.6 > 0.45 > by_chance


def _painted(still: Still, *colours: tuple[int, int, int]) -> YuvFrame:
    """Both eyes filled with one (Y, U, V) each, a dark iris in the middle."""
    planes, points = _copy(still.planes), still.track.points[0, :, :2]
    for (upper, lower), colour in zip(EYES, colours, strict=True):
        outline = points[[*upper, *lower[::-1]]]
        for plane, value, step in zip(planes, colour, (1, 2, 2), strict=True):
            place = np.rint((outline + 0.5) / step - 0.5).astype(np.int32)
            cv2.fillPoly(plane, [place], value)
            cv2.polylines(plane, [place], True, value, thickness=5 - step)
        middle = np.rint(outline.mean(0)).astype(int)
        height = np.ptp(points[list(upper[2:-2]) + list(lower[2:-2]), 1])
        cv2.circle(planes.y, [int(v) for v in middle], round(0.4 * height), 20, -1)
    return planes


def _skin(still: Still) -> NDArray[np.float64]:
    """Y, U, V around the cheeks."""
    points = np.rint(still.track.points[0, [205, 425, 50, 280], :2]).astype(int)
    luma = np.median([still.planes.y[y, x] for x, y in points])
    chroma = [np.median([plane[y // 2, x // 2] for x, y in points]) for plane in still.planes[1:]]
    return np.array([luma, *chroma])


def test_eye_white_measures_the_white_of_the_darker_eye(still: Still) -> None:
    white, skin = eye_white(_painted(still, *[(140, 120, 135)] * 2), still.track.points[0]), _skin(still)
    assert white.light == pytest.approx(140 / skin[0], rel=0.05)
    assert white.chroma == pytest.approx([120 - skin[1], 135 - skin[2]], abs=3)
    for colours in ([(170, 125, 132), (110, 120, 135)], [(110, 120, 135), (170, 125, 132)]):
        white = eye_white(_painted(still, *colours), still.track.points[0])
        assert white.light == pytest.approx(110 / _skin(still)[0], rel=0.05)


def test_eye_white_of_closed_eyes_is_the_default(still: Still) -> None:
    shut = _drawn(still, EyeState(1.0))
    points = still.track.points[0].copy()
    for upper, lower in EYES:
        points[list(upper)] = points[list(lower)]
    usual, own = eye_white(shut, points), eye_white(still.planes, still.track.points[0])
    assert 0.6 < usual.light < 0.8 and usual.light != own.light
    # Whiter than skin: nearer to grey.
    assert (np.abs(_skin(still)[1:] + usual.chroma - 128) < np.abs(_skin(still)[1:] - 128)).all()


@pytest.mark.parametrize(("luma", "light"), [(5, 0.71), (255, 1.1)])
def test_measure_eye_white_dark_or_glaring_eyes_are_bounded(still: Still, luma: int, light: float) -> None:
    planes = _painted(still, (luma, 128, 128), (luma, 128, 128))
    planes.y[:] = np.where(planes.y == luma, luma, planes.y // 2)
    white = measure_eye_white(still.track, 25.0, SquareReader(FramesInMemory([planes])))
    assert white.light == pytest.approx(light, abs=0.01)
