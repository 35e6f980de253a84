"""The engine's section of the settings."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from models.engines.paste.blend import PasteStyle
from models.engines.wav2lip.audio import MAX_OFFSET


class Wav2LipOptions(BaseModel):
    """Settings of the engine `wav2lip`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mel_offset: int = Field(
        0,
        ge=-MAX_OFFSET,
        le=MAX_OFFSET,
        description="Frames of 40 ms by which the heard window is moved: 0 as the official script, -1 as in training "
        "(see models/engines/wav2lip/audio.py). Where mouths are early by a frame, -1 is right.",
    )
    paste: PasteStyle = Field(
        "soft", description="`soft` mixes the lower face in, `rectangle` writes the whole box as the official script."
    )
    match_colour: bool = Field(True, description="Take out what the painted face differs in light along its edge.")
    batch_size: int = Field(
        0,
        ge=0,
        le=128,
        description="Faces in a batch; 0: 4 on a CPU, 16 on a GPU. Alike for all replicas, or their bytes differ.",
    )
    precision: Literal["fp32", "auto"] = Field(
        "auto", description="`auto`: half precision where it is fast and, with these weights, hardly differs."
    )
    measure_batch: bool = Field(
        False, description="At start, measure for two seconds whether another batch size is faster, and log it."
    )
