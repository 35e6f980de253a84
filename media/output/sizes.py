"""Sizes, aspect ratios and frame rates as requests name them, and their limits."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

MAX_PIXELS: Final = 3840 * 2160
"""Most pixels of a result."""
MAX_ASPECT: Final = 4
"""Largest ratio of the longer side of a result to the shorter one."""
MAX_OUTPUT_FPS: Final = 60
_SAME_ASPECT: Final = Fraction(1, 100)
_MIN_SIDE: Final = 64


def parse_size(text: str) -> tuple[int, int]:
    """Return (width, height) of a text such as `1080x1920`.

    Raises:
        ValueError: It is not such a text, or the size is odd, too small, too large or too narrow.
    """
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text.strip().lower())
    if found is None:
        raise ValueError(f"expected WIDTHxHEIGHT, such as 1080x1920, found {text[:40]!r}")
    width, height = int(found[1]), int(found[2])
    if width % 2 or height % 2:
        raise ValueError(f"expected an even width and height, found {width}x{height}")
    if min(width, height) < _MIN_SIDE:
        raise ValueError(f"expected at least {_MIN_SIDE} pixels on each side, found {width}x{height}")
    if width * height > MAX_PIXELS:
        raise ValueError(f"expected at most {MAX_PIXELS} pixels, found {width}x{height}")
    _check_aspect(Fraction(width, height), text)
    return width, height


def parse_aspect(text: str) -> Fraction:
    """Return the aspect ratio of a text such as `9:16`.

    Raises:
        ValueError: It is not such a text, or the ratio is too large.
    """
    found = re.fullmatch(r"(\d{1,4}):(\d{1,4})", text.strip())
    if found is None or not int(found[1]) or not int(found[2]):
        raise ValueError(f"expected WIDTH:HEIGHT, such as 9:16, found {text[:40]!r}")
    aspect = Fraction(int(found[1]), int(found[2]))
    _check_aspect(aspect, text)
    return aspect


def check_same_aspect(size: tuple[int, int], aspect: Fraction) -> None:
    """Raise ValueError for a size that does not have an aspect ratio, within a hundredth."""
    if abs(Fraction(*size) / aspect - 1) > _SAME_ASPECT:
        raise ValueError(
            f"size: {size[0]}x{size[1]} has another aspect ratio than crop, {aspect.numerator}:{aspect.denominator}. "
            "Leave crop out: the picture is cropped to the aspect ratio of size."
        )


def _check_aspect(aspect: Fraction, text: str) -> None:
    if not Fraction(1, MAX_ASPECT) <= aspect <= MAX_ASPECT:
        raise ValueError(f"expected an aspect ratio from 1:{MAX_ASPECT} to {MAX_ASPECT}:1, found {text[:40]}")
