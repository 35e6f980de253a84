"""What a changed SRT file means for the turns of a job in review."""

from __future__ import annotations

from typing import Any

import pytest

from lipwright.cli.draft_file import _order_of_changes, draft_changes, draft_text
from lipwright.errors import OptionError
from lipwright_client import Turn

TURNS = (
    Turn(0, 1.0, 2.0, "Hallo.", speaker="Anna", face="person:0", voice="nova"),
    Turn(1, 3.0, 4.5, "Guten Tag,\nwie geht es?", speaker="Bob", face="person:1", voice="echo"),
    Turn(2, 5.0, 5.0001, None, face="person:0"),
    Turn(3, 6.0, None, "Ende [lacht]", natural_seconds=1.5),
)


def test_draft_text_names_speakers_and_omits_files() -> None:
    assert draft_text(TURNS) == (
        "1\n00:00:01,000 --> 00:00:02,000\nAnna: Hallo.\n\n"
        "2\n00:00:03,000 --> 00:00:04,500\nBob: Guten Tag,\nwie geht es?\n\n"
        "3\n00:00:06,000 --> 00:00:07,500\nEnde [lacht]\n"
    )


@pytest.mark.parametrize(
    ("old", "new", "changed", "added"),
    [
        ("03,000 --> 00:00:04,500", "02,750 --> 00:00:04,900", {1: {"start": 2.75, "end": 4.9}}, []),
        (
            "01,000 --> 00:00:02,000\nAnna: Hallo.",
            "01,200 --> 00:00:02,000\nAnna: Servus.",
            {0: {"text": "Servus.", "start": 1.2}},
            [],
        ),
        (
            "3\n00:00:06",
            "9\n00:00:05,100 --> 00:00:05,900\nBOB: Gut.\n\n3\n00:00:06",
            {},
            [{"speaker": "Bob", "face": "person:1", "voice": "echo", "end": 5.9, "text": "Gut.", "start": 5.1}],
        ),
        ("Anna: Hallo", "Bob: Hallo", {0: {"speaker": "Bob", "face": "person:1", "voice": "echo"}}, []),
    ],
    ids=["times", "text and time", "new cue", "other speaker"],
)
def test_draft_changes_are_in_the_file(old: str, new: str, changed: Any, added: list[Any]) -> None:
    text = draft_text(TURNS)
    assert old in text
    changes = draft_changes(TURNS, text.replace(old, new).encode())
    assert (changes.changed, changes.removed, changes.added) == (changed, [], added)


def test_draft_whose_cues_are_all_new_keeps_a_turn() -> None:
    changes = draft_changes(
        TURNS, b"1\n00:00:10,000 --> 00:00:11,000\nEins.\n\n2\n00:00:12,000 --> 00:00:13,000\nZwei.\n"
    )
    assert changes.changed == {0: {"text": "Eins.", "start": 10.0, "end": 11.0}} and changes.removed == [1, 3]
    assert [turn["text"] for turn in changes.added] == ["Zwei."]


def test_draft_without_names_keeps_the_speakers() -> None:
    assert len(draft_changes(TURNS, draft_text(TURNS).replace("Anna: ", "").replace("Bob: ", "").encode())) == 0


def test_draft_that_is_no_subtitle_file_is_refused() -> None:
    with pytest.raises(OptionError, match="subtitles: "):
        draft_changes(TURNS, b"Hallo")


@pytest.mark.parametrize(
    ("shift", "order"), [(+2.0, [3, 1, 0]), (-0.5, [0, 1, 3]), (0.0, [3, 1, 0])], ids=["later", "earlier", "in place"]
)
def test_shifted_turns_are_changed_in_an_order_without_overlaps(shift: float, order: list[int]) -> None:
    starts = {turn.number: turn.start for turn in TURNS}
    assert _order_of_changes({number: {"start": starts[number] + shift} for number in (0, 1, 3)}, starts) == order


def test_changed_text_keeps_its_actions() -> None:
    turns = [Turn(0, 0.0, None, "Hi [wave] you", natural_seconds=1.5), Turn(1, 4.0, None, "Bye.", natural_seconds=1.0)]
    content = draft_text(turns).replace("you", "all")
    assert draft_changes(turns, content.encode()).changed == {0: {"text": "Hi [wave] all"}}
