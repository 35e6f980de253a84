"""The engine's section of the settings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from models.engines.base import EngineOptions
from models.engines.wav2lip.audio import MAX_OFFSET


class EdTalkOptions(EngineOptions):
    """Settings of the engine `edtalk`."""

    weight: float = Field(
        0.5, ge=0, le=1, description="How far the network moves the lips; facefusion's default is .5."
    )
    paste: Literal["soft", "square"] = Field(
        "soft", description="`soft` mixes the lower face in, `square` nearly the whole face, as facefusion does."
    )
    match_colour: bool = Field(True, description="Remove the colour difference along the edge of the generated face.")
    mel_offset: int = Field(
        0, ge=-MAX_OFFSET, le=MAX_OFFSET, description="Shift of the audio window, in frames of 40 ms."
    )
