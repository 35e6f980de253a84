"""The networks of MuseTalk: loading them, generating faces with them, and choosing their precision."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from lipwright.errors import ConfigError
from models.engines.musetalk.plan import ROWS_PER_FRAME
from models.engines.runtime.checkpoints import load_parameters, read_checkpoint
from models.engines.runtime.torch_device import choose_precision, repeatable


@dataclass(frozen=True)
class Architecture:
    """Sizes of a U-Net and a VAE that belong together."""

    unet: Mapping[str, Any]  # arguments of diffusers' UNet2DConditionModel
    vae: Mapping[str, Any]  # arguments of diffusers' AutoencoderKL
    picture_size: int = 256  # side of the faces in pixels
    latent_scale: float = 0.18215  # factor of the VAE's latents as the U-Net sees them


# musetalkV15/musetalk.json (that of version 1 is the same); parameters that it does not list have the defaults of
# diffusers, which have not changed since. Despite its name, `attention_head_dim` is the number of heads.
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
_OLD_NAMES: Final = re.compile(r"(?<=\.attentions\.\d\.)(query|key|value|proj_attn)(?=\.)")
_NEW_NAMES: Final = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def make_unet(architecture: Architecture, path: Path | None = None) -> nn.Module:
    """Make the U-Net: with the weights of a file, or without any on the meta device.

    Raises:
        WeightsError: The file is another network's.
        ConfigError: diffusers is not installed.
    """
    with torch.device("meta"):
        unet: nn.Module = _diffusers().UNet2DConditionModel(**architecture.unet)
    if path is None:
        return unet.eval()
    return load_parameters(unet, read_checkpoint(path), "MuseTalk's U-Net", path.name)


def make_vae(architecture: Architecture, path: Path | None = None) -> nn.Module:
    """Make the VAE; see `make_unet`."""
    with torch.device("meta"):
        vae: nn.Module = _diffusers().AutoencoderKL(**architecture.vae)
    if path is None:
        return vae.eval()
    return load_parameters(vae, vae_tensors(read_checkpoint(path)), "Stable Diffusion's VAE", path.name)


def vae_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a VAE's tensors under the names that diffusers has today.

    The attention's projections were 1 x 1 convolutions in the oldest files; they are matrices now.
    """
    renamed = {}
    for name, tensor in tensors.items():
        name = _OLD_NAMES.sub(lambda match: _NEW_NAMES[match[0]], name)
        is_projection = ".attentions." in name and ".to_" in name
        renamed[name] = tensor.flatten(1) if is_projection and tensor.ndim == 4 else tensor
    return renamed


def _diffusers() -> Any:
    try:
        import diffusers
    except ImportError as error:
        raise ConfigError("musetalk needs the extra `musetalk`: pip install -e '.[musetalk]'.") from error
    return diffusers


_WAVE_BASE = 10000.0  # Vaswani et al., "Attention is all you need", 2017, 3.5


class FaceNetworks:
    """U-Net and VAE, with their weights, on one device in one precision.

    They turn pictures into latents, and latents and speech into pictures.
    """

    def __init__(
        self,
        unet: nn.Module,
        vae: nn.Module,
        architecture: Architecture,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.architecture = architecture
        self.device = device
        self.dtype = dtype
        # The method of nn.Module: that of diffusers logs a line about modules that these networks do not have. Any:
        # torch does not declare memory_format, and the VAE is called by more than its forward.
        move: Any = nn.Module.to
        self._unet: Any = move(unet, device, dtype, memory_format=torch.channels_last)
        self._vae: Any = move(vae, device, dtype, memory_format=torch.channels_last)
        self._timestep = torch.zeros(1, dtype=torch.long, device=device)
        self._waves = torch.empty(0, 0)

    def in_precision(self, dtype: torch.dtype) -> FaceNetworks:
        """Return copies of the networks in another precision."""
        unet, vae = make_unet(self.architecture), make_vae(self.architecture)
        for copy, own in ((unet, self._unet), (vae, self._vae)):
            copy.load_state_dict({name: tensor.to(dtype) for name, tensor in own.state_dict().items()}, assign=True)
        return FaceNetworks(unet, vae, self.architecture, self.device, dtype)

    @repeatable()
    def encode(self, pictures: Tensor) -> Tensor:
        """Compute what the U-Net sees of faces: their latents without the lower half, and those of the whole.

        The VAE gives a distribution. The published code draws from it, so that the same frame is generated differently
        each time; here its mode is taken: the bytes are the same each time, and no grain differs from frame to frame.

        Args:
            pictures: (B, S, S, 3) uint8 RGB.

        Returns:
            (B, 8, S / 8, S / 8) masked, then whole; in the networks' precision.
        """
        whole = pictures.to(self.device).permute(0, 3, 1, 2).to(self.dtype) / 127.5 - 1  # (B, 3, S, S)
        masked = whole.clone()
        masked[:, :, whole.shape[2] // 2 :] = -1  # black
        stacked = torch.cat([masked, whole]).contiguous(memory_format=torch.channels_last)
        latents = self._vae.encode(stacked).latent_dist.mode() * self.architecture.latent_scale
        return torch.cat(latents.chunk(2), 1)

    def render(self, latents: Tensor, features: Tensor) -> Tensor:
        """Generate faces in whole levels: (B, S, S, 3) uint8 RGB; see `paint_exactly`."""
        return (self.paint_exactly(latents, features) * 255).round().byte()

    @repeatable()
    def paint_exactly(self, latents: Tensor, features: Tensor) -> Tensor:
        """Generate faces.

        Args:
            latents: (B, 8, S / 8, S / 8) of `encode`.
            features: (B, N, C) float32 rows of the speech, without positional encoding.

        Returns:
            (B, S, S, 3) float32 RGB, 0 to 1.
        """
        heard = self._mark_places(features.to(self.device)).to(self.dtype)
        seen = latents.contiguous(memory_format=torch.channels_last)
        generated = self._unet(seen, self._timestep, encoder_hidden_states=heard).sample
        pictures: Tensor = self._vae.decode(generated / self.architecture.latent_scale).sample.float()  # (B, 3, S, S)
        return (pictures / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)

    def _mark_places(self, features: Tensor) -> Tensor:
        """Add the waves, which stay on the device."""
        if self._waves.shape != features.shape[1:]:
            self._waves = place_waves(*features.shape[1:]).to(self.device)
        return features + self._waves


def place_waves(num: int, width: int) -> Tensor:
    """Return the (num, width) float32 encoding of positions 0 to num - 1: sines in even channels, cosines in odd ones.

    musetalk/models/unet.py adds it to the rows, so that the network can tell them apart.
    """
    place = torch.arange(num, dtype=torch.float32)[:, None]
    rate = _WAVE_BASE ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
    return torch.stack([torch.sin(place * rate), torch.cos(place * rate)], 2).flatten(1)


_NUM_STATES: Final = 5  # hidden states of Whisper tiny


def in_fitting_precision(networks: FaceNetworks, wanted: Literal["auto", "half", "fp32"]) -> FaceNetworks:
    """Return the networks in the requested precision, if their weights allow it.

    A VAE of this kind is known to overflow fp16 with some weights, and anyone may have trained the U-Net, so each file
    is tested.

    Args:
        networks: In fp32.
        wanted: "fp32" tests nothing; "auto" tests fp16 on a GPU and nothing on a CPU: there the test takes half a
            minute, and bf16, with three bits less than fp16, seldom passes (networks of the published size with random
            weights: 1.5 levels on average). "half" uses it anyway: it takes half the time and half the memory.
    """
    if wanted == "fp32" or (wanted == "auto" and networks.device.type == "cpu"):
        return networks
    tried = {torch.float32: networks}

    def generate(dtype: torch.dtype) -> Tensor:
        if dtype not in tried:
            tried[dtype] = networks.in_precision(dtype)
        return paint_sample(tried[dtype])

    return tried[choose_precision(generate, "auto", networks.device)]


def paint_sample(networks: FaceNetworks) -> Tensor:
    """Generate the synthetic face: (1, S, S, 3) float32, 0 to 1; NaN where a latent is not finite."""
    generator = torch.Generator().manual_seed(0)
    width = int(networks.architecture.unet["cross_attention_dim"])
    features = torch.randn(1, ROWS_PER_FRAME * _NUM_STATES, width, generator=generator)
    latents = networks.encode(sample_face(networks.architecture.picture_size, generator))
    return networks.paint_exactly(latents, features)


def sample_face(size: int, generator: torch.Generator) -> Tensor:
    """Draw (1, S, S, 3) uint8: a light oval on soft spots with some grain; no network needs to detect a face in it."""
    spots = torch.rand(1, 3, 8, 8, generator=generator) * 80
    picture = functional.interpolate(spots, (size, size), mode="bicubic") + 60
    across = torch.linspace(-1, 1, size)
    oval = ((across[None] / 0.7) ** 2 + (across[:, None] / 0.9) ** 2) < 1
    picture = picture + 70 * oval + 4 * torch.randn(picture.shape, generator=generator)
    return picture.clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous()
