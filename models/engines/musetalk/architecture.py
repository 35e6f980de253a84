"""The networks of MuseTalk, in the sizes in which they were published, made without weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from errors import ConfigError
from models.engines.compute.checkpoints import read_checkpoint
from models.engines.musetalk.network_weights import fill


@dataclass(frozen=True)
class Architecture:
    """Sizes of a U-Net and a VAE that belong together.

    Attributes:
        unet: Arguments of diffusers' UNet2DConditionModel.
        vae: Arguments of diffusers' AutoencoderKL.
        picture_size: Side of the faces in pixels.
        latent_scale: Factor of the VAE's latents as the U-Net sees them.
    """

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    picture_size: int = 256
    latent_scale: float = 0.18215


# musetalkV15/musetalk.json (that of version 1 is the same); what is not named there has the default of diffusers, which
# did not change since. `attention_head_dim` is the number of heads: diffusers never mended that name.
_UNET: Final = {
    "sample_size": 64,
    "in_channels": 8,
    "out_channels": 4,
    "cross_attention_dim": 384,
    "attention_head_dim": 8,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "act_fn": "silu",
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "center_input_sample": False,
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_scale_factor": 1,
}
# config.json of stabilityai/sd-vae-ft-mse.
_VAE: Final = {
    "sample_size": 256,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "act_fn": "silu",
    "norm_num_groups": 32,
}
PUBLISHED: Final = Architecture(_UNET, _VAE)

# The VAE's attention under the names of the diffusers of 2022, which the published file still has.
_OLD_NAMES: Final = (
    (re.compile(r"(\.attentions\.\d+)\.query\."), r"\1.to_q."),
    (re.compile(r"(\.attentions\.\d+)\.key\."), r"\1.to_k."),
    (re.compile(r"(\.attentions\.\d+)\.value\."), r"\1.to_v."),
    (re.compile(r"(\.attentions\.\d+)\.proj_attn\."), r"\1.to_out.0."),
)


def make_unet(architecture: Architecture, path: Path | None = None) -> nn.Module:
    """Make the U-Net: with the weights of a file, or without any on the meta device.

    Raises:
        WeightsError: The file is another network's.
        ConfigError: diffusers is not installed.
    """
    with torch.device("meta"):
        unet: nn.Module = _diffusers().UNet2DConditionModel(**architecture.unet)
    if path is not None:
        fill(unet, read_checkpoint(path), path)
    return unet.eval()


def make_vae(architecture: Architecture, path: Path | None = None) -> nn.Module:
    """Make the VAE: with the weights of a file, or without any on the meta device.

    Raises:
        WeightsError: The file is another network's.
        ConfigError: diffusers is not installed.
    """
    with torch.device("meta"):
        vae: nn.Module = _diffusers().AutoencoderKL(**architecture.vae)
    if path is not None:
        fill(vae, vae_tensors(read_checkpoint(path)), path)
    return vae.eval()


def vae_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a VAE's tensors under the names that diffusers has today.

    The attention's projections were 1 x 1 convolutions in the oldest files; they are matrices now.
    """
    renamed = {}
    for name, tensor in tensors.items():
        for pattern, replacement in _OLD_NAMES:
            name = pattern.sub(replacement, name)
        is_projection = ".attentions." in name and ".to_" in name
        renamed[name] = tensor.flatten(1) if is_projection and tensor.ndim == 4 else tensor
    return renamed


def _diffusers() -> Any:
    try:
        import diffusers
    except ImportError as error:
        raise ConfigError("musetalk: needs the extra of that name: pip install 'lipwright[musetalk]'.") from error
    return diffusers
