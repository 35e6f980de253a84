"""The engine's section of the settings."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class WarpOptions(BaseModel):
    """Options of the warp engine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bank_frames: int = Field(1500, ge=1, description="Source frames kept as mouth exemplars for one avatar.")
