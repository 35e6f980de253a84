"""Forms that take speech as an audio file or as text."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from api.forms.avatar_fields import AvatarOverrides
from api.forms.form_parts import FilePart
from storage.job_settings import JobSettings
from storage.records import UploadedFile

MAX_TEXT_CHARS = 32_768
"""Maximum length of a text field; `tts.max_chars` limits what is spoken."""
MAX_VOICE_CHARS = 128
"""Maximum length of the name of a voice."""


class SpeechForm(AvatarOverrides, JobSettings):
    """Fields shared by all forms with speech: exactly one of `audio` and the last of `speech_fields`, and options."""

    speech_fields: ClassVar[tuple[str, ...]] = ("audio", "audio_url", "text")
    """Fields of which one is required; the last one holds the text."""

    audio: FilePart | None = Field(None, description="The speech: an audio file, or a video whose audio track is used.")
    voice: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_VOICE_CHARS,
        description="Voice for the text. Defaults to the service's voice; see `GET /v1/voices`.",
    )

    @property
    def speech_text(self) -> str | None:
        """Text to synthesize; None if the speech is a file."""
        raise NotImplementedError

    @property
    def speech(self) -> UploadedFile:
        """Speech file; available after synthesis if the form had a text."""
        assert self.audio is not None, "a text is synthesized while the form is received"
        return self.audio

    @model_validator(mode="after")
    def _one_speech(self) -> Self:
        if (self.audio is None) == (self.speech_text is None):
            raise ValueError(one_of("audio", self.speech_fields[-1], self.audio is not None))
        return self


def one_of(first: str, second: str, has_both: bool) -> str:
    """Return the error message for two mutually exclusive fields of which both or neither were sent."""
    return f"send {first} or {second}, not both" if has_both else f"{first} or {second} is required"
