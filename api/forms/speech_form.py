"""Forms whose speech is a file, or a text that is spoken here."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Final, Self

from pydantic import BaseModel, Field, WithJsonSchema, model_validator

from storage.records import UploadedFile

# In OpenAPI a file part is binary text; in Python it is the upload that lies on the disk already.
FilePart = Annotated[UploadedFile, WithJsonSchema({"type": "string", "format": "binary"})]
MAX_TEXT_CHARS = 32_768
"""Characters that a form takes; `speech.max_chars` is what is spoken of them."""

_MAX_TITLE_CHARS: Final = 48


class SpeechForm(BaseModel):
    """What such forms share. One of `audio` and the field that `text_field` names is given."""

    text_field: ClassVar[str] = "text"

    audio: FilePart | None = Field(None, description="The speech: any audio file, or a video whose sound is taken.")
    voice: str | None = Field(
        None, min_length=1, max_length=128, description="The voice that speaks the text; the default is the service's."
    )

    @property
    def speech_text(self) -> str | None:
        """The text to speak; None where the speech is a file."""
        raise NotImplementedError

    @property
    def speech(self) -> UploadedFile:
        """The speech, once the text is spoken."""
        assert self.audio is not None, "a form without audio has a text, which is spoken while it is received"
        return self.audio

    @model_validator(mode="after")
    def _one_speech(self) -> Self:
        if (self.audio is None) == (self.speech_text is None):
            found = "neither" if self.audio is None else "both"
            raise ValueError(f"expected either an audio file or {self.text_field}, found {found}")
        return self


def speech_title(text: str) -> str:
    """How the sound of a text is called among other files: by its first words, as people find it again by them."""
    words = " ".join(re.findall(r"\w+", text))
    if len(words) <= _MAX_TITLE_CHARS:
        return words or "speech"
    head, space, _ = words[:_MAX_TITLE_CHARS].rpartition(" ")
    return f"{head if space else words[:_MAX_TITLE_CHARS]}..."
