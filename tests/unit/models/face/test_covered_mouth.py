"""Hands, microphones and sheets drawn over the mouth of the sample avatar."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from config import MediaLimits
from media.probe import ColourTags, probe_video
from media.reader import FrameReader
from media.yuv_frame import YuvFrame, from_rgb, to_rgb
from models.face.choice import FaceChoice
from models.face.covered_mouth import MIN_FRAMES, covered
from models.face.mouth_view import view_of
from models.track.raw_landmarks import RawLandmarks
from models.track.tracker import FaceTracker

COVERED = range(40, 58)
GREY = (60, 60, 64)

Draw = Callable[[NDArray[np.uint8], NDArray[np.float64], float, tuple[float, ...]], None]
Light = Callable[[NDArray[np.uint8], NDArray[np.float64], int], NDArray[np.uint8]]


class Clip(NamedTuple):
    frames: list[YuvFrame]
    colour: ColourTags
    raw: RawLandmarks


def track(path: Path, num_frames: int | None = None) -> Clip:
    info = probe_video(path, MediaLimits())
    with FrameReader(path, info, 2**26) as reader:
        frames = [YuvFrame(*(plane.copy() for plane in planes)) for planes in reader.read(range(info.num_frames))]
    frames = frames[:num_frames]
    raw, _ = FaceTracker(1, "cpu").track_chunk(frames, info.colour, FaceChoice(), None)
    return Clip(frames, info.colour, raw)


@pytest.fixture(scope="module")
def avatar(sample_video: Path) -> Clip:
    return track(sample_video)


def hand(rgb: NDArray[np.uint8], mouth: NDArray[np.float64], unit: float, skin: tuple[float, ...]) -> None:
    """Fingers of the cheeks' own colour."""
    for finger in range(4):
        x, y = (mouth + [-0.3 * unit, (finger - 1.1) * 0.17 * unit]).astype(int)
        cv2.line(rgb, (x, y), (x + int(1.5 * unit), y + 6), skin, int(0.15 * unit))


def microphone(rgb: NDArray[np.uint8], mouth: NDArray[np.float64], unit: float, skin: tuple[float, ...]) -> None:
    x, y = (mouth + [0.05 * unit, 0.1 * unit]).astype(int)
    cv2.line(rgb, (x, y), (x + int(0.4 * unit), y + int(unit)), GREY, int(0.15 * unit))
    cv2.circle(rgb, (x, y), int(0.24 * unit), GREY, -1)


def sheet(rgb: NDArray[np.uint8], mouth: NDArray[np.float64], unit: float, skin: tuple[float, ...]) -> None:
    x, y = mouth.astype(int)
    cv2.rectangle(rgb, (x - int(0.6 * unit), y), (x + int(0.6 * unit), y + int(1.2 * unit)), (225, 225, 220), -1)


def side_light(rgb: NDArray[np.uint8], mouth: NDArray[np.float64], frame: int) -> NDArray[np.uint8]:
    """A lamp at one side, four times as bright there as at the other; the border of its light wanders."""
    across = (np.arange(rgb.shape[1]) - mouth[0]) / rgb.shape[1] - 0.2 * np.sin(2 * np.pi * frame / 55)
    light = 0.3 + 0.95 / (1 + np.exp(-across / 0.08))
    return np.asarray((rgb * light[None, :, None]).clip(0, 255), np.uint8)


def dim_light(rgb: NDArray[np.uint8], mouth: NDArray[np.float64], frame: int) -> NDArray[np.uint8]:
    """An eighth of the light."""
    noise = np.random.default_rng(frame).normal(0, 2, rgb.shape)
    return np.asarray((rgb * 0.125 + noise).clip(0, 255), np.uint8)


def relight(clip: Clip, light: Light) -> Clip:
    """The clip in another light; its landmarks stay."""
    frames = []
    for number, (planes, points) in enumerate(zip(clip.frames, clip.raw.points, strict=True)):
        mouth = points[[61, 291], :2].mean(0).astype(float)
        frames.append(from_rgb(light(to_rgb(planes, clip.colour), mouth, number), clip.colour))
    views = np.stack([view_of(planes, points) for planes, points in zip(frames, clip.raw.points, strict=True)])
    return Clip(frames, clip.colour, clip.raw._replace(views=views))


def cover(clip: Clip, draw: Draw) -> NDArray[np.uint8]:
    """Views of the clip with something drawn over the mouth in some frames."""
    assert clip.raw.views is not None
    views = clip.raw.views.copy()
    for frame in COVERED:
        points = clip.raw.points[frame]
        rgb = to_rgb(clip.frames[frame], clip.colour)
        cheeks = np.rint(points[[205, 425, 50, 280], :2]).astype(int)
        skin = tuple(float(value) for value in np.median([rgb[y, x] for x, y in cheeks], 0))
        unit = float(np.linalg.norm(points[33, :2] - points[263, :2]))
        draw(rgb, points[[61, 291, 13, 14], :2].mean(0).astype(float), unit, skin)
        views[frame] = view_of(from_rgb(rgb, clip.colour), points)
    return views


def test_an_uncovered_mouth_is_never_covered(avatar: Clip) -> None:
    raw = avatar.raw
    assert raw.views is not None
    assert not covered(raw.views, raw.points, raw.present, np.zeros(len(raw.present), np.int32)).any()


@pytest.mark.parametrize("draw", [hand, microphone, sheet])
def test_things_before_the_mouth_are_seen(avatar: Clip, draw: Draw) -> None:
    raw = avatar.raw
    found = covered(cover(avatar, draw), raw.points, raw.present, np.zeros(len(raw.present), np.int32))
    assert found[list(COVERED)].all()
    assert np.flatnonzero(found).min() >= COVERED.start - 2
    assert np.flatnonzero(found).max() < COVERED.stop + 2


def test_light_that_wanders_over_the_face_covers_nothing(avatar: Clip) -> None:
    clip = relight(avatar, side_light)
    assert clip.raw.views is not None
    one_shot = np.zeros(len(clip.frames), np.int32)
    assert not covered(clip.raw.views, clip.raw.points, clip.raw.present, one_shot).any()
    found = covered(cover(clip, microphone), clip.raw.points, clip.raw.present, one_shot)
    assert found[list(COVERED)].all()


@pytest.mark.parametrize("draw", [hand, microphone])
def test_things_before_the_mouth_are_seen_in_dim_light(avatar: Clip, draw: Draw) -> None:
    clip = relight(avatar, dim_light)
    assert clip.raw.views is not None
    one_shot = np.zeros(len(clip.frames), np.int32)
    assert not covered(clip.raw.views, clip.raw.points, clip.raw.present, one_shot).any()
    dimmed = cover(avatar, lambda rgb, mouth, unit, skin: _draw_dimly(draw, rgb, mouth, unit, skin))
    views = clip.raw.views.copy()
    views[list(COVERED)] = dimmed[list(COVERED)]
    assert covered(views, clip.raw.points, clip.raw.present, one_shot)[list(COVERED)].all()


def _draw_dimly(
    draw: Draw, rgb: NDArray[np.uint8], mouth: NDArray[np.float64], unit: float, skin: tuple[float, ...]
) -> None:
    draw(rgb, mouth, unit, skin)
    rgb[:] = dim_light(rgb, mouth, 0)


def test_a_single_flash_is_seen(avatar: Clip) -> None:
    raw, flash = avatar.raw, 40
    assert raw.views is not None
    rgb = to_rgb(avatar.frames[flash], avatar.colour)
    white = from_rgb((rgb * 0.3 + 178).astype(np.uint8), avatar.colour)
    views = raw.views.copy()
    views[flash] = view_of(white, raw.points[flash])
    found = covered(views, raw.points, raw.present, np.zeros(len(raw.present), np.int32))
    assert np.flatnonzero(found).tolist() == [flash]


def test_absent_and_few_frames_are_not_judged(avatar: Clip) -> None:
    raw, views = avatar.raw, cover(avatar, sheet)
    one_shot = np.zeros(len(raw.present), np.int32)
    present = raw.present.copy()
    present[45:50] = False
    assert not covered(views, raw.points, present, one_shot)[45:50].any()
    present[:] = False
    present[COVERED.start : COVERED.start + MIN_FRAMES - 1] = True
    assert not covered(views, raw.points, present, one_shot).any()


@pytest.mark.parametrize("number", range(1, 6))
def test_talkers_with_open_mouths_teeth_and_beards_are_not_covered(shared_clips: Path, number: int) -> None:
    clip = track(shared_clips / f"grid_talker{number}.mp4")
    assert clip.raw.views is not None
    one_shot = np.zeros(len(clip.frames), np.int32)
    assert not covered(clip.raw.views, clip.raw.points, clip.raw.present, one_shot).any()
    for draw in (hand, microphone):
        assert covered(cover(clip, draw), clip.raw.points, clip.raw.present, one_shot)[list(COVERED)].all()
