"""Languages by their ISO 639 codes."""

from __future__ import annotations

from functools import cache
from pathlib import PurePath

from iso639 import Lang, iter_langs
from iso639.exceptions import InvalidLanguageValue


@cache
def parse_language(text: str) -> str:
    """Return the code of three letters (ISO 639-3) of a language: its name in English, a code, or a tag like `de-AT`.

    Raises:
        ValueError: There is no such language.
    """
    for name in (text.strip(), text.strip().title(), text.strip().split("-")[0].lower()):
        try:
            return str(Lang(name).pt3)
        except InvalidLanguageValue:
            continue
    words = {text.strip().casefold()}  # "Greek" is "Modern Greek (1453-)"
    for language in iter_langs():
        if language.pt1 and words & set(language.name.casefold().split()):
            return str(language.pt3)
    raise ValueError(f"expected a language such as German or de, found {text!r}")


@cache
def are_same_language(one: str, other: str) -> bool:
    """Return whether two codes of `parse_language` are the same, or one is part of the other: Mandarin of Chinese."""
    macros = [Lang(code).macro() for code in (one, other)]
    names = [{code, *([macro.pt3] if macro else [])} for code, macro in zip((one, other), macros, strict=True)]
    return bool(names[0] & names[1])


def language_name(code: str) -> str:
    """Return the English name of a language."""
    return str(Lang(code).name)


def language_of_file(name: str) -> str | None:
    """Return the code of the language that a file's name gives, as in `film.de.srt` or `pt-BR.vtt`, if any."""
    tag = PurePath(name).stem.split(".")[-1].split("-")[0].lower()
    if len(tag) not in (2, 3):
        return None
    try:
        language = Lang(tag)
    except InvalidLanguageValue:
        return None
    # Every other word of three letters is the code of some language: only those of ISO 639-2, after a dot.
    return str(language.pt3) if len(tag) == 2 or (language.pt2t and "." in PurePath(name).stem) else None
