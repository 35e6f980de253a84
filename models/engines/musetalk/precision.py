"""In which precision a user's weights are run: half is tried on a face that is made up."""

from __future__ import annotations

from typing import Final, Literal

import torch
import torch.nn.functional as functional
from torch import Tensor

from models.engines.compute.precision import choose_precision
from models.engines.musetalk.face_networks import FaceNetworks
from models.engines.musetalk.speech_rows import ROWS_PER_FRAME

_NUM_STATES: Final = 5  # hidden states of Whisper tiny


def in_fitting_precision(networks: FaceNetworks, wanted: Literal["auto", "half", "fp32"]) -> FaceNetworks:
    """Return the networks in the precision that was asked for, if their weights allow it.

    A VAE of this kind is known to overflow fp16 with some weights, and the U-Net may be anybody's training: what a file
    holds is tried.

    Args:
        networks: In fp32.
        wanted: "fp32" tries nothing; "auto" tries fp16 on a GPU and nothing on a CPU: there the trial takes half a
            minute, and bf16, with three bits less than fp16, seldom passes (networks of the published size with random
            weights: 1.5 levels on average). "half" tries it all the same: it takes half the time and half the memory.
    """
    if wanted == "fp32" or (wanted == "auto" and networks.device.type == "cpu"):
        return networks
    tried = {torch.float32: networks}

    def paint(dtype: torch.dtype) -> Tensor:
        if dtype not in tried:
            tried[dtype] = networks.in_precision(dtype)
        return paint_sample(tried[dtype])

    return tried[choose_precision(paint, "auto", networks.device)]


def paint_sample(networks: FaceNetworks) -> Tensor:
    """Paint the made-up face: (1, S, S, 3) float32, 0 to 1; NaN where a latent is not finite."""
    generator = torch.Generator().manual_seed(0)
    width = int(networks.architecture.unet["cross_attention_dim"])
    drive = torch.randn(1, ROWS_PER_FRAME * _NUM_STATES, width, generator=generator)
    latents = networks.encode(sample_face(networks.architecture.picture_size, generator))
    return networks.paint_exactly(latents, drive)


def sample_face(size: int, generator: torch.Generator) -> Tensor:
    """Draw (1, S, S, 3) uint8: a light oval on soft spots with some grain; no network has to take it for a face."""
    spots = torch.rand(1, 3, 8, 8, generator=generator) * 80
    picture = functional.interpolate(spots, (size, size), mode="bicubic") + 60
    across = torch.linspace(-1, 1, size)
    oval = ((across[None] / 0.7) ** 2 + (across[:, None] / 0.9) ** 2) < 1
    picture = picture + 70 * oval + 4 * torch.randn(picture.shape, generator=generator)
    return picture.clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous()
