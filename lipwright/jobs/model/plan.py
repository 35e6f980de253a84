"""What a spec was resolved to: options with the avatar's defaults, turns with times, and the files of the speech."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from pydantic import Field

from lipwright.jobs.model.base import Frozen, UploadedFile
from lipwright.jobs.model.clip import AvatarClip, action_names
from lipwright.jobs.model.job_settings import JobSettings
from lipwright.jobs.model.turns import PlannedTurn, SubtitlePlace

MUSIC: Final = "music"
"""Name of the form field with music."""


class JobOptions(JobSettings, Frozen):
    """The options of a job. The JSON of those that are not defaults is part of `produce_id`: do not rename fields."""

    engine: str
    audio_speed: float | None = Field(
        None, description="Speed of the speech, which `max_audio_stretch` has fitted to the video; null: unchanged."
    )
    music_gain_db: float | None = Field(
        None, description="Gain of the music under the speech, in dB; null: there is no music."
    )
    turns: tuple[PlannedTurn, ...] | None = Field(
        None, description="Who says what when, in place of one speech; null for a single speech."
    )
    idle_mouths: Literal["source", "closed"] | None = Field(
        None, description="The mouths of the people in `turns` while they do not speak; null without turns."
    )
    subtitles: SubtitlePlace | None = Field(
        None, description="Where the texts of `turns` are shown: in a text `track`, or `burnt` into the picture."
    )


class StoredLevel(Frozen):
    """The level at which the speech of a face is analysed; see `models.speech.level`."""

    gain: float
    speech_db: float


class PlannedAction(Frozen):
    """An action and when it should start."""

    seconds: float
    name: str


class JobPlan(Frozen):
    """The plan of a job. Until it is complete, texts are not spoken, or the faces of speakers are not known."""

    options: JobOptions
    audio: dict[str, UploadedFile] = Field({}, description="Speech and music, by form field.")
    audio_seconds: dict[str, float] = Field({}, description="Length of the audio that was sent, by form field.")
    background_file: UploadedFile | None = Field(None, description="Picture or video behind the person.")
    is_complete: bool = True
    needs_transcript: bool = Field(False, description="Whether the turns are what is said in the source, translated.")
    needs_faces: bool = Field(False, description="Whether turns without a face are played by those who speak then.")
    needs_review: bool = Field(False, description="Whether the job waits for approval once its texts are spoken.")
    speech_levels: dict[str, StoredLevel] = Field(
        {},
        description="Level of the speech of each face, by its name in `turns`; a revision keeps it if it is similar.",
    )
    clips: dict[str, AvatarClip] = Field(
        {}, description="Parts of the composite that the job plays; empty if it plays the avatar's own video."
    )
    seed: int = Field(0, description="Chooses among clips that fit equally well.")
    cue_actions: tuple[PlannedAction, ...] = Field((), description="Actions of subtitle cues without words.")
    actions: tuple[PlannedAction, ...] | None = Field(
        None, description="All actions of the speech; None before that is prepared, and without clips."
    )

    @property
    def action_names(self) -> list[str] | None:
        """The actions that texts can name; None if the avatar has no clips, or the job does not play them."""
        return action_names(self.clips)

    @property
    def has_background(self) -> bool:
        """Whether the background is replaced."""
        return self.options.background is not None or self.background_file is not None

    @property
    def turns(self) -> tuple[PlannedTurn, ...]:
        """The turns; none for a single speech."""
        return self.options.turns or ()

    def with_options(self, **changes: object) -> JobPlan:
        """Return the plan with other options."""
        return self.model_copy(update={"options": self.options.model_copy(update=changes)})

    def with_turns(self, turns: Sequence[PlannedTurn], **changes: object) -> JobPlan:
        """Return the plan with other turns."""
        return self.with_options(turns=tuple(turns)).model_copy(update=changes)
