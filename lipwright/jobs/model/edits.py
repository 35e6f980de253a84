"""What a caller changes: the turns of a job in review, and turns and options of a finished job."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from lipwright.errors import OptionError
from lipwright.jobs.model.base import Frozen, RequestModel, without_defaults
from lipwright.jobs.model.plan import JobPlan
from lipwright.jobs.model.spec import JobSpec
from lipwright.jobs.model.turns import MAX_TEXT_CHARS, MAX_TURNS, StartSeconds, SubtitlePlace, TurnOptions

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


_OPTION_NAMES: Final = {"subtitles_output": "subtitles"}
"""Names in `JobOptions` of settings that have another one there."""


class NumberedChange(TurnChange):
    """Changes of one turn of the job that is revised; fields that are not sent stay as they are."""

    number: int = Field(ge=0, lt=MAX_TURNS, description="Number of the turn, from 0: see `GET /v1/jobs/{id}/turns`.")

    @model_validator(mode="after")
    def _more_than_its_number(self) -> Self:
        if self.model_fields_set == {"number"}:
            raise ValueError("send a field to change")
        return self

    @property
    def change(self) -> TurnChange:
        """The change without the number."""
        return TurnChange(**{name: getattr(self, name) for name in self.model_fields_set if name != "number"})


class RevisedSettings(RequestModel, Frozen):
    """Options of the job with other values; options that are not sent stay as they are. See `POST /v1/jobs`."""

    model_config = ConfigDict(json_schema_extra=without_defaults)

    background_gain_db: float | None = Field(None, description="null: without the sound of the video.")
    loudness_lufs: float | None = Field(None, description="null: the loudness is not normalized.")
    music_gain_db: float | None = Field(None, description="Only for a job with `music`.")
    subtitles_output: SubtitlePlace | None = Field(None, description="null: the result does not show the texts.")
    visible_label: bool | None = None
    visible_label_top: bool | None = None

    @model_validator(mode="after")
    def _label_is_known(self) -> Self:
        for name in ("visible_label", "visible_label_top", "music_gain_db"):
            if name in self.model_fields_set and getattr(self, name) is None:
                raise ValueError(f"{name}: null is not possible")
        return self

    def revised_spec(self, spec: JobSpec, **changes: object) -> JobSpec:
        """Return a spec with these settings and other `changes`; OptionError if they cannot be used together."""
        sent = {name: getattr(self, name) for name in self.model_fields_set}
        if "music_gain_db" in sent and spec.music is None:
            raise OptionError("settings.music_gain_db: the job has no music.")
        fields = {name: getattr(spec, name) for name in spec.model_fields_set}
        try:
            return JobSpec(**{**fields, **sent, **changes})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(["settings", *map(str, first["loc"])])
            raise OptionError(f"{where}: {str(first['msg']).removeprefix('Value error, ')}") from error

    def revised_plan(self, plan: JobPlan) -> JobPlan:
        """Return a plan with these settings."""
        return plan.with_options(
            **{_OPTION_NAMES.get(name, name): getattr(self, name) for name in self.model_fields_set}
        )


class Revision(RequestModel, Frozen):
    """Changes of a finished job, which make a new job. Numbers are those of the turns of the finished job."""

    turns: tuple[NumberedChange, ...] = Field((), max_length=MAX_TURNS, description="Turns to change.")
    removed_turns: tuple[int, ...] = Field((), max_length=MAX_TURNS, description="Numbers of turns to remove.")
    added_turns: tuple[NewTurn, ...] = Field((), max_length=MAX_TURNS, description="Turns to add.")
    settings: RevisedSettings = Field(RevisedSettings(), description="Options to change.")
    review: bool = Field(
        False,
        description="Stop with status `review` once the texts are spoken, as with `review` of `POST /v1/jobs`. The "
        "revision then needs no other change.",
    )

    @model_validator(mode="after")
    def _some_change(self) -> Self:
        if not (self.review or self.changes_turns or self.settings.model_fields_set):
            raise ValueError("send turns, removed_turns, added_turns, settings or review=true")
        numbers = [change.number for change in self.turns] + list(self.removed_turns)
        if len(set(numbers)) < len(numbers):
            raise ValueError("a turn can be changed or removed only once")
        return self

    @property
    def changes_turns(self) -> bool:
        """Whether any turn is changed, removed or added."""
        return bool(self.turns or self.removed_turns or self.added_turns)
