from __future__ import annotations

from fractions import Fraction

import pytest

from media.output.framing import Framing, OutputSize, output_info
from media.output.sizes import check_same_aspect, parse_aspect, parse_size
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
def test_the_part_that_is_shown(size: tuple[int, int] | None, aspect: Fraction | None, expected: Framing) -> None:
    assert OutputSize(size, aspect).framing(info_of(1920, 1080)) == expected


def test_pixels_that_are_not_square_become_square_when_a_size_is_asked_for() -> None:
    info = info_of(720, 576, sample_aspect_ratio=Fraction(16, 11))  # shown as 1047 x 576
    wide = OutputSize((1048, 576)).framing(info)
    assert (wide.crop_width, wide.crop_height) == (720, 576)
    assert output_info(info, wide, None).sample_aspect_ratio == 1
    narrow = OutputSize(None, Fraction(9, 16)).framing(info)
    assert abs(narrow.crop_width * 16 / 11 / narrow.crop_height - 9 / 16) < 0.01
    assert output_info(info, narrow, None).sample_aspect_ratio == Fraction(16, 11)


@pytest.mark.parametrize(("fps", "expected"), [(None, 25), (29.97, Fraction(30000, 1001)), (50, 50), (12.5, 12.5)])
def test_rates_are_exact(fps: float | None, expected: Fraction) -> None:
    info = info_of(192, 128)
    assert output_info(info, OutputSize().framing(info), fps).fps == expected


@pytest.mark.parametrize(
    "text",
    ["", "1080", "1080x", "0x0", "1081x1920", "32x32", "8000x8000", "4000x400", "1e3x2e3", "-2x2", "1080x1920x2"],
)
def test_sizes_that_cannot_be_made_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "9", "0:16", "9:0", "1:99", "9/16", "9:16:1", "a:b"])
def test_aspect_ratios_that_cannot_be_made_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_aspect(text)


def test_size_and_crop_must_agree() -> None:
    check_same_aspect(parse_size("1080x1920"), parse_aspect("9:16"))
    with pytest.raises(ValueError, match="another aspect ratio than crop"):
        check_same_aspect(parse_size("1920x1080"), parse_aspect("9:16"))
