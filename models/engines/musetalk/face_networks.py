"""Both networks of MuseTalk on one device: pictures to latents, latents and speech to pictures."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.engines.compute.torch_device import repeatable
from models.engines.musetalk.architecture import Architecture, make_unet, make_vae

_WAVE_BASE = 10000.0  # Vaswani et al., "Attention is all you need", 2017, 3.5


class FaceNetworks:
    """U-Net and VAE.

    Args:
        unet: With its weights, of `make_unet`.
        vae: With its weights, of `make_vae`.
        architecture: Their sizes.
        device: Where they are to run.
        dtype: In what.
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
        # nn.Module's own method: diffusers' writes a line to the log about modules that it has none of here. Any: torch
        # does not declare memory_format, and the VAE is called by more than its forward.
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

        The VAE gives a distribution. The published code draws from it, so that the same frame is painted differently
        each time; here its mode is taken, which is what the draws lie around: same bytes twice, and no grain that
        differs from frame to frame.

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

    def render(self, latents: Tensor, drive: Tensor) -> Tensor:
        """Paint faces in whole levels: (B, S, S, 3) uint8 RGB; see `paint_exactly`."""
        return (self.paint_exactly(latents, drive) * 255).round().byte()

    @repeatable()
    def paint_exactly(self, latents: Tensor, drive: Tensor) -> Tensor:
        """Paint faces.

        Args:
            latents: (B, 8, S / 8, S / 8) of `encode`.
            drive: (B, N, C) float32 rows that are heard, their places not yet marked.

        Returns:
            (B, S, S, 3) float32 RGB, 0 to 1.
        """
        heard = self._mark_places(drive.to(self.device)).to(self.dtype)
        seen = latents.contiguous(memory_format=torch.channels_last)
        painted = self._unet(seen, self._timestep, encoder_hidden_states=heard).sample
        pictures: Tensor = self._vae.decode(painted / self.architecture.latent_scale).sample.float()  # (B, 3, S, S)
        return (pictures / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)

    def _mark_places(self, drive: Tensor) -> Tensor:
        """Add the waves, which stay on the device."""
        if self._waves.shape != drive.shape[1:]:
            self._waves = place_waves(*drive.shape[1:]).to(self.device)
        return drive + self._waves


def place_waves(num: int, width: int) -> Tensor:
    """Return (num, width) float32 marks of the places 0 to num - 1: sines in even channels, cosines in odd ones.

    musetalk/models/unet.py adds them to the rows: it is how the network tells them apart.
    """
    place = torch.arange(num, dtype=torch.float32)[:, None]
    rate = _WAVE_BASE ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
    return torch.stack([torch.sin(place * rate), torch.cos(place * rate)], 2).flatten(1)
