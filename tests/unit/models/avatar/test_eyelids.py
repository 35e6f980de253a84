"""Eyelids that close over the eyes of a picture."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from media.yuv_frame import YuvFrame
from models.avatar.blinks import blinks
from models.avatar.eyelids import Eyelids, EyeState
from models.speech.prosody import Prosody
from tests.unit.models.avatar.frames import with_spots
from tests.unit.models.still import Still

_UPPER, _LOWER = (159, 386), (145, 374)
_BROWS = (105, 334)


def _copy(planes: YuvFrame) -> YuvFrame:
    return YuvFrame(*(plane.copy() for plane in planes))


def _drawn(
    still: Still, closing: float, points: NDArray[np.float32] | None = None, down: float = 0, smile: float = 0
) -> YuvFrame:
    target, state = _copy(still.planes), EyeState(closing, 0, down, smile)
    Eyelids(still.planes, still.track.points[0] if points is None else points, _unit(still)).draw(target, state)
    return target


def _unit(still: Still) -> float:
    return float(still.track.scale[0])


def _eye(still: Still, planes: YuvFrame, eye: int) -> NDArray[np.uint8]:
    """Luma of the iris: a square as high as half of the opening."""
    upper, lower = (still.track.points[0, ids[eye], :2] for ids in (_UPPER, _LOWER))
    (x, y), reach = (upper + lower) / 2, (lower - upper)[1] / 4
    return planes.y[round(y - reach) : round(y + reach) + 1, round(x - reach) : round(x + reach) + 1]


@pytest.mark.parametrize("eye", [0, 1])
def test_eyelids_closed_cover_the_iris(still: Still, eye: int) -> None:
    opened, closed = _eye(still, still.planes, eye), _eye(still, _drawn(still, 1.0), eye)
    assert opened.min() < 40  # the pupil
    assert closed.min() > 85
    assert np.abs(np.diff(closed.astype(int), axis=1)).max() < 0.4 * np.abs(np.diff(opened.astype(int), axis=1)).max()


def test_eyelids_half_closed_cover_the_upper_part(still: Still) -> None:
    half, whole = _drawn(still, 0.5), _drawn(still, 1.0)
    for eye in (0, 1):
        upper, lower = (still.track.points[0, ids[eye], :2] for ids in (_UPPER, _LOWER))
        column = round(float(upper[0]))
        rows = slice(round(float(upper[1])), round(float(lower[1])))
        changed = np.abs(half.y[rows, column].astype(int) - still.planes.y[rows, column]) > 3
        third = (rows.stop - rows.start) // 3
        assert changed[:third].mean() > changed[-third:].mean()
        assert (whole.y[rows, column] != half.y[rows, column]).any()


def _height(luma: NDArray[np.uint8], place: NDArray[np.floating]) -> float:
    """The row of the spot near a place."""
    x, y = (round(float(v)) for v in place)
    part = luma[y - 9 : y + 10, x - 9 : x + 10].astype(float).sum(1)
    return float(y - 9 + (part * np.arange(len(part))).sum() / part.sum())


@pytest.mark.parametrize("eye", [0, 1])
def test_eyelids_follow_gaze_and_smile(still: Still, eye: int) -> None:
    upper, lower = (still.track.points[0, ids[eye], :2] for ids in (_UPPER, _LOWER))
    moved = {}
    for name, place in (("upper", upper), ("middle", (upper + lower) / 2), ("lower", lower)):
        spotted = replace(still, planes=with_spots(still, place[None]))
        rest = _height(spotted.planes.y, place)
        for state, closing, down, smile in (
            ("down", 0, 0.026, 0),
            ("up", 0, -0.026, 0),
            ("smile", 0, 0, 1),
            ("wide", -0.25, 0, 0),
        ):
            drawn = _drawn(spotted, closing, down=down, smile=smile)
            moved[name, state] = (_height(drawn.y, place) - rest) / _unit(still)
    for state, sign in (("down", 1), ("up", -1)):
        assert sign * moved["middle", state] > sign * moved["upper", state] > 0.005
        assert 0.002 < sign * moved["lower", state] < sign * moved["middle", state]
    assert moved["upper", "wide"] < -0.01 and abs(moved["lower", "wide"]) < 0.006
    assert moved["lower", "smile"] < -0.005 < moved["middle", "smile"] < moved["upper", "smile"] + 0.002


@pytest.mark.parametrize(
    "state", [EyeState(1.0), EyeState(down=0.026, smile=1.0), EyeState(down=-0.026), EyeState(-0.25)]
)
def test_eyelids_change_only_the_eyes(still: Still, state: EyeState) -> None:
    drawn = _drawn(still, state.closing, down=state.down, smile=state.smile)
    changed = np.flatnonzero((drawn.y != still.planes.y).any(1))
    brow = still.track.points[0, list(_BROWS), 1].min()
    cheek = still.track.points[0, list(_LOWER), 1].max() + 0.25 * _unit(still)
    assert brow < changed[0] and changed[-1] < cheek


def test_eyelids_reopened_equal_the_picture(still: Still) -> None:
    target = _copy(still.planes)
    lids = Eyelids(still.planes, still.track.points[0], _unit(still))
    for closing in (0.4, 1.0, 0.0):
        lids.draw(target, EyeState(closing))
    for plane, own in zip(target, still.planes, strict=True):
        np.testing.assert_array_equal(plane, own)


def test_eyelids_of_a_closed_eye_are_not_drawn(still: Still) -> None:
    points = still.track.points[0].copy()
    upper, lower = (246, 161, 160, 159, 158, 157, 173), (7, 163, 144, 145, 153, 154, 155)
    points[list(upper)] = points[list(lower)]
    drawn = _drawn(still, 1.0, points)
    np.testing.assert_array_equal(_eye(still, drawn, 0), _eye(still, still.planes, 0))
    assert (_eye(still, drawn, 1) != _eye(still, still.planes, 1)).mean() > 0.9


def test_eyelids_keep_the_corners_of_the_eyes(still: Still) -> None:
    closed = _drawn(still, 1.0)
    for corner in (33, 133, 362, 263):
        x, y = (round(float(value)) for value in still.track.points[0, corner, :2])
        side = -2 if corner in (33, 362) else 2
        near = closed.y[y - 12 : y + 12, x + side].astype(int) - still.planes.y[y - 12 : y + 12, x + side]
        assert np.abs(near).max() < 12


def test_eyelids_outside_the_picture_are_not_drawn(still: Still) -> None:
    outside = still.track.points[0] - [still.track.points[0, 133, 0] + 60, 0, 0]
    drawn = _drawn(still, 1.0, outside)
    x = round(float(outside[[33, 133, 362, 263], 0].max())) + 1
    np.testing.assert_array_equal(drawn.y[:, x:], still.planes.y[:, x:])


def _shaded_and_rough(still: Still) -> YuvFrame:
    """The picture with shade between brows and eyes, and grain all over."""
    luma = still.planes.y + np.random.default_rng(3).normal(0, 4, still.planes.y.shape)
    for eye in (0, 1):
        x, y = still.track.points[0, _UPPER[eye], :2]
        reach = 0.3 * _unit(still)
        luma[round(y - reach * 0.6) : round(y), round(x - reach) : round(x + reach)] -= 40
    return still.planes._replace(y=luma.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("eye", [0, 1])
def test_eyelids_have_light_and_grain_of_the_skin_below(still: Still, eye: int) -> None:
    picture = _shaded_and_rough(still)
    target = _copy(picture)
    Eyelids(picture, still.track.points[0], _unit(still)).draw(target, EyeState(1.0))
    lid = _eye(still, target, eye).astype(float)
    lid = lid[: len(lid) // 2]  # above the lashes
    x, y = still.track.points[0, _LOWER[eye], :2]
    side = len(lid)
    below = round(float(y) + 0.08 * _unit(still))
    skin = picture.y[below - side : below + side, round(x) - side : round(x) + side].astype(float)
    assert lid.mean() > skin.mean() - 40  # stretched down as it is, the shaded skin is 70 levels darker
    assert np.diff(lid, axis=1).std() > 0.4 * np.diff(skin, axis=1).std()


def _with_lids(still: Still, levels: tuple[float, float, float]) -> YuvFrame:
    """The picture with the skin between lashes and brows changed by levels of Y, U and V."""
    changed = []
    for plane, level, step in zip(still.planes, levels, (1, 2, 2), strict=True):
        part = np.zeros(plane.shape, np.float32)
        for eye in (0, 1):
            upper = still.track.points[0, [33, 246, 161, 160, 159, 158, 157, 173, 133], :2]
            if eye:
                upper = still.track.points[0, [362, 398, 384, 385, 386, 387, 388, 466, 263], :2]
            above = upper[::-1] - [0, 0.14 * _unit(still)]
            cv2.fillPoly(part, [np.rint(np.concatenate([upper, above]) / step).astype(np.int32)], 1.0)
        part = np.asarray(cv2.GaussianBlur(part, (0, 0), 2 / step), np.float32)
        changed.append(np.rint(plane + level * part).clip(0, 255).astype(np.uint8))
    return YuvFrame(*changed)


@pytest.mark.parametrize("eye", [0, 1])
def test_eyelids_have_the_colour_of_the_upper_lid(still: Still, eye: int) -> None:
    upper, lower = (still.track.points[0, ids[eye], :2] for ids in (_UPPER, _LOWER))
    x, y = np.rint((0.6 * upper + 0.4 * lower) / 2).astype(int)
    lids = []
    for levels in ((0, 0, 0), (0, 30, -20)):
        picture = _with_lids(still, levels)
        target = _copy(picture)
        Eyelids(picture, still.track.points[0], _unit(still)).draw(target, EyeState(1.0))
        lids.append([plane[y - 1 : y + 2, x - 3 : x + 4].mean() for plane in target[1:]])
    np.testing.assert_allclose(np.subtract(lids[1], lids[0]), [30, -20], atol=7)


@pytest.mark.parametrize("eye", [0, 1])
def test_eyelids_lashes_have_no_highlights(still: Still, eye: int) -> None:
    x, y = np.rint(still.track.points[0, _UPPER[eye], :2]).astype(int)
    picture = _copy(still.planes)
    picture.y[y - 5 : y + 1, x - 1 : x + 2] = 255
    target = _copy(picture)
    Eyelids(picture, still.track.points[0], _unit(still)).draw(target, EyeState(1.0))
    bottom = round(float(still.track.points[0, _LOWER[eye], 1]))
    skin = target.y[bottom + 8 : bottom + 14, x - 6 : x + 7].max()
    assert target.y[y - 2 : bottom, x - 6 : x + 7].max() < skin + 25


def _starts(closing: NDArray[np.float64], fps: float) -> NDArray[np.float64]:
    shut = closing == 1
    return np.flatnonzero(shut[1:] & ~shut[:-1]) / fps


@pytest.mark.parametrize("fps", [10, 25, 60])
def test_blinks_are_irregular_and_close_the_eyes(fps: int) -> None:
    seconds = np.arange(120 * fps) / fps
    closing = blinks(5, seconds, fps, Prosody.silence(len(seconds)))
    starts = _starts(closing, fps)
    assert 13 * 2 < len(starts) < 21 * 2, "17 a minute"
    pauses = np.diff(starts)
    assert pauses.min() > 0.6 and pauses.max() > 4 and pauses.std() > 0.8
    rises = np.flatnonzero((closing[1:] > 0) & (closing[:-1] == 0)) + 1
    assert all(closing[start : start + fps // 2].max() == 1 for start in rises)


def test_blinks_close_faster_than_open() -> None:
    seconds = np.arange(6000) / 100
    closing = blinks(5, seconds, 100, Prosody.silence(len(seconds)))
    steps = np.diff(closing)
    assert (steps < 0).sum() > 1.4 * (steps > 0).sum()


def test_blinks_follow_most_phrase_ends() -> None:
    seconds = np.arange(200 * 25) / 25
    ends = np.arange(200, 10000, 200)  # every four seconds
    with_ends = blinks(5, seconds, 25, Prosody.silence(len(seconds))._replace(ends=ends))
    blinked = [with_ends[round(end / 2) : round(end / 2) + 20].max() == 1 for end in ends]
    without = blinks(5, seconds, 25, Prosody.silence(len(seconds)))
    by_chance = [without[round(end / 2) : round(end / 2) + 20].max() == 1 for end in ends]
    assert np.mean(blinked) > 0.6 > 0.45 > np.mean(by_chance)


def test_blinks_of_another_seed_start_at_other_times() -> None:
    seconds = np.arange(1500) / 25
    silence = Prosody.silence(len(seconds))
    first, second = (_starts(blinks(seed, seconds, 25, silence), 25).tolist() for seed in (1, 2))
    assert first != second
