"""The settings' section of restoration."""

from __future__ import annotations

from pydantic import Field

from models.engines.base import EngineOptions


class RestorationOptions(EngineOptions):
    """How generated faces are sharpened, where a restoration network was added."""

    strength: float = Field(
        0.7, ge=0, le=1, description="Opacity of the restored face in the middle of its mask; 0 turns restoration off."
    )
    fidelity: float = Field(
        0.7,
        ge=0,
        le=1,
        description="For networks with a fidelity input (CodeFormer): how closely the result follows the input face.",
    )
