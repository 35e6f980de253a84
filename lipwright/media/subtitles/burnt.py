"""Subtitles in the picture: white with a black outline, at the bottom, drawn once per text in an installed font."""

from __future__ import annotations

import shutil
import subprocess
import unicodedata
from collections.abc import Iterable
from functools import cache
from itertools import chain
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lipwright.errors import OptionError
from lipwright.media.labels.watermark import BLACK, NEUTRAL, WHITE, Overlay, grey_levels
from lipwright.media.probe import VideoInfo

_TIMEOUT_S: Final = 20.0
_LIST: Final = "fc-list"
_PREFERRED: Final = ("noto sans", "dejavu sans", "liberation sans", "wenquanyi")


class Font(NamedTuple):
    """A font: its file, and which of the fonts of that file it is."""

    path: str
    number: int


def check_fonts(texts: Iterable[str]) -> None:
    """Check that every text can be drawn.

    Raises:
        OptionError: A text has letters for which no font is installed.
    """
    for text in texts:
        font_of(text)


def font_of(text: str) -> Font:
    """Return a font that has all letters, marks and digits of a text; bold and without serifs if there is one.

    Raises:
        OptionError: There is none.
    """
    wanted = {ord(each) for each in text if unicodedata.category(each)[0] in "LMN"}
    fonts = _installed_fonts()
    if not fonts:
        raise OptionError(
            "subtitles_output: burnt subtitles need fonts and fontconfig. Ask the operator to install them (Debian "
            "packages fontconfig and fonts-noto-core), or choose `track`."
        )
    for font, characters in fonts:
        if wanted <= characters:
            return font
    raise OptionError(
        f"subtitles_output: no installed font has all letters of {text[:40]!r}. Ask the operator to install one, such "
        "as the Debian packages fonts-noto-core and fonts-noto-cjk, or choose `track`."
    )


@cache
def _installed_fonts() -> list[tuple[Font, frozenset[int]]]:
    """Return the installed fonts with their characters, the best first; fonts installed later are not seen."""
    if shutil.which(_LIST) is None:
        return []
    fields = "".join(f"%{{{name}}}\t" for name in ("file", "index", "family", "style", "scalable", "charset")) + "\n"
    listed = subprocess.run(
        [_LIST, "--format", fields], capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
    )
    rows = [row for line in listed.stdout.splitlines() if len(row := line.split("\t")) == 7 and row[4] == "True"]
    return [(Font(row[0], int(row[1]) & 0xFFFF), _characters(row[5])) for row in sorted(rows, key=_rank)]


def _characters(ranges: str) -> frozenset[int]:
    """Return the code points of fontconfig's list, such as `20-7e a0`."""
    ends = (each.partition("-") for each in ranges.split())
    return frozenset(chain.from_iterable(range(int(low, 16), int(high or low, 16) + 1) for low, _, high in ends))


def _rank(row: list[str]) -> tuple[int, bool, bool, int, str]:
    """Return a key by which good fonts for subtitles come first."""
    path, _, family, style, *_ = row
    names, styles = family.lower(), style.lower()
    known = next((number for number, each in enumerate(_PREFERRED) if each in names), len(_PREFERRED))
    is_special = any(word in names for word in ("serif", "mono", "math", "condensed", "narrow"))
    is_slanted = any(word in styles for word in ("italic", "oblique", "condensed"))
    weight = 0 if styles.startswith("bold") else 1
    return known, is_special, is_slanted, weight, path


_HEIGHT: Final = 0.05
"""Height of the text, as a share of the frame's shorter side (EBU-TT-D: lines of about 8 % with their spacing)."""
_MIN_PIXELS: Final = 12
_MAX_WIDTH: Final = 0.8
_MARGIN: Final = 0.06
"""Distance from the bottom, as a share of the height."""
_OUTLINE: Final = 0.09
"""Width of the outline, as a share of the text's height."""
_SPACING: Final = 0.25


def subtitle_overlay(info: VideoInfo, text: str) -> Overlay:
    """Return the picture of a text, to be drawn on every frame in which it is shown.

    Lines that are too wide are broken at spaces, or between characters where there are none.

    Raises:
        OptionError: No font has the letters of the text.
    """
    aspect = float(info.sample_aspect_ratio)
    width = info.width * aspect  # in square pixels
    size = max(_MIN_PIXELS, round(_HEIGHT * min(info.height, width)))
    path, index = font_of(text)
    font = ImageFont.truetype(path, size, index=index)
    lines = chain.from_iterable(_break_line(line, font, _MAX_WIDTH * width) for line in text.splitlines())
    fill, outline = _draw("\n".join(lines), font, size)
    target = (max(2, round(fill.shape[1] / aspect)), fill.shape[0])
    fill, outline = (_fit(each, target, info) for each in (fill, outline))
    height, columns = fill.shape
    x = (info.width - columns) // 2 & ~1
    y = max(0, info.height - height - round(_MARGIN * info.height)) & ~1
    black, white = grey_levels(info, BLACK, WHITE)
    halves = [
        each.reshape(height // 2, 2, columns // 2, 2).mean(axis=(1, 3), dtype=np.float32) for each in (fill, outline)
    ]
    return Overlay(x, y, _mix(fill, outline, black, white), _mix(halves[0], halves[1], NEUTRAL, NEUTRAL))


def _break_line(line: str, font: ImageFont.FreeTypeFont, max_width: float) -> list[str]:
    """Break a line into lines that are narrow enough."""
    lines = [""]
    for word in line.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= max_width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if lines[-1] and font.getlength(lines[-1] + character) > max_width:
                lines.append("")
            lines[-1] += character
    return lines


def _draw(text: str, font: ImageFont.FreeTypeFont, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (h, w) coverage from 0 to 1: of the letters, and of the letters with their outline."""
    layout: dict[str, Any] = {
        "font": font,
        "spacing": round(_SPACING * size),
        "align": "center",
        "stroke_width": max(1, round(_OUTLINE * size)),
    }
    measure = ImageDraw.Draw(Image.new("L", (1, 1)))
    left, top, right, bottom = measure.multiline_textbbox((0, 0), text, **layout)
    picture = Image.new("RGB", (round(right - left), round(bottom - top)))
    # Red covers the outline too, green only the letters.
    ImageDraw.Draw(picture).multiline_text((-left, -top), text, (255, 255, 0), stroke_fill=(255, 0, 0), **layout)
    coverage = np.asarray(picture, np.float32) / np.float32(255)
    return np.ascontiguousarray(coverage[..., 1]), np.ascontiguousarray(coverage[..., 0])


def _fit(picture: NDArray[np.float32], size: tuple[int, int], info: VideoInfo) -> NDArray[np.float32]:
    """Return the picture at a size (w, h), cut to the frame, with even sides."""
    if size != (picture.shape[1], picture.shape[0]):
        picture = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX), np.float32)
    height, width = min(picture.shape[0], info.height & ~1), min(picture.shape[1], info.width & ~1)
    left = (picture.shape[1] - width) // 2
    cut = picture[picture.shape[0] - height :, left : left + width]
    return np.pad(cut, ((0, height % 2), (0, width % 2)))


def _mix(
    fill: NDArray[np.float32], outline: NDArray[np.float32], black: int, white: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return gain and offset of letters in white over their outline in black."""
    return 1 - outline, fill * np.float32(white) + (outline - fill) * np.float32(black)
