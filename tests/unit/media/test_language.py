from __future__ import annotations

import pytest

from lipwright.media.language import are_same_language, language_of_file, parse_language


def test_parse_language_returns_the_code_or_refuses() -> None:
    codes = {"de": "deu", "de-AT": "deu", "German": "deu", "german ": "deu", "ger": "deu", "Greek": "ell"}
    assert {text: parse_language(text) for text in codes} == codes
    for other in ("", "x", "Klingonese", "../de", "1453-)"):
        with pytest.raises(ValueError, match="expected a language such as German or de"):
            parse_language(other)


def test_are_same_language_counts_parts_of_a_language() -> None:
    assert are_same_language("cmn", "zho") and are_same_language("deu", "deu")
    assert not are_same_language("deu", "eng")


def test_language_of_file_is_that_of_its_name() -> None:
    known = {"de.srt": "deu", "film.de.srt": "deu", "pt-BR.vtt": "por", "film.deu.srt": "deu"}
    names = {**known, "bob.srt": None, "film.bob.srt": None, "subtitles.vtt": None, "": None}
    assert {name: language_of_file(name) for name in names} == names
