"""Edits of turns whose texts have actions."""

from __future__ import annotations

from typing import Any

import pytest

from errors import OptionError
from jobs.drafts import edited
from jobs.model.edits import NewTurn, TurnChange, TurnSplit
from jobs.model.turns import PlannedTurn

NAMES = ["nod", "wave"]
SPOKEN = {"natural_seconds": 1.0, "cue": "c"}
TURN = PlannedTurn(start=0, text="Hi [wave] you", voice="v", action="nod").with_actions(NAMES)


def edit(change: Any) -> list[PlannedTurn]:
    return edited([TURN.model_copy(update=SPOKEN)], 0, change, NAMES)


@pytest.mark.parametrize(
    ("fields", "text", "actions", "is_spoken"),
    [
        ({"text": "[nod] Hi you"}, "Hi you", ((0, "nod"),), True),
        ({"text": "Hi you"}, "Hi you", (), True),
        ({"text": "Hi [wave] all"}, "Hi all", ((3, "wave"),), False),
        ({"voice": "w"}, "Hi you", ((3, "wave"),), False),
        ({"action": None, "start": 2}, "Hi you", ((3, "wave"),), True),
    ],
)
def test_edited_text_has_its_actions(fields: dict[str, Any], text: str, actions: Any, is_spoken: bool) -> None:
    (turn,) = edit(TurnChange(**fields))
    assert (turn.text, turn.actions, turn.cue is not None) == (text, actions, is_spoken)
    assert turn.action == fields.get("action", "nod")


def test_edited_split_keeps_the_action_at_the_start() -> None:
    first, second = edit(TurnSplit(start=1, text="Hi [wave] you", next_text=r"\[ok] [nod] bye"))
    assert [(turn.text, turn.action) for turn in (first, second)] == [("Hi you", "nod"), ("[ok] bye", None)]
    assert (first.actions, second.marked_text) == (((3, "wave"),), r"\[ok] [nod] bye")


@pytest.mark.parametrize("change", [TurnChange(action="bow"), TurnChange(text="[bow]"), NewTurn(text="[bow]", start=1)])
def test_edited_unknown_action_is_refused(change: Any) -> None:
    with pytest.raises(OptionError, match="Actions of this avatar: nod, wave"):
        edit(change)
