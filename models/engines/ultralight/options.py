"""What can be set of the engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from errors import ConfigError


class UltralightOptions(BaseModel):
    """Options of the engine `ultralight`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hears: Literal["auto", "hubert", "wenet"] = Field(
        "auto", description="What the generator was trained with; auto: the one of the two whose file was brought."
    )
    paste: Literal["soft", "rectangle"] = Field(
        "soft", description="The lower face with a soft edge, or the whole box as its authors paste it."
    )
    match_colour: bool = Field(True, description="Move a soft face's colour by what differs along its edge.")

    batch_size: int = Field(
        0, ge=0, le=64, description="Faces at a time; 0: 4 on a CPU, 16 on a GPU. Part of the bytes: alike everywhere."
    )
    precision: Literal["fp32", "auto"] = Field(
        "auto", description="Full precision, or half where the generator's own results hardly differ."
    )

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> UltralightOptions:
        """Check the engine's section of the settings.

        Raises:
            ConfigError: An option that does not exist or a value that it cannot have.
        """
        try:
            return cls.model_validate(dict(options))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise ConfigError(
                f"Engine ultralight, option {place!r}: {first['msg']}, got {first['input']!r}."
            ) from error
