"""Whether a user's weights may be run in half precision: it is tried on faces that are made up."""

from __future__ import annotations

import logging
from typing import Final, Literal, NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor

from errors import ConfigError
from models.engines.musetalk.face_networks import FaceNetworks
from models.engines.musetalk.speech_rows import ROWS_PER_FRAME

Precision = Literal["auto", "fp32", "half"]

_log = logging.getLogger(__name__)

# In levels of 8-bit pictures: on average no more than rounding to whole levels makes at most, nowhere more than what a
# compressed video hides.
MAX_MEAN: Final = 0.5
MAX_ANYWHERE: Final = 12.0
_NUM_FACES: Final = 2
_NUM_STATES: Final = 5  # hidden states of Whisper tiny


class Difference(NamedTuple):
    """How far pictures in half precision are from those in fp32, in levels; infinite where they overflow."""

    mean: float
    largest: float

    @property
    def is_small(self) -> bool:
        """Whether nobody would see it."""
        return self.mean <= MAX_MEAN and self.largest <= MAX_ANYWHERE


def in_fitting_precision(networks: FaceNetworks, precision: Precision) -> FaceNetworks:
    """Return the networks in the precision that was asked for, if their weights allow it.

    The trial is the same for the same weights and device, so every replica decides alike.

    Args:
        networks: In fp32.
        precision: "half" is fp16 on a GPU and bf16 on a CPU. "auto" is half on a GPU and fp32 on a CPU, where bf16
            gains only on some machines, which then would not paint the bytes that the others paint.

    Raises:
        ConfigError: Half precision was demanded, and pictures differ.
    """
    is_cuda = networks.device.type == "cuda"
    if precision == "fp32" or (precision == "auto" and not is_cuda):
        return networks
    half = networks.in_precision(torch.float16 if is_cuda else torch.bfloat16)
    difference = compare(networks, half)
    found = f"{half.dtype} differs from fp32 by {difference.mean:.2f} levels, {difference.largest:.0f} at most"
    if difference.is_small:
        _log.info("musetalk: %s: used", found)
        return half
    bounds = f"{MAX_MEAN} levels, {MAX_ANYWHERE:.0f} at most"
    if precision == "half":
        raise ConfigError(f"musetalk: precision: expected half precision within {bounds}; {found}.")
    _log.warning("musetalk: %s, more than %s: fp32 is used", found, bounds)
    return networks


def compare(whole: FaceNetworks, half: FaceNetworks) -> Difference:
    """Paint made-up faces with both."""
    generator = torch.Generator().manual_seed(0)
    pictures = _made_up_faces(whole.architecture.picture_size, generator)
    width = int(whole.architecture.unet["cross_attention_dim"])
    drive = torch.randn(_NUM_FACES, ROWS_PER_FRAME * _NUM_STATES, width, generator=generator)
    painted = []
    for networks in (whole, half):
        latents = networks.encode(pictures)
        if not bool(latents.isfinite().all()):
            return Difference(float("inf"), float("inf"))
        painted.append(networks.render(latents, drive).float())
    difference = (painted[0] - painted[1]).abs()
    return Difference(float(difference.mean()), float(difference.max()))


def _made_up_faces(size: int, generator: torch.Generator) -> Tensor:
    """(2, S, S, 3) uint8: a light oval on grey with soft spots and some grain; networks need not take it for a face."""
    spots = torch.rand(_NUM_FACES, 3, 8, 8, generator=generator) * 80
    picture = functional.interpolate(spots, (size, size), mode="bicubic") + 60
    across = torch.linspace(-1, 1, size)
    oval = ((across[None] / 0.7) ** 2 + (across[:, None] / 0.9) ** 2) < 1
    picture = picture + 70 * oval + 4 * torch.randn(picture.shape, generator=generator)
    return picture.clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous()
