"""Forms that take speech as an audio file or as text."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, Field, WithJsonSchema, model_validator

from media.playback import LoopMode
from storage.records import MAX_EXPRESSIVENESS, UploadedFile

# A binary string in OpenAPI; in Python, the upload that is already on disk.
FilePart = Annotated[UploadedFile, WithJsonSchema({"type": "string", "format": "binary"})]
MAX_TEXT_CHARS = 32_768
"""Maximum length of a text field; `tts.max_chars` limits what is spoken."""
MAX_VOICE_CHARS = 128
"""Maximum length of the name of a voice."""


class SpeechForm(BaseModel):
    """Fields shared by all forms with speech: exactly one of `audio` and the last of `speech_fields`."""

    speech_fields: ClassVar[tuple[str, ...]] = ("audio", "audio_url", "text")
    """Fields of which one is required; the last one holds the text."""

    audio: FilePart | None = Field(None, description="The speech: an audio file, or a video whose audio track is used.")
    voice: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_VOICE_CHARS,
        description="Voice for the text. Defaults to the service's voice; see `GET /v1/voices`.",
    )

    loop: LoopMode = Field(
        default="pingpong",
        description="How to fit the video to the speech. `pingpong`, `loop` and `hold` continue a shorter video"
        " backwards and forwards, from its start, or on its last frame; `cut` ends with the shorter of the two,"
        " `source` with the video; `retime` plays it at half to twice its speed, so that it ends with the speech.",
    )
    background_gain_db: float | None = Field(
        None, ge=-60, le=12, description="Keep the video's own sound under the speech, with this gain in dB."
    )
    loudness_lufs: float | None = Field(
        None, ge=-40, le=-9, description="Normalize the result to this loudness (EBU R128, in LUFS), for example -16."
    )
    expressiveness: float = Field(
        1.0,
        ge=0,
        le=MAX_EXPRESSIVENESS,
        description="Scale of the mouth movement: 0 (still) to 2 (twice the natural movement). Closed lips stay "
        "closed. Engines other than `warp` only accept 1.",
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
