"""The fields of forms and URLs for the settings of an avatar, and for what overrides them."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from api.forms.form_parts import FilePart
from storage.avatar_settings import AvatarSettings
from storage.request_model import RequestModel


class AvatarFields(AvatarSettings, RequestModel):
    """Movement, and at most one of `background`, `background_file` and `background_id`, with options."""

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
    def avatar_settings(self) -> AvatarSettings:
        """Only the fields that were sent are set; `background_file` is left out."""
        sent = self.model_fields_set & AvatarSettings.model_fields.keys()
        return AvatarSettings(**{name: getattr(self, name) for name in sent})


class AvatarOverrides(AvatarFields):
    """The same fields of a job or live session: `background_loop` and `matte` need a background."""

    @model_validator(mode="after")
    def _options_need_a_background(self) -> Self:
        has_file = self.background_file is not None or self.background_id is not None
        if "background_loop" in self.model_fields_set and not has_file:
            raise ValueError("background_loop needs background_file or background_id")
        if "matte" in self.model_fields_set and not (has_file or self.background is not None):
            raise ValueError("matte needs background, background_file or background_id")
        return self
