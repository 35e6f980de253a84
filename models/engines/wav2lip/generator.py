"""Generates faces: runs the network in onnxruntime or PyTorch on each box and blends the result into the frame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.engines.paste.blend import paste
from models.engines.paste.crop import BoxChunk
from models.engines.paste.resample import box_rgb
from models.engines.patches import FacePatches
from models.engines.protocol import ComputeResources
from models.engines.runtime.batching import SharedBatches, usual_batch
from models.engines.runtime.checkpoints import file_format
from models.engines.runtime.onnx import OnnxNetwork
from models.engines.wav2lip.options import Wav2LipOptions
from models.engines.wav2lip.weights import generator_mismatch, onnx_roles

if TYPE_CHECKING:
    from torch import Tensor

    from models.engines.wav2lip.torch_generator import TorchGenerator


def load_generator(path: Path, resources: ComputeResources, options: Wav2LipOptions) -> OnnxGenerator | TorchGenerator:
    """Load a file of any of the known kinds.

    Raises:
        WeightsError: It is damaged, or not a Wav2Lip generator.
        ConfigError: The requested device is not available.
    """
    if file_format(path) == "onnx":
        return OnnxGenerator(path, resources, options)
    # Imported here: an ONNX network on a CPU needs no PyTorch, whose import takes two seconds.
    from models.engines.wav2lip.torch_generator import TorchGenerator

    return TorchGenerator(path, resources, options)


class OnnxGenerator:
    """A generator exported to ONNX, with inputs of any names.

    Of the options `batch_size` is used, if the file does not fix it; the precision is that of the file.

    Raises:
        WeightsError: The file is damaged or not a Wav2Lip generator.
        ConfigError: The requested device is not available.
    """

    def __init__(self, path: Path, resources: ComputeResources, options: Wav2LipOptions) -> None:
        self._network = OnnxNetwork(path, resources, generator_mismatch)
        table = self._network.table
        roles = onnx_roles(table.inputs, table.outputs[0])
        assert roles is not None
        self._roles = roles
        batch, _, self.size, _ = table.inputs[roles.index("face")]
        self._batches = SharedBatches(batch if batch > 0 else options.batch_size or usual_batch(resources.device))
        is_on_cuda = resources.device == "cuda" and self._network.is_float32
        self._generate_batch = self._on_cuda if is_on_cuda else self._on_cpu

    def generate(
        self, faces: NDArray[np.uint8], windows: NDArray[np.float32], should_stop: Callable[[], bool] = lambda: False
    ) -> NDArray[np.uint8]:
        """Generate N faces, (N, S, S, 3) uint8 BGR, from the frames' and (N, 80, 16) float32 mel windows."""
        generated = np.empty_like(faces)
        self._batches.fill_each(generated, (faces, windows), self._generate_batch, should_stop)
        return generated

    def _on_cpu(self, faces: NDArray[np.uint8], windows: NDArray[np.float32]) -> NDArray[np.uint8]:
        seen = np.empty((len(faces), 6, self.size, self.size), np.float32)
        seen[:, 3:] = faces.transpose(0, 3, 1, 2)
        seen[:, 3:] /= 255
        seen[:, :3] = seen[:, 3:]
        seen[:, :3, self.size // 2 :] = 0
        arrays = {"mel": windows[:, None], "face": seen}
        generated = self._network(*(arrays[role] for role in self._roles))
        return np.ascontiguousarray(to_levels(generated).transpose(0, 2, 3, 1))

    def _on_cuda(self, faces: NDArray[np.uint8], windows: NDArray[np.float32]) -> NDArray[np.uint8]:
        import torch

        from models.engines.wav2lip.network import face_input, face_levels

        device = torch.device("cuda", 0)
        with torch.inference_mode():
            seen: Tensor = face_input(torch.from_numpy(faces).to(device)).contiguous()
            tensors = {"mel": torch.from_numpy(windows[:, None]).to(device), "face": seen}
            ordered = [tensors[role] for role in self._roles]
            generated = self._network.run_on_cuda(ordered, (len(faces), 3, self.size, self.size))
            levels: NDArray[np.uint8] = face_levels(generated).cpu().numpy()
        return levels


def to_levels(generated: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round values from 0 to 1 to 8 bits. The official script truncates instead, which is half a level darker."""
    return np.asarray(np.rint(generated * np.float32(255)).clip(0, 255), np.uint8)


class Wav2LipFaceGenerator:
    """Implements `models.engines.protocol.FaceGenerator`."""

    def __init__(self, generator: OnnxGenerator | TorchGenerator, options: Wav2LipOptions) -> None:
        self._generator = generator
        self._options = options

    def generate(self, chunk: BoxChunk, should_stop: Callable[[], bool] = lambda: False) -> FacePatches:
        """Return one patch for every face of a chunk; the same chunk gives the same bytes."""
        # The network was trained on images as read by OpenCV: BGR, resized linearly.
        faces = box_rgb(chunk, self._generator.size, "linear", order="bgr")
        generated = self._generator.generate(faces, chunk.features, should_stop)
        rgb = np.ascontiguousarray(generated[..., ::-1])
        return paste(chunk, rgb, self._options.paste, match_colour=self._options.match_colour)
