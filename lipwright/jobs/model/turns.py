"""What one person says in a video in which several speak: as the caller sends it, and as it is planned."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from lipwright.jobs.model.avatar_settings import Expression
from lipwright.jobs.model.base import Frozen, RequestModel
from lipwright.media.subtitles.actions import TextAction, checked_action, marked, read_actions

MAX_TURNS: Final = 5000
MAX_TEXT_CHARS: Final = 4096
"""Maximum length of the text of one turn."""
MAX_VOICE_CHARS: Final = 128
"""Maximum length of the name of a voice."""

SubtitlePlace = Literal["track", "burnt"]
StartSeconds = Annotated[
    float, Field(ge=0, allow_inf_nan=False, description="When the speech starts, in seconds of the video.")
]

SPEAKING_FIELDS: Final = frozenset({"natural_seconds", "cue", "original_text", "recorded"})
"""Fields of a planned turn that do not decide how the result looks and sounds."""


class TurnOptions(RequestModel, Frozen):
    """Fields that a turn has when it is sent, added and changed."""

    face: str | None = Field(
        None,
        max_length=128,
        description="Who speaks: a face choice as in `face`, or `offscreen`, nobody who is seen; null: the job's face.",
    )
    end: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="When the speech should end, in seconds of the video: a file is cut off there, a text is spoken "
        "faster. null: when it is over.",
    )
    gain_db: float = Field(0.0, ge=-60, le=12, description="Gain of the speech in dB.")
    voice: str | None = Field(None, min_length=1, max_length=MAX_VOICE_CHARS, description="Voice for the text.")
    expression: Expression | None = Field(
        None, description="Expression of a still picture from the start of the turn on; null: the job's."
    )
    speaker: str | None = Field(None, max_length=128, description="Name of the speaker, for subtitles.")
    action: str | None = Field(
        None, max_length=64, description="Action that an avatar with clips shows when the speech starts."
    )


class Turn(TurnOptions):
    """One person's speech in a video in which several speak: [start, end) in seconds of the source."""

    start: StartSeconds
    audio: str = Field("audio", max_length=64, description="Name of the file field with the speech.")
    audio_start: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="Where the speech starts in that file, in seconds."
    )
    text: str | None = Field(None, max_length=MAX_TEXT_CHARS, description="Text to speak instead of a file.")
    original_text: str | None = Field(
        None, max_length=MAX_TEXT_CHARS, description="What is said in the source, shown while the job is reviewed."
    )

    @model_validator(mode="after")
    def _text_or_audio(self) -> Self:
        if self.text is not None and {"audio", "audio_start"} & self.model_fields_set:
            raise ValueError("send text or audio, not both")
        return self


class Recording(Frozen):
    """Where the text of a turn is recorded, and the time it was fitted into; see `lipwright.media.dubbing.slots`."""

    start: float
    slot_end: float | None = Field(description="When the text should end, as it was sent.")
    latest: float | None = Field(description="When the next turn of the face starts, or the video ends; null: never.")
    end: float = Field(description="When it ends.")
    audio: str
    audio_start: float
    speed: float | None
    cut_seconds: float | None

    @property
    def slot(self) -> tuple[float, float | None, float | None]:
        """The time that the text was fitted into."""
        return self.start, self.slot_end, self.latest


class PlannedTurn(Frozen):
    """A turn with what the service has decided."""

    face: str | None = None
    start: float
    end: float | None = Field(None, description="When the speech ends; null while a text is not yet spoken.")
    audio: str = "audio"
    audio_start: float = 0.0
    gain_db: float = 0.0
    text: str | None = None
    voice: str | None = None
    expression: Expression | None = None
    speaker: str | None = None
    speed: float | None = Field(None, description="How much faster than normal the text is spoken, to end in time.")
    cut_seconds: float | None = Field(
        None, description="Speech that does not fit before the next turn of the face and is cut."
    )
    natural_seconds: float | None = Field(None, description="Length of the text as the voice speaks it.")
    cue: str | None = Field(None, description="Name of the file with the spoken text.")
    original_text: str | None = Field(None, description="What is said in the source.")
    recorded: Recording | None = Field(None, description="The recording of the text, also in a revision of the job.")
    action: str | None = None
    actions: tuple[TextAction, ...] | None = Field(
        None, description="Actions in the text, which has no marks; None: brackets are text."
    )

    @classmethod
    def of(cls, turn: Turn) -> Self:
        """Return a turn as it was sent."""
        return cls(**turn.model_dump())

    def with_actions(self, names: Collection[str] | None) -> Self:
        """Return a turn as it was sent, with the actions in its text; OptionError for one that does not exist."""
        if self.action is not None:
            checked_action(self.action, names)
        if self.text is None or names is None:
            return self
        text, actions = read_actions(self.text, names)
        return self.model_copy(update={"text": text, "actions": actions})

    @property
    def marked_text(self) -> str | None:
        """The text with its actions, as it can be sent again."""
        return self.text if self.text is None or self.actions is None else marked(self.text, self.actions)

    def unrecorded(self) -> PlannedTurn:
        """Return a text with the times that were sent, before it was recorded; `recorded` is kept, to find it again."""
        if self.recorded is None:
            return self
        fields = {"end": self.recorded.slot_end, "speed": None, "cut_seconds": None}
        return self.model_copy(update={**fields, "audio": "audio", "audio_start": 0.0})


class SpeakerChoice(Frozen):
    """Who plays a speaker of subtitles or a diarization."""

    face: str | None = Field(None, max_length=128, description="As in `turns`; default: the person who speaks.")
    voice: str | None = Field(
        None, min_length=1, max_length=MAX_VOICE_CHARS, description="Voice for the speaker's cues."
    )
