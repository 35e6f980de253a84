from __future__ import annotations

from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.config import MediaLimits
from lipwright.errors import StoredFileError
from lipwright.media.matte import Foreground, MatteFrames, MatteWriter, ScreenColour, join_mattes, matte_info
from lipwright.media.probe import ColourTags
from lipwright.media.reader import FrameReader
from lipwright.media.yuv_frame import Patch, YuvFrame, cut, from_rgb, paste_back, to_rgb
from tests.unit.media.clips import flat_planes, info_of, planes_of


def _random(height: int, width: int, seed: int = 0) -> YuvFrame:
    rng = np.random.default_rng(seed)
    shapes = ((height, width), (height // 2, width // 2), (height // 2, width // 2))
    return YuvFrame(*(rng.integers(0, 256, shape, np.uint8) for shape in shapes))


def test_cut_copies_and_repeats_the_edge_outside_the_frame() -> None:
    frame = _random(32, 48)
    region = cut(frame, -8, 20, 24)
    expected = np.pad(frame.y, 24, mode="edge")[24 + 20 : 24 + 44, 24 - 8 : 24 + 16]
    assert np.array_equal(region.y, expected)
    assert region.u.shape == region.v.shape == (12, 12)
    cut(frame, 0, 0, 16).y[:] = 0
    assert frame.y.any()
    with pytest.raises(ValueError, match="x = 3"):
        cut(frame, 3, 0, 16)
    with pytest.raises(ValueError, match=r"patch\.y = 1"):
        paste_back(frame, Patch(0, 1, region))


@pytest.mark.parametrize(("x", "y"), [(8, 4), (-10, -6), (40, 20), (200, 200), (-100, 0)])
def test_paste_back_changes_only_the_patch(x: int, y: int) -> None:
    frame, before, patch = _random(32, 48), _random(32, 48), _random(16, 16, seed=1)
    paste_back(frame, Patch(x, y, patch))
    for plane, old, new, half in zip(frame, before, patch, (1, 2, 2), strict=True):
        left, top, side = x // half, y // half, 16 // half
        rows, columns = np.mgrid[: plane.shape[0], : plane.shape[1]]
        inside = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
        assert np.array_equal(plane[~inside], old[~inside])
        assert np.array_equal(plane[inside], new[rows[inside] - top, columns[inside] - left])


@pytest.mark.parametrize(
    ("matrix", "full_range", "red_luma"),
    [(1, False, 63), (6, False, 81), (2, False, 81), (9, False, 74), (1, True, 54), (5, True, 76)],
)
def test_from_rgb_red_has_the_luma_of_its_matrix(matrix: int, full_range: bool, red_luma: int) -> None:
    # Kr x 219 + 16 in limited range, Kr x 255 in full range; Kr: H.273, table 4.
    colour = ColourTags(matrix, full_range, 2, 2)
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 255
    planes = from_rgb(red, colour)
    assert abs(int(planes.y[16, 16]) - red_luma) <= 1
    assert np.abs(to_rgb(planes, colour).astype(int) - red).max() <= 4


def test_to_rgb_and_back_keeps_the_picture() -> None:
    colour = ColourTags(1, False, 1, 1)
    planes = planes_of(5, 192, 128)
    back = from_rgb(to_rgb(planes, colour), colour)
    assert np.abs(back.y.astype(int) - planes.y).mean() < 0.6
    assert abs(float(back.y.mean()) - float(planes.y.mean())) < 0.3


HEIGHT, WIDTH = 120, 160
PERSON, BEHIND = (90, 110, 160), (210, 150, 70)  # Y, U, V


def _alpha() -> NDArray[np.uint8]:
    plane = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.circle(plane, (80, 60), 36, 255, -1)
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), 3), np.uint8)


def _seen(alpha: NDArray[np.uint8], person: tuple[int, ...], behind: tuple[int, ...]) -> YuvFrame:
    """What a camera sees of a person in front of a background."""
    planes = []
    for value, back, step in zip(person, behind, (1, 2, 2), strict=True):
        share = cv2.resize(alpha, (WIDTH // step, HEIGHT // step), interpolation=cv2.INTER_AREA) / 255.0
        planes.append(np.rint(share * value + (1 - share) * back).astype(np.uint8))
    return YuvFrame(*planes)


@pytest.mark.parametrize("behind", [(16, 128, 128), (235, 128, 128), (120, 60, 60)])
def test_foreground_over_leaves_no_rim(behind: tuple[int, ...]) -> None:
    alpha = _alpha()
    frame = _seen(alpha, PERSON, BEHIND)
    shown = Foreground(frame, alpha).over(flat_planes(WIDTH, HEIGHT, *behind))
    expected = _seen(alpha, PERSON, behind)
    for own, plane in zip(shown, expected, strict=True):
        assert np.abs(own.astype(int) - plane).max() <= 12
    share = alpha / 255.0
    blended = share * frame.y + (1 - share) * behind[0]
    assert np.abs(blended - expected.y).max() > 20, "blending the frame itself shows the old background"


def test_foreground_over_copies_opaque_and_transparent_pixels() -> None:
    alpha, frame, behind = _alpha(), _random(HEIGHT, WIDTH, 3), _random(HEIGHT, WIDTH, 4)
    before = [plane.copy() for plane in (*frame, *behind)]
    shown = Foreground(frame, alpha).over(behind)
    np.testing.assert_array_equal(shown.y[alpha == 255], frame.y[alpha == 255])
    np.testing.assert_array_equal(shown.y[alpha == 0], behind.y[alpha == 0])
    for plane, kept in zip((*frame, *behind), before, strict=True):
        np.testing.assert_array_equal(plane, kept)


def test_foreground_alone_is_grey_outside_the_person() -> None:
    alpha = _alpha()
    frame = _seen(alpha, PERSON, BEHIND)
    person = Foreground(frame, alpha)
    cleaned = [plane.copy() for plane in person.planes]
    half = cv2.resize(alpha, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA)
    for own, plane, share in zip(person.alone(), cleaned, (alpha, half, half), strict=True):
        outside = cv2.dilate(share, np.ones((25, 25), np.uint8)) == 0
        assert outside.mean() > 0.1
        assert (own[outside] == 128).all()
        near = cv2.dilate(share, np.ones((5, 5), np.uint8)) > 0
        np.testing.assert_array_equal(own[near], plane[near])


def test_foreground_removes_screen_light_at_the_edge_only() -> None:
    alpha, screen = _alpha(), ScreenColour(60, 40)
    greenish = (90, 118, 115)  # grey with a tenth of the screen's colour
    frame = _seen(alpha, greenish, (150, 60, 40))
    with pytest.raises(ValueError, match="alpha of shape"):
        Foreground(frame, alpha[:4])
    planes = Foreground(frame, alpha, screen).planes
    half = cv2.resize(alpha, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA)
    rim = (half > 60) & (cv2.erode(half, np.ones((3, 3), np.uint8)) < 255)
    assert np.abs(planes.v[rim].astype(int) - 128).mean() < 3 < np.abs(frame.v[rim].astype(int) - 128).mean()
    assert planes.v[HEIGHT // 4, WIDTH // 4] == 115, "far inside, the colour is the person's own"


INFO = matte_info(info_of(96, 64, num_frames=12, rotation=90, is_variable_rate=True, codec="hevc", has_audio=True))


def _moving_alpha(number: int) -> NDArray[np.uint8]:
    """A soft disc that moves two pixels a frame."""
    plane = np.zeros((64, 96), np.uint8)
    cv2.circle(plane, (30 + 2 * number, 32), 18, 255, -1)
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), 2), np.uint8)


def _piece(start: int, stop: int) -> bytes:
    writer = MatteWriter(INFO)
    for number in range(start, stop):
        writer.write(_moving_alpha(number))
    return writer.finish()


def test_matte_frames_are_read_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "matte.mp4"
    with pytest.raises(StoredFileError, match="Expected 12 frames of a matte, found 5"):
        join_mattes([_piece(0, 5)], path, INFO.fps, 12)
    join_mattes([_piece(0, 5), _piece(5, 12)], path, INFO.fps, 12)
    with closing(MatteFrames(FrameReader(path, INFO, 2**20, limits=MediaLimits()))) as frames:
        order = [0, 1, 4, 5, 11, 3, 8]
        for number, frame in zip(order, frames.read(order), strict=True):
            expected = _moving_alpha(number)
            assert frame.y.shape == (64, 96) and not frame.y.flags.writeable
            error = np.abs(frame.y.astype(int) - expected)
            assert error.mean() < 1 and error.max() < 24
            assert (frame.y[expected == 0] == 0).mean() > 0.98 and (frame.y[expected == 255] == 255).mean() > 0.98
