"""Finds an installed font for a text, by fontconfig."""

from __future__ import annotations

import shutil
import subprocess
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from errors import OptionError

_TIMEOUT_S: Final = 20.0
_LIST: Final = "fc-list"
_PREFERRED: Final = ("noto sans", "dejavu sans", "liberation sans", "wenquanyi")


class Font(NamedTuple):
    """A font: its file, and which of the fonts of that file it is."""

    path: str
    index: int


def check_fonts(texts: Iterable[str]) -> None:
    """Check that every text can be drawn.

    Raises:
        OptionError: A text has letters of a script for which no font is installed.
    """
    for letters in {_letters(text) for text in texts}:
        _font_of(letters)


def font_of(text: str) -> Font:
    """Returns a bold font with all letters of a text, one without serifs if there is one.

    Raises:
        OptionError: No installed font has all of them.
    """
    return _font_of(_letters(text))


def _letters(text: str) -> str:
    """Returns the letters, marks and digits of a text; fonts may lack other characters."""
    return "".join(sorted({each for each in text if unicodedata.category(each)[0] in "LMN"}))


@lru_cache(maxsize=4096)
def _font_of(letters: str) -> Font:
    if shutil.which(_LIST) is None:
        raise OptionError(
            "subtitles_output: burnt subtitles need fonts and fontconfig. Ask the operator to install them (Debian "
            "packages fontconfig and fonts-noto-core), or choose `track`."
        )
    charset = " ".join(f"{ord(each):x}" for each in letters or "A")
    command = [_LIST, "--format", "%{file}\t%{index}\t%{family}\t%{style}\t%{scalable}\n", f":charset={charset}"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S).stdout
    rows = [fields for line in listed.splitlines() if len(fields := line.split("\t")) == 5 and fields[4] == "True"]
    if not rows:
        raise OptionError(
            f"subtitles_output: no installed font has all letters of {letters[:20]!r}. Ask the operator to install "
            "one, such as the Debian packages fonts-noto-core and fonts-noto-cjk, or choose `track`."
        )
    path, index, *_ = min(rows, key=_rank)
    return Font(path, int(index) & 0xFFFF)


def _rank(row: list[str]) -> tuple[int, bool, bool, int, str]:
    """Returns a key by which good fonts for subtitles come first."""
    path, _, family, style, _ = row
    names, styles = family.lower(), style.lower()
    known = next((number for number, each in enumerate(_PREFERRED) if each in names), len(_PREFERRED))
    is_special = any(word in names for word in ("serif", "mono", "math", "condensed", "narrow"))
    is_slanted = any(word in styles for word in ("italic", "oblique", "condensed"))
    weight = 0 if styles.startswith("bold") else 1
    return known, is_special, is_slanted, weight, path
