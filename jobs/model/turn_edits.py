"""Edits of the turns of a job in review."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from jobs.model.files import Frozen
from jobs.model.request_model import RequestModel, without_defaults
from jobs.model.turns import MAX_TEXT_CHARS, StartSeconds, TurnOptions

Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARS, description="What is said.")]


class TurnChange(TurnOptions):
    """Changes of a turn; fields that are not sent stay as they are, and null resets a field."""

    model_config = ConfigDict(json_schema_extra=without_defaults)

    text: Text = ""
    start: StartSeconds = 0.0

    @model_validator(mode="after")
    def _some_change(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("send a field to change")
        return self


class NewTurn(TurnOptions):
    """A turn to add."""

    text: Text
    start: StartSeconds


class TurnSplit(RequestModel, Frozen):
    """A turn becomes two, one after the other, with the same face and voice."""

    start: float = Field(gt=0, allow_inf_nan=False, description="When the second turn starts, in seconds.")
    text: Annotated[Text, Field(description="Text of the first turn.")]
    next_text: Annotated[Text, Field(description="Text of the second turn.")]


class TurnRemoval(Frozen):
    """A turn is removed."""


AnyTurnEdit = TurnChange | NewTurn | TurnSplit | TurnRemoval


class TurnEdit(Frozen):
    """One edit of a draft.

    Attributes:
        number: The turn, counted from 0; not used for a new one.
        version: The version of the job that the caller has seen. An edit of an older version is refused.
    """

    number: int = 0
    version: int
    edit: AnyTurnEdit
