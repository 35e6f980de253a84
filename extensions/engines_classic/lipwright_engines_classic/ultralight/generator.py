"""Generates faces: runs the network in onnxruntime or PyTorch on each box and blends the result into the frame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lipwright.errors import WeightsError
from lipwright_engines_classic.ultralight.audio import features_by_face
from lipwright_engines_classic.ultralight.engine import network_pictures
from lipwright_engines_classic.ultralight.options import UltralightOptions
from lipwright_engines_classic.ultralight.weights import SIDE, AudioKind, generator_mismatch, generator_variant
from models.engines.paste.blend import paste
from models.engines.paste.crop import BoxChunk
from models.engines.paste.resample import box_rgb
from models.engines.patches import FacePatches
from models.engines.protocol import ComputeResources
from models.engines.runtime.batching import SharedBatches
from models.engines.runtime.checkpoints import file_format
from models.engines.runtime.onnx import OnnxNetwork

if TYPE_CHECKING:
    from lipwright_engines_classic.ultralight.torch_generator import TorchGenerator


def load_generator(
    path: Path, resources: ComputeResources, options: UltralightOptions, audio_kind: AudioKind
) -> OnnxGenerator | TorchGenerator:
    """Load a file of either kind.

    Raises:
        WeightsError: It is not a generator of this family, or takes other features than `audio_kind`.
        ConfigError: The requested device is not available.
    """
    generator = _load(path, resources, options)
    if generator.variant.audio_kind != audio_kind:
        raise WeightsError(
            f"Expected a generator in {path.name} for {audio_kind} features, found one for "
            f"{generator.variant.audio_kind}: add that audio encoder, or set the option 'audio_encoder'."
        )
    return generator


def _load(path: Path, resources: ComputeResources, options: UltralightOptions) -> OnnxGenerator | TorchGenerator:
    if file_format(path) == "onnx":
        return OnnxGenerator(path, resources, options)
    # Imported here: an ONNX network on a CPU needs no PyTorch, whose import takes two seconds.
    from lipwright_engines_classic.ultralight.torch_generator import TorchGenerator

    return TorchGenerator(path, resources, options)


class OnnxGenerator:
    """An ONNX export (pth2onnx.py uses batches of 1); its inputs are identified by their shapes.

    Raises:
        WeightsError: It is not such a network.
        ConfigError: The device cannot be used.
    """

    def __init__(self, path: Path, resources: ComputeResources, options: UltralightOptions) -> None:
        self._network = OnnxNetwork(path, resources, generator_mismatch)
        table = self._network.table
        variant, fixed = generator_variant(table), {shape[0] for shape in table.inputs if shape} - {-1}
        assert variant is not None
        if len(fixed) > 1:
            raise WeightsError(f"{path.name}: expected one batch size of all inputs, found {sorted(fixed)}.")
        self.variant = variant
        self._is_picture_first = table.inputs[0][1:] == (6, SIDE, SIDE)
        self._batches = SharedBatches(fixed.pop() if fixed else options.batch_for(resources.device))

    def generate(
        self, faces: NDArray[np.uint8], audio: NDArray[np.float32], should_stop: Callable[[], bool] = lambda: False
    ) -> NDArray[np.uint8]:
        """Generate N faces, (N, 160, 160, 3) uint8 RGB, from the frames' in BGR and (N, C, H, W) float32 sound.

        C, H and W are `Variant.audio_shape`.
        """
        generated = np.empty_like(faces)
        self._batches.fill_each(generated, (faces, audio), self._generate_batch, should_stop)
        return generated

    def _generate_batch(self, faces: NDArray[np.uint8], audio: NDArray[np.float32]) -> NDArray[np.uint8]:
        pictures = network_pictures(faces)
        out = self._network(*((pictures, audio) if self._is_picture_first else (audio, pictures)))
        if out.shape != (len(faces), 3, SIDE, SIDE):
            raise WeightsError(f"Expected ({len(faces)}, 3, {SIDE}, {SIDE}) of the generator, got {out.shape}.")
        levels: NDArray[np.uint8] = np.rint(np.nan_to_num(out).clip(0, 1) * 255).astype(np.uint8)
        return levels.transpose(0, 2, 3, 1)[..., ::-1]


class UltralightFaceGenerator:
    """Implements `models.engines.protocol.FaceGenerator`."""

    def __init__(self, generator: OnnxGenerator | TorchGenerator, options: UltralightOptions) -> None:
        self._generator = generator
        self._options = options

    def generate(self, chunk: BoxChunk, should_stop: Callable[[], bool] = lambda: False) -> FacePatches:
        """Return one patch for every face of a chunk of this engine; the same chunk gives the same bytes."""
        shown = box_rgb(chunk, SIDE, "area", "bgr")
        variant = self._generator.variant
        heard = features_by_face(chunk, variant.audio_kind).windows(variant)
        faces = self._generator.generate(shown, heard, should_stop)
        return paste(chunk, faces, self._options.paste, match_colour=self._options.match_colour)
