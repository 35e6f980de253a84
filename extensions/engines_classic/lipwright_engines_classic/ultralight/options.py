"""The engine's section of the settings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from models.engines.base import GeneratorOptions


class UltralightOptions(GeneratorOptions):
    """Options of the engine `ultralight`."""

    audio_encoder: Literal["auto", "hubert", "wenet"] = Field(
        "auto", description="Audio encoder that the generator was trained with; auto: the one whose file was added."
    )
    paste: Literal["soft", "rectangle"] = Field(
        "soft", description="soft: the lower face with a soft edge; rectangle: the whole box, as its authors paste it."
    )
    batch_size: int = Field(
        0,
        ge=0,
        le=64,
        description="Faces per batch; 0: 1 on a CPU, 16 on a GPU. Must be equal on all replicas, or results differ.",
    )

    def batch_for(self, device: str) -> int:
        """Return the batch size for a device, "cpu" or "cuda".

        Measured on one core of a busy machine: 92, 107, 131 and 147 ms per frame in batches of 1, 2, 4 and 8. The
        network has many small layers, and a single face stays in the cache.
        """
        return self.batch_size or (16 if device == "cuda" else 1)
