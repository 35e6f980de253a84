"""Actions that texts carry inline."""

from __future__ import annotations

import pytest

from errors import OptionError
from media.subtitles.actions import ActedText, TextAction, marked, read_actions

NAMES = ["nod", "wave"]


@pytest.mark.parametrize(
    ("text", "plain", "words"),
    [
        ("Hello! [wave] Welcome.", "Hello! Welcome.", [("wave", "Welcome.")]),
        ("[wave] Hi [nod]", "Hi", [("wave", "Hi"), ("nod", "")]),
        ("Hi![wave] there", "Hi! there", [("wave", "there")]),
        ("Hi [ wave ]\n[nod] you", "Hi you", [("wave", "you"), ("nod", "you")]),
        (r"a \[wave] [nod] b", "a [wave] b", [("nod", "b")]),
        ("An open [ bracket", "An open [ bracket", []),
    ],
)
def test_read_actions_returns_text_and_words(text: str, plain: str, words: list[tuple[str, str]]) -> None:
    found = read_actions(text, NAMES)
    assert found.text == plain
    assert [(name, plain[position:]) for position, name in found.actions] == words
    assert read_actions(marked(*found), NAMES) == found


def test_read_actions_without_clips_keeps_brackets() -> None:
    assert read_actions(r"[door] \[x] Hi", None) == ActedText(r"[door] \[x] Hi")


@pytest.mark.parametrize("text", ["Hi [wawe] there", "[]", "[Wave] Hi"])
def test_read_actions_unknown_name_lists_the_names(text: str) -> None:
    with pytest.raises(OptionError, match="Actions of this avatar: nod, wave"):
        read_actions(text, NAMES)


def test_read_actions_of_subtitles_skips_sounds() -> None:
    found = read_actions("[door slams] Hi [wave] you", NAMES, skips_unknown=True)
    assert found == ActedText("Hi you", (TextAction(3, "wave"),))
