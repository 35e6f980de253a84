"""Paints faces with the generator that the user brought, in PyTorch or as an ONNX export."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from errors import WeightsError
from models.engines.box.box_chunk import BoxChunk
from models.engines.box.paste import paste
from models.engines.box.picture import box_rgb
from models.engines.compute.batch_norm import fold_batch_norm
from models.engines.compute.batches import fixed_batches, usual_batch
from models.engines.compute.checkpoints import file_format, read_checkpoint
from models.engines.compute.device_feed import DeviceFeed
from models.engines.compute.onnx_network import OnnxNetwork
from models.engines.compute.precision import Precision, choose_precision
from models.engines.compute.torch_device import open_device, repeatable
from models.engines.contract import Machine
from models.engines.ultralight.face_box import MASK_COLUMNS, MASK_ROWS, network_pictures
from models.engines.ultralight.network import UltralightNetwork, published_names
from models.engines.ultralight.options import UltralightOptions
from models.engines.ultralight.plan import heard_by_faces
from models.engines.ultralight.variant import SIDE, Hears, Variant, variant_of_audio, variant_of_tensors
from models.face_chunk import FacePatches

_SAMPLES: Final = 4  # faces on which half precision is judged


class Generator(Protocol):
    """The network in some form."""

    variant: Variant

    def __call__(self, faces: NDArray[np.uint8], audio: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return (N, 160, 160, 3) uint8 RGB for (N, 160, 160, 3) uint8 BGR and (N, C, H, W) float32 of sound."""
        ...


class UltralightPainter:
    """Satisfies `models.engines.contract.Painter`.

    Args:
        generator: The network.
        options: How faces are pasted.
    """

    def __init__(self, generator: Generator, options: UltralightOptions) -> None:
        self._generator = generator
        self._options = options

    def paint(self, chunk: BoxChunk) -> FacePatches:
        """Return one finished patch for every face of `chunk`."""
        shown = box_rgb(chunk, SIDE, "area", "bgr")
        variant = self._generator.variant
        faces = self._generator(shown, heard_by_faces(chunk, variant.hears).windows(variant))
        return paste(chunk, faces, self._options.paste, match_colour=self._options.match_colour)


def load_generator(path: Path, machine: Machine, options: UltralightOptions, hears: Hears) -> Generator:
    """Load a generator file of either kind.

    Raises:
        WeightsError: It is not a generator, or one that hears something else than `hears`.
        ConfigError: The device cannot be used.
    """
    kind = file_format(path)
    if kind == "safetensors":
        raise WeightsError(f"Expected a .pth checkpoint or an ONNX export in {path.name}, found a safetensors file.")
    batch = options.batch_size or usual_batch(machine.device)
    generator: Generator
    if kind == "onnx":
        generator = OnnxGenerator(path, machine, batch)
    else:
        generator = TorchGenerator(read_network(path), open_device(machine), batch, options.precision)
    if generator.variant.hears != hears:
        raise WeightsError(
            f"Expected a generator in {path.name} that hears {hears}, found one that hears {generator.variant.hears}: "
            "bring the file that hears for it, or set the option 'hears'."
        )
    return generator


def read_network(path: Path) -> UltralightNetwork:
    """Read a checkpoint of either generation, plain or under `model`.

    Raises:
        WeightsError: It does not hold the parameters of such a network.
    """
    state = published_names(read_checkpoint(path))
    variant = variant_of_tensors({name: tuple(tensor.shape) for name, tensor in state.items()})
    if variant is None:
        raise WeightsError(f"Expected an Ultralight generator in {path.name}, its {len(state)} parameters are others.")
    network = UltralightNetwork(variant.hears, variant.num_frames, variant.width)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(f"Expected the parameters of {variant} in {path.name}: {reason}") from error
    return network.eval()


class TorchGenerator:
    """The network in PyTorch.

    Args:
        network: In evaluation mode.
        device: Where it runs.
        batch_size: Faces at a time; batches that are not full are filled up, so that bytes do not depend on chunks.
        precision: See `models.engines.compute.precision`.
    """

    def __init__(
        self, network: UltralightNetwork, device: torch.device, batch_size: int, precision: Precision = "fp32"
    ) -> None:
        self.variant = network.variant
        self._batch_size = batch_size
        self._feed = DeviceFeed(device)
        with torch.no_grad():
            fold_batch_norm(network)
        full = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._networks: dict[torch.dtype, UltralightNetwork] = {torch.float32: full}
        self._type = self._choose(precision, device)
        self._network = self._in(self._type)
        self._networks = {}

    def __call__(self, faces: NDArray[np.uint8], audio: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return (N, 160, 160, 3) uint8 RGB."""
        painted = np.empty_like(faces)
        if not len(faces):
            return painted
        done = 0
        with repeatable():
            for rows in self._feed.run(fixed_batches([faces, audio], self._batch_size), self._compute):
                painted[done : done + len(rows)] = rows
                done += len(rows)
        return painted

    def _compute(self, faces: Tensor, audio: Tensor) -> Tensor:
        """(B, 160, 160, 3) uint8 BGR -> (B, 160, 160, 3) uint8 RGB, on the device."""
        out = _rewrite(self._network, self._type, faces, audio)
        return (out * 255).round_().to(torch.uint8).flip(1).permute(0, 2, 3, 1)

    def _in(self, number_type: torch.dtype) -> UltralightNetwork:
        if number_type not in self._networks:
            self._networks[number_type] = copy.deepcopy(self._networks[torch.float32]).to(number_type)
        return self._networks[number_type]

    def _choose(self, precision: Precision, device: torch.device) -> torch.dtype:
        rng = np.random.default_rng(0)
        faces = torch.from_numpy(
            rng.integers(0, 256, (_SAMPLES, 10, 10, 3), dtype=np.uint8).repeat(16, 1).repeat(16, 2)
        )
        audio = torch.from_numpy(rng.normal(0, 0.3, (_SAMPLES, *self.variant.audio_shape)).astype(np.float32))
        with repeatable():
            return choose_precision(
                lambda number_type: _rewrite(self._in(number_type), number_type, faces.to(device), audio.to(device)),
                precision,
                device,
            )


class OnnxGenerator:
    """The network as an ONNX export; its inputs are told apart by their shapes.

    Args:
        path: The .onnx file.
        machine: Where it runs.
        batch_size: Faces at a time, where the file leaves that free.

    Raises:
        WeightsError: It is not such a network.
        ConfigError: The device cannot be used.
    """

    def __init__(self, path: Path, machine: Machine, batch_size: int) -> None:
        self._network = OnnxNetwork(path, machine)
        ports = dict(zip(self._network.input_names, self._network.input_shapes, strict=True))
        pictures = [name for name, shape in ports.items() if shape[1:] == (6, SIDE, SIDE)]
        sounds = {name: variant_of_audio(shape) for name, shape in ports.items() if name not in pictures}
        variant = next(iter(sounds.values()), None)
        if len(pictures) != 1 or len(sounds) != 1 or variant is None:
            raise WeightsError(
                f"Expected in {path.name} inputs (B, 6, {SIDE}, {SIDE}) and (B, 16 | 32, 32, 32) or "
                f"(B, 128 | 256, 16, 32), found {list(ports.values())}."
            )
        self.variant = variant
        self._picture, (self._sound,) = pictures[0], sounds
        fixed = {shape[0] for shape in ports.values()} - {-1}
        if len(fixed) > 1:
            raise WeightsError(f"Expected one batch size in {path.name}, found {sorted(fixed)}.")
        self._batch_size = fixed.pop() if fixed else batch_size

    def __call__(self, faces: NDArray[np.uint8], audio: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return (N, 160, 160, 3) uint8 RGB."""
        painted = np.empty_like(faces)
        if not len(faces):
            return painted
        done = 0
        for (shown, heard), num in fixed_batches([faces, audio], self._batch_size):
            out = self._network.run({self._picture: network_pictures(shown), self._sound: heard})[:num]
            if out.shape != (num, 3, SIDE, SIDE):
                raise WeightsError(f"Expected ({num}, 3, {SIDE}, {SIDE}) of the generator, got {out.shape}.")
            painted[done : done + num] = np.rint(out.clip(0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)[..., ::-1]
            done += num
        return painted


def _rewrite(network: UltralightNetwork, number_type: torch.dtype, faces: Tensor, audio: Tensor) -> Tensor:
    """(B, 160, 160, 3) uint8 BGR and sound -> (B, 3, 160, 160) float32 BGR, 0 to 1."""
    shown = faces.permute(0, 3, 1, 2).to(torch.float32) / 255  # (B, 3, 160, 160)
    masked = shown.clone()
    masked[:, :, MASK_ROWS, MASK_COLUMNS] = 0
    picture = torch.cat([shown, masked], 1).to(number_type, memory_format=torch.channels_last)
    out: Any = network(picture, audio.to(number_type))
    return torch.as_tensor(out, dtype=torch.float32)
