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
def test_framing_crops_to_the_aspect_ratio(
    size: tuple[int, int] | None, aspect: Fraction | None, expected: Framing
) -> None:
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
