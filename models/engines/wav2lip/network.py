"""The generator in PyTorch, with the parameter names of the published checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.engines.protocol import ComputeResources
from models.engines.runtime.batching import advise_batch, usual_batch
from models.engines.runtime.checkpoints import load_parameters, read_checkpoint, shapes_of
from models.engines.runtime.device_feed import FoldedNetwork
from models.engines.runtime.torch_device import open_device, repeatable
from models.engines.wav2lip.options import Wav2LipOptions
from models.engines.wav2lip.weights import MEL_BANDS, WINDOW_COLUMNS, Size, variant_of
from models.engines.weights.recognition import Shape, tensors_mismatch

# The layers of the generator, as data. Source: Rudrabha/Wav2Lip, models/wav2lip.py; the 256 variant:
# lipku/LiveTalking, wav2lip/models/wav2lip_v2.py.


class Unit(NamedTuple):
    """A convolution, batch normalisation and ReLU."""

    kind: Literal["plain", "residual", "transposed"]
    """A residual unit adds its input before the ReLU."""
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


# Synthetic faces and speech, the same on every machine, to compare precisions and to measure speed.

# BGR colours; the proportions of a face box are those of `models.engines.wav2lip.crop`.
_SKINS = ((150, 180, 225), (90, 120, 170), (50, 70, 110), (190, 200, 235))
_WALL, _EYE, _LIP = (120, 110, 100), (40, 35, 35), (90, 80, 170)
_EYES_Y, _MOUTH_Y = 0.31, 0.70


def sample_faces(num: int, size: int) -> NDArray[np.uint8]:
    """Draw faces.

    Returns:
        (num, size, size, 3) uint8 BGR: an oval with eyes and a mouth, light from one side, grain.
    """
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    faces = np.empty((num, size, size, 3), np.uint8)
    for i in range(num):
        picture = np.empty((size, size, 3))
        picture[:] = _WALL
        picture[_ellipse(x, y, 0.5, 0.5, 0.46, 0.54)] = _SKINS[i % len(_SKINS)]
        for eye in (0.32, 0.68):
            picture[_ellipse(x, y, eye, _EYES_Y, 0.07, 0.03)] = _EYE
        picture[_ellipse(x, y, 0.5, _MOUTH_Y, 0.16, 0.02 + 0.015 * i)] = _LIP
        light = 0.85 + 0.3 * (x if i % 2 else 1 - x)
        grain = np.random.RandomState(i).randint(-4, 5, (size, size, 1))
        faces[i] = (picture * light[..., None] + grain).clip(0, 255)
    return faces


def sample_windows(num: int) -> NDArray[np.float32]:
    """Return (num, 80, 16) float32 mel windows: voiced sound of different pitch between silence and a hiss."""
    band = np.arange(MEL_BANDS)[:, None]
    column = np.arange(WINDOW_COLUMNS)[None]
    windows = np.empty((num, MEL_BANDS, WINDOW_COLUMNS), np.float32)
    for i in range(num):
        harmonics = np.cos(band * (0.7 + 0.2 * (i % 4))) - band / 30
        loudness = np.sin((column + 3 * i) / 5) ** 2
        windows[i] = (-4 + loudness * (3.5 + harmonics)).clip(-4, 4)
    return windows


def _ellipse(
    x: NDArray[np.float64], y: NDArray[np.float64], middle_x: float, middle_y: float, half_x: float, half_y: float
) -> NDArray[np.bool_]:
    return np.asarray(((x - middle_x) / half_x) ** 2 + ((y - middle_y) / half_y) ** 2 < 1)


# The generator in PyTorch: folded, in the fastest memory order, in half precision where the difference is invisible.

_NUM_SAMPLES = 4


class TorchGenerator:
    """A published checkpoint; see `models.engines.wav2lip.generator.OnnxGenerator`.

    Raises:
        WeightsError: It is damaged or not a Wav2Lip generator.
        ConfigError: CUDA was requested but is not available.
    """

    def __init__(self, path: Path, resources: ComputeResources, options: Wav2LipOptions) -> None:
        self._device = open_device(resources)
        network = load_network(path)
        self.size: int = network.size
        self.batch_size = options.batch_size or usual_batch(resources.device)
        self._folded = FoldedNetwork(network, self._device, self.batch_size, options.precision, self._run_samples)
        self.dtype = self._folded.dtype
        if options.measure_batch:
            with repeatable():
                advise_batch(self._time, self.batch_size)

    def generate(
        self, faces: NDArray[np.uint8], windows: NDArray[np.float32], should_stop: Callable[[], bool] = lambda: False
    ) -> NDArray[np.uint8]:
        """Generate N faces; see `OnnxGenerator.generate`."""
        generated = np.empty_like(faces)
        self._folded.batches.fill(generated, (faces, windows), self._generate_batch, should_stop)
        return generated

    def _generate_batch(self, faces: Tensor, windows: Tensor) -> Tensor:
        return face_levels(self._folded.network(windows[:, None].to(self.dtype), face_input(faces, self.dtype)))

    def _run_samples(self, network: nn.Module, dtype: torch.dtype) -> Tensor:
        """Return (4, 3, S, S) what a network in `dtype` generates of synthetic faces."""
        faces = torch.from_numpy(sample_faces(_NUM_SAMPLES, self.size)).to(self._device)
        windows = torch.from_numpy(sample_windows(_NUM_SAMPLES)).to(self._device)
        generated: Tensor = network(windows[:, None].to(dtype), face_input(faces, dtype))
        return generated

    def _time(self, batch: int) -> None:
        faces = torch.zeros((batch, self.size, self.size, 3), dtype=torch.uint8, device=self._device)
        self._generate_batch(faces, torch.from_numpy(sample_windows(batch)).to(self._device)).cpu()


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
    """Return (B, 6, S, S), 0 to 1, of (B, S, S, 3) uint8 BGR: with the lower half black, then as they are."""
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
