"""The settings' section of restoration."""

from __future__ import annotations

from pydantic import Field

from models.engines.base import EngineOptions


class RestorationOptions(EngineOptions):
    """How generated faces are sharpened, where a restoration network was added."""

    strength: float = Field(
        0.7, ge=0, le=1, description="Share of the restored face in the middle of its mask; 0 does nothing."
    )
    fidelity: float = Field(
        0.7, ge=0, le=1, description="For networks that ask for it (CodeFormer): how far they keep to what they see."
    )
