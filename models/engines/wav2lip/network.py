"""The Wav2Lip generator as a PyTorch module: its layers, how a checkpoint is loaded, and its input and output.

Layers and parameter names: Rudrabha/Wav2Lip, models/wav2lip.py; the 256 variant: lipku/LiveTalking,
wav2lip/models/wav2lip_v2.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, NamedTuple

import torch
from torch import Tensor, nn

from models.engines.runtime.checkpoints import load_parameters, read_checkpoint, shapes_of
from models.engines.weights.recognition import Shape, tensors_mismatch

Size = Literal[96, 256]
"""Image sizes of the known variants."""

_LAST_OF_256: Final = "face_encoder_blocks.7.0.conv_block.0.weight"


class Unit(NamedTuple):
    """A convolution, batch normalisation and ReLU.

    Attributes:
        kind: A residual unit adds its input before the ReLU.
    """

    kind: Literal["plain", "residual", "transposed"]
    channels_in: int
    channels_out: int
    kernel: int = 3
    stride: tuple[int, int] = (1, 1)
    padding: int = 1


Block = tuple[Unit, ...]


def face_encoder(size: Size) -> tuple[Block, ...]:
    """Return the blocks that see the picture (6 channels); each gives its result to the decoder too."""
    blocks: list[Block] = [(Unit("plain", 6, 16, kernel=7, padding=3),)]
    down = [(16, 32, 2), (32, 64, 3), (64, 128, 2), (128, 256, 2), (256, 512, 1)]
    if size == 256:
        down.append((512, 512, 1))
    blocks += [_resize("plain", channels_in, out, 2, residuals) for channels_in, out, residuals in down]
    last = Unit("plain", 512, 512, kernel=3 if size == 96 else 4, padding=0)
    return (*blocks, (last, Unit("plain", 512, 512, kernel=1, padding=0)))


def audio_encoder() -> Block:
    """Return the units that encode 80 x 16 mel values."""
    return (
        *_resize("plain", 1, 32, 1, 2),
        *_resize("plain", 32, 64, (3, 1), 2),
        *_resize("plain", 64, 128, 3, 2),
        *_resize("plain", 128, 256, (3, 2), 1),
        Unit("plain", 256, 512, padding=0),
        Unit("plain", 512, 512, kernel=1, padding=0),
    )


def face_decoder(size: Size) -> tuple[Block, ...]:
    """Return the blocks that generate; the result of the matching encoder block is appended to that of each."""
    first = Unit("transposed", 1024, 512, kernel=3 if size == 96 else 4, padding=0)
    up = [(768, 384, 2), (512, 256, 2), (320, 128, 2), (160, 64, 2)]
    up = [(1024, 512, 2), *up] if size == 96 else [(1024, 512, 1), (1024, 512, 2), *up]
    return (
        (Unit("plain", 512, 512, kernel=1, padding=0),),
        (first, Unit("residual", 512, 512)),
        *(_resize("transposed", channels_in, out, 2, residuals) for channels_in, out, residuals in up),
    )


OUTPUT_UNIT: Final = Unit("plain", 80, 32)
OUTPUT_CHANNELS: Final = 3


def _resize(
    kind: Literal["plain", "transposed"], channels_in: int, out: int, stride: int | tuple[int, int], residuals: int
) -> Block:
    steps = (stride, stride) if isinstance(stride, int) else stride
    return (Unit(kind, channels_in, out, stride=steps), *(Unit("residual", out, out) for _ in range(residuals)))


class Wav2LipNetwork(nn.Module):
    """Generates mouths that match the speech.

    Args:
        size: Side S of the pictures: 96, or 256 for the variant of the live services.
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.face_encoder_blocks = nn.ModuleList(_sequence(block) for block in face_encoder(size))
        self.audio_encoder = _sequence(audio_encoder())
        self.face_decoder_blocks = nn.ModuleList(_sequence(block) for block in face_decoder(size))
        last = nn.Conv2d(OUTPUT_UNIT.channels_out, OUTPUT_CHANNELS, 1)
        self.output_block = nn.Sequential(_ConvUnit(OUTPUT_UNIT), last, nn.Sigmoid())

    def forward(self, mel: Tensor, face: Tensor) -> Tensor:
        """Generate a batch.

        Args:
            mel: (B, 1, 80, 16) mel windows, -4 to 4.
            face: (B, 6, S, S) the faces in BGR, 0 to 1: with their lower half black, then unmasked.

        Returns:
            (B, 3, S, S) the faces in BGR, 0 to 1.
        """
        seen = []
        for block in self.face_encoder_blocks:
            face = block(face)
            seen.append(face)
        x: Tensor = self.audio_encoder(mel)  # (B, 512, 1, 1)
        for block in self.face_decoder_blocks:
            x = torch.cat((block(x), seen.pop()), 1)
        generated: Tensor = self.output_block(x)
        return generated


class _ConvUnit(nn.Module):
    def __init__(self, unit: Unit) -> None:
        super().__init__()
        self._is_residual = unit.kind == "residual"
        self.conv_block = nn.Sequential(_convolution(unit), nn.BatchNorm2d(unit.channels_out))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv_block(x)
        if self._is_residual:
            result += x
        return result.relu_()


def _convolution(unit: Unit) -> nn.Module:
    ends = unit.channels_in, unit.channels_out, unit.kernel, unit.stride
    if unit.kind != "transposed":
        return nn.Conv2d(*ends, padding=unit.padding)
    # The first step of the decoder expands one point to a square; the others double its size.
    return nn.ConvTranspose2d(*ends, padding=unit.padding, output_padding=1 if unit.stride == (2, 2) else 0)


def _sequence(block: Block) -> nn.Sequential:
    return nn.Sequential(*(_ConvUnit(unit) for unit in block))


def variant_of(tensors: Mapping[str, Shape]) -> Size:
    """Return the published variant that is most similar to a file: that for 256 x 256 has one step more."""
    return 256 if _LAST_OF_256 in tensors else 96


def load_network(path: Path) -> Wav2LipNetwork:
    """Read a checkpoint into a network, on the CPU, in evaluation mode.

    Raises:
        WeightsError: It is damaged or not a Wav2Lip generator.
    """
    parameters = read_checkpoint(path)
    size = variant_of({name: tuple(tensor.shape) for name, tensor in parameters.items()})
    return load_parameters(network_without_values(size), parameters, _title(size), path.name).requires_grad_(False)


def parameters_mismatch(shapes: Mapping[str, Shape]) -> str | None:
    """Return None for the parameters of a known variant, otherwise what was expected and found."""
    size = variant_of(shapes)
    return tensors_mismatch(_title(size), shapes_of(network_without_values(size)), shapes)


def network_without_values(size: Size) -> Wav2LipNetwork:
    """Return the network of a variant on the meta device: values that are replaced at once take a second to make."""
    with torch.device("meta"):
        return Wav2LipNetwork(size)


def _title(size: Size) -> str:
    return f"a Wav2Lip generator for {size} x {size}"


def face_input(faces: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return (B, 6, S, S), 0 to 1, of (B, S, S, 3) uint8 BGR: with the lower half black, then unmasked."""
    batch, size = faces.shape[:2]
    # Channels last in memory: the order of the image, and the one in which convolutions are fastest.
    seen = torch.empty((batch, size, size, 6), dtype=dtype, device=faces.device)
    seen[..., 3:] = faces.float() / 255
    seen[..., :3] = seen[..., 3:]
    seen[:, size // 2 :, :, :3] = 0
    return seen.permute(0, 3, 1, 2)


def face_levels(generated: Tensor) -> Tensor:
    """Round (B, 3, S, S) values from 0 to 1 to (B, S, S, 3) uint8."""
    return (generated.float() * 255).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
