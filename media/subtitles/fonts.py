"""Finds an installed font for a text, by fontconfig."""

from __future__ import annotations

import shutil
import subprocess
import unicodedata
from collections.abc import Iterable
from functools import cache
from itertools import chain
from typing import Final, NamedTuple

from errors import OptionError

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
