from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from media.output.crop_path import FaceBoxes, crop_path
from media.output.framing import Framing, OutputSize, check_same_aspect, output_info, parse_aspect, parse_size
from tests.unit.media.clips import info_of


@pytest.mark.parametrize(
    ("size", "aspect", "expected"),
    [
        (None, None, Framing(1920, 1080, 1920, 1080)),
        ((640, 360), None, Framing(1920, 1080, 640, 360)),
        ((1080, 1920), None, Framing(608, 1080, 1080, 1920)),
        (None, Fraction(9, 16), Framing(608, 1080, 608, 1080)),
        (None, Fraction(1), Framing(1080, 1080, 1080, 1080)),
        (None, Fraction(4), Framing(1920, 480, 1920, 480)),
        ((854, 480), None, Framing(1920, 1080, 854, 480)),
    ],
)
def test_framing_crops_to_the_aspect(size: tuple[int, int] | None, aspect: Fraction | None, expected: Framing) -> None:
    assert OutputSize(size, aspect).framing(info_of(1920, 1080)) == expected


def test_framing_with_size_has_square_pixels() -> None:
    info = info_of(720, 576, sample_aspect_ratio=Fraction(16, 11))  # shown as 1047 x 576
    wide = OutputSize((1048, 576)).framing(info)
    assert (wide.crop_width, wide.crop_height) == (720, 576)
    assert output_info(info, wide, None).sample_aspect_ratio == 1
    narrow = OutputSize(None, Fraction(9, 16)).framing(info)
    assert abs(narrow.crop_width * 16 / 11 / narrow.crop_height - 9 / 16) < 0.01
    assert output_info(info, narrow, None).sample_aspect_ratio == Fraction(16, 11)


@pytest.mark.parametrize(("fps", "expected"), [(None, 25), (29.97, Fraction(30000, 1001)), (50, 50), (12.5, 12.5)])
def test_output_info_frame_rate_is_exact(fps: float | None, expected: Fraction) -> None:
    info = info_of(192, 128)
    assert output_info(info, OutputSize().framing(info), fps).fps == expected


def test_parse_size_and_aspect_invalid_text_is_refused() -> None:
    sizes = "|1080|1080x|0x0|1081x1920|32x32|8000x8000|4000x400|1e3x2e3|-2x2|1080x1920x2"
    aspects = "|9|0:16|9:0|1:99|9/16|9:16:1|a:b"
    for parse, texts in ((parse_size, sizes), (parse_aspect, aspects)):
        for text in texts.split("|"):
            with pytest.raises(ValueError, match="expected"):
                parse(text)
    check_same_aspect(parse_size("1080x1920"), parse_aspect("9:16"))
    with pytest.raises(ValueError, match="another aspect ratio than crop"):
        check_same_aspect(parse_size("1920x1080"), parse_aspect("9:16"))


FRAME, CROP, FPS = (1920, 1080), (608, 1080), 25.0
FACE = 250


def _boxes(x: NDArray[np.floating], cuts: tuple[int, ...] = (), switches: tuple[int, ...] = ()) -> FaceBoxes:
    low = np.stack([x - FACE / 2, np.full(len(x), 300)], 1).astype(np.float32)
    flags = [np.isin(np.arange(len(x)), where) for where in (cuts, switches)]
    return FaceBoxes(low, low + np.float32(FACE), flags[0], flags[1])


def _inside(boxes: FaceBoxes, path: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray((boxes.low >= path).all(1) & (boxes.high <= path + np.array(CROP, np.float32)).all(1))


def test_crop_path_swaying_face_keeps_the_crop() -> None:
    noise = np.random.default_rng(1).normal(0, 4, 500)
    boxes = _boxes(960 + 25 * np.sin(np.arange(500) / 12) + noise)
    path = crop_path(boxes, FRAME, CROP, FPS)
    assert np.ptp(path, axis=0).max() == 0 and (path % 2 == 0).all()
    assert _inside(boxes, path).all()
    assert abs(path[0, 0] + CROP[0] / 2 - 960) < 30, "the face is in the middle"


def test_crop_path_follows_a_walking_face_smoothly() -> None:
    # Across the frame and back: 1400 pixels in six seconds, with jitter as landmarks have.
    x = 260 + 1400 * (0.5 - 0.5 * np.cos(np.arange(600) / 600 * 4 * np.pi))
    boxes = _boxes(x + np.random.default_rng(2).normal(0, 1.5, 600))
    path = crop_path(boxes, FRAME, CROP, FPS)
    assert _inside(boxes, path).all()
    assert path.min() >= 0 and path[:, 0].max() <= FRAME[0] - CROP[0]
    speed = np.diff(path[:, 0])
    assert np.abs(speed).max() < 16, "hardly faster than the face, 14.7 pixels a frame"
    assert np.abs(np.diff(speed)).max() < 3, "without jerks"


def test_crop_path_jumps_only_at_cuts() -> None:
    x = np.where(np.arange(200) < 100, 400.0, 1500.0)
    cut = crop_path(_boxes(x, cuts=(100,)), FRAME, CROP, FPS)
    steps = np.abs(np.diff(cut[:, 0]))
    assert steps[99] > 1000 and steps.sum() == steps[99]
    assert _inside(_boxes(x), cut).all()


def test_crop_path_pans_to_another_speaker() -> None:
    x = np.where(np.arange(200) < 100, 400.0, 1500.0)
    boxes = _boxes(x, switches=(100,))
    path = crop_path(boxes, FRAME, CROP, FPS)
    speed = np.diff(path[:, 0])
    assert speed.min() >= 0 and speed.max() < 90, "1100 pixels in .8 seconds, without a jump"
    assert np.abs(np.diff(speed)).max() < 15, "without jerks"
    assert _inside(boxes, path)[[*range(90), *range(110, 200)]].all()


def test_crop_path_short_turns_are_centred() -> None:
    x = np.where(np.arange(250) // 25 % 2, 1500.0, 400.0)
    path = crop_path(_boxes(x, switches=tuple(range(25, 250, 25))), FRAME, CROP, FPS)
    assert np.abs(path[12::25, 0] + CROP[0] / 2 - x[12::25]).max() < 30


@pytest.mark.parametrize("num", [1, 2, 5])
def test_crop_path_short_shot_has_a_corner_per_frame(num: int) -> None:
    assert crop_path(_boxes(np.full(num, 960.0)), FRAME, CROP, FPS).shape == (num, 2)


def test_crop_path_large_face_is_centred() -> None:
    low = np.tile(np.array([[600, 0]], np.float32), (50, 1))
    boxes = FaceBoxes(low, low + np.array([900, 1000], np.float32), np.zeros(50, bool), np.zeros(50, bool))
    path = crop_path(boxes, FRAME, CROP, FPS)
    assert np.abs(path[:, 0] + CROP[0] / 2 - 1050).max() <= 2
