"""The engine's section of the settings."""

from __future__ import annotations

from pydantic import Field

from models.engines.base import GeneratorOptions
from models.engines.paste.blend import PasteStyle
from models.engines.wav2lip.audio import MAX_OFFSET


class Wav2LipOptions(GeneratorOptions):
    """Settings of the engine `wav2lip`."""

    mel_offset: int = Field(
        0,
        ge=-MAX_OFFSET,
        le=MAX_OFFSET,
        description="Shift of the audio window, in frames of 40 ms: 0 as the official script, -1 as in training "
        "(see models/engines/wav2lip/audio.py). Use -1 if mouths are early by a frame.",
    )
    paste: PasteStyle = Field(
        "soft", description="`soft` mixes the lower face in, `rectangle` writes the whole box as the official script."
    )
    batch_size: int = Field(
        0,
        ge=0,
        le=128,
        description="Faces per batch; 0: 4 on a CPU, 16 on a GPU. Must be equal on all replicas, or results differ.",
    )
