"""The generator, in PyTorch or onnxruntime, and the face generator around it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from errors import WeightsError
from models.engines.paste.blend import paste
from models.engines.paste.crop import BoxChunk
from models.engines.paste.resample import box_rgb
from models.engines.patches import FacePatches
from models.engines.protocol import Machine
from models.engines.runtime.batching import SharedBatches
from models.engines.runtime.checkpoints import file_format
from models.engines.runtime.onnx import OnnxNetwork
from models.engines.ultralight.audio import SIDE, AudioKind, Variant, features_by_face, variant_of_audio
from models.engines.ultralight.crop import network_pictures
from models.engines.ultralight.options import UltralightOptions


class Generator(Protocol):
    """Generates mouths."""

    variant: Variant
    """Its audio features."""

    def generate(
        self, faces: NDArray[np.uint8], audio: NDArray[np.float32], should_stop: Callable[[], bool] = lambda: False
    ) -> NDArray[np.uint8]:
        """Generate N faces.

        Args:
            faces: (N, 160, 160, 3) uint8 BGR.
            audio: (N, C, H, W) float32 sound, see `Variant.audio_shape`.
            should_stop: See `protocol.FaceGenerator.generate`.

        Returns:
            (N, 160, 160, 3) uint8 RGB.
        """
        ...


def load_generator(path: Path, machine: Machine, options: UltralightOptions, audio_kind: AudioKind) -> Generator:
    """Load a file of either kind.

    Raises:
        WeightsError: It is not a generator of this family, or takes other features than `audio_kind`.
        ConfigError: The requested device is not available.
    """
    generator = _load(path, machine, options)
    if generator.variant.audio_kind != audio_kind:
        raise WeightsError(
            f"Expected a generator in {path.name} for {audio_kind} features, found one for "
            f"{generator.variant.audio_kind}: add that audio encoder, or set the option 'hears'."
        )
    return generator


def _load(path: Path, machine: Machine, options: UltralightOptions) -> Generator:
    if file_format(path) == "onnx":
        return OnnxGenerator(path, machine, options)
    # Imported here: an ONNX network on a CPU needs no PyTorch, whose import takes two seconds.
    from models.engines.ultralight.network import TorchGenerator

    return TorchGenerator(path, machine, options)


class OnnxGenerator:
    """An ONNX export (pth2onnx.py uses batches of 1); its inputs are identified by their shapes.

    Args:
        path: The .onnx file.
        machine: Where it runs.
        options: Batch size, where the file leaves that free.

    Raises:
        WeightsError: It is not such a network.
        ConfigError: The device cannot be used.
    """

    def __init__(self, path: Path, machine: Machine, options: UltralightOptions) -> None:
        self._network = OnnxNetwork(path, machine)
        ports = dict(zip(self._network.input_names, self._network.input_shapes, strict=True))
        pictures = [name for name, shape in ports.items() if shape[1:] == (6, SIDE, SIDE)]
        sounds = {name: variant_of_audio(shape) for name, shape in ports.items() if name not in pictures}
        variant = next(iter(sounds.values()), None)
        fixed = {shape[0] for shape in ports.values() if shape} - {-1}
        if len(pictures) != 1 or len(sounds) != 1 or variant is None or len(fixed) > 1:
            raise WeightsError(
                f"Expected in {path.name} inputs (B, 6, {SIDE}, {SIDE}) and (B, 16 | 32, 32, 32) or "
                f"(B, 128 | 256, 16, 32), found {list(ports.values())}."
            )
        self.variant = variant
        self._picture, (self._sound,) = pictures[0], sounds
        self._batches = SharedBatches(fixed.pop() if fixed else options.batch_for(machine.device))

    def generate(
        self, faces: NDArray[np.uint8], audio: NDArray[np.float32], should_stop: Callable[[], bool] = lambda: False
    ) -> NDArray[np.uint8]:
        """Generate N faces; see `Generator.generate`."""
        generated = np.empty_like(faces)
        self._batches.fill_each(generated, (faces, audio), self._generate_batch, should_stop)
        return generated

    def _generate_batch(self, faces: NDArray[np.uint8], audio: NDArray[np.float32]) -> NDArray[np.uint8]:
        out = self._network.run({self._picture: network_pictures(faces), self._sound: audio})
        if out.shape != (len(faces), 3, SIDE, SIDE):
            raise WeightsError(f"Expected ({len(faces)}, 3, {SIDE}, {SIDE}) of the generator, got {out.shape}.")
        levels: NDArray[np.uint8] = np.rint(np.nan_to_num(out).clip(0, 1) * 255).astype(np.uint8)
        return levels.transpose(0, 2, 3, 1)[..., ::-1]


# Generates chunks: runs the network on each box and blends the result into the frame.


class UltralightFaceGenerator:
    """Implements `models.engines.protocol.FaceGenerator`.

    Args:
        generator: The network.
        options: How its pictures are pasted.
    """

    def __init__(self, generator: Generator, options: UltralightOptions) -> None:
        self._generator = generator
        self._options = options

    def generate(self, chunk: BoxChunk, should_stop: Callable[[], bool] = lambda: False) -> FacePatches:
        """Return one patch for every face of a chunk of this engine; the same chunk gives the same bytes."""
        shown = box_rgb(chunk, SIDE, "area", "bgr")
        variant = self._generator.variant
        heard = features_by_face(chunk, variant.audio_kind).windows(variant)
        faces = self._generator.generate(shown, heard, should_stop)
        return paste(chunk, faces, self._options.paste, match_colour=self._options.match_colour)
