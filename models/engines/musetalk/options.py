"""The options of MuseTalk."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from models.engines.base import EngineOptions
from models.engines.paste.blend import PasteStyle


class MuseTalkOptions(EngineOptions):
    """The engine's section of the settings."""

    model: Annotated[Literal["1.5", "1"], BeforeValidator(str)] = Field(
        "1.5", description="Published version of the U-Net; the file does not tell."
    )
    bbox_shift: float = Field(
        0.0,
        ge=-32,
        le=32,
        description="Moves the generated region down, in pixels of 256; mouths open wider.",
    )
    paste: PasteStyle = Field("soft", description="A soft lower face, or the whole box as a rectangle.")
    match_colour: bool = Field(True, description="Remove the colour difference along the edge of the generated face.")
    precision: Literal["auto", "half", "fp32"] = Field(
        "auto",
        description="half: fp16 on a GPU, bf16 on a CPU that has it, if these weights then give the same pictures; "
        "auto: the same on a GPU, fp32 on a CPU, where the trial takes half a minute.",
    )
    batch_size: int = Field(
        0,
        ge=0,
        le=64,
        description="Faces per batch; 0: 1 on a CPU, 8 on a GPU. Must be equal on all replicas, or results differ.",
    )
    max_kept_latents: int = Field(
        2048,
        ge=0,
        le=1_000_000,
        description="Source frames whose latents stay in memory: 32 kB each, 16 in half.",
    )
