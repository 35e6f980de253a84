"""The fields of forms and URLs that say what is behind the person."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from api.forms.form_parts import FilePart
from storage.background_settings import BackgroundSettings


class BackgroundFields(BackgroundSettings):
    """At most one of a colour, a file and the ID of a file; those that are not sent stay as they are."""

    background_file: FilePart | None = Field(
        None, description="Picture or video behind the person. It fills the frame; a video has no sound."
    )

    @model_validator(mode="after")
    def _one_of_three(self) -> Self:
        if self.background_file is not None and self.names_background:
            other = "background" if self.background is not None else "background_id"
            raise ValueError(f"send {other} or background_file, not both")
        return self

    @property
    def background_settings(self) -> BackgroundSettings:
        """The fields that were sent, without a file."""
        sent = self.model_fields_set & BackgroundSettings.model_fields.keys()
        return BackgroundSettings(**{name: getattr(self, name) for name in sent})


class WholeBackgroundFields(BackgroundFields):
    """The same, where nothing is there yet: the options of a background need one."""

    @model_validator(mode="after")
    def _options_need_a_background(self) -> Self:
        has_file = self.background_file is not None or self.background_id is not None
        if "background_loop" in self.model_fields_set and not has_file:
            raise ValueError("background_loop needs background_file or background_id")
        if "matte" in self.model_fields_set and not (has_file or self.background is not None):
            raise ValueError("matte needs background, background_file or background_id")
        return self
