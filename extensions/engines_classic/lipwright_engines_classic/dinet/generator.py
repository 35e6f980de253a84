"""Runs HeyGem's generator `dinet_v1`, an ONNX export, and pastes the crops of either generator back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lipwright.errors import WeightsError
from lipwright_engines_classic.dinet.crop import REFERENCES, CropLayout, corners, to_levels, to_planes
from lipwright_engines_classic.dinet.options import Paste
from lipwright_engines_classic.dinet.weights import heygem_mismatch
from models.engines.paste.blend import paste
from models.engines.paste.crop import BoxChunk
from models.engines.paste.resample import box_rgb
from models.engines.patches import FacePatches
from models.engines.protocol import ComputeResources
from models.engines.runtime.batching import SharedBatches
from models.engines.runtime.onnx import OnnxNetwork

if TYPE_CHECKING:
    from lipwright_engines_classic.dinet.torch_generator import DinetGenerator


class HeyGemGenerator:
    """The loaded network. Batches always have the same size, so a frame's bytes do not depend on its neighbours.

    Args:
        path: The .onnx file; its batch is free or fixed.
        resources: Where it runs.
        layout: Where the masked crop is black.
        batch_size: Frames per batch, if the file does not fix it.

    Raises:
        WeightsError: The file is missing or is not such a network.
        ConfigError: CUDA was requested but is not available.
    """

    def __init__(self, path: Path, resources: ComputeResources, layout: CropLayout, batch_size: int = 1) -> None:
        self._network = OnnxNetwork(path, resources, heygem_mismatch)
        self._layout = layout
        is_on_cuda = resources.device == "cuda" and self._network.is_float32
        self._generate_batch = self._on_cuda if is_on_cuda else self._on_cpu
        table = self._network.table
        fixed = {shape[0] for shape in (*table.inputs, table.outputs[0]) if shape and shape[0] > 0}
        if len(fixed) > 1:
            raise WeightsError(f"{path.name}: expected one batch size in inputs and outputs, found {sorted(fixed)}.")
        self.batch_size = fixed.pop() if fixed else batch_size
        self._batches = SharedBatches(self.batch_size)

    def generate(
        self, crops: NDArray[np.uint8], speech: NDArray[np.float32], should_stop: Callable[[], bool] = lambda: False
    ) -> NDArray[np.uint8]:
        """Generate (N, 256, 256, 3) uint8 RGB crops from the unmasked ones and (N, 256, 20) float32 wenet windows."""
        generated = np.empty_like(crops)
        self._batches.fill_each(generated, (crops, speech), self._generate_batch, should_stop)
        return generated

    def _on_cpu(self, crops: NDArray[np.uint8], speech: NDArray[np.float32]) -> NDArray[np.uint8]:
        whole = to_planes(crops)
        return to_levels(self._network(self._layout.mask(whole), whole, speech))

    def _on_cuda(self, crops: NDArray[np.uint8], speech: NDArray[np.float32]) -> NDArray[np.uint8]:
        import torch

        with torch.inference_mode():
            whole = torch.from_numpy(crops).cuda().permute(0, 3, 1, 2).float().div_(255).contiguous()
            masked = whole.clone()
            masked[self._layout.masked] = 0
            tensors = (masked, whole, torch.from_numpy(speech).cuda())
            generated = self._network.run_on_cuda(tensors, tuple(whole.shape))
            levels = (generated * 255).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
            return np.asarray(levels.contiguous().cpu().numpy(), np.uint8)


class DinetFaceGenerator:
    """Implements `protocol.FaceGenerator`.

    Args:
        generator: HeyGem's, whose inputs are the frame's own crop alone, or the original, which takes the mouth's
            appearance from the avatar's reference frames.
        layout: Layout of its input.
        style: Which part of its crop is shown.
    """

    def __init__(self, generator: HeyGemGenerator | DinetGenerator, layout: CropLayout, style: Paste) -> None:
        self._generator, self._layout, self._style = generator, layout, style

    def generate(self, chunk: BoxChunk, should_stop: Callable[[], bool] = lambda: False) -> FacePatches:
        """Return one patch for every face of `chunk`."""
        crops = box_rgb(chunk, self._layout.size, self._layout.interpolation)
        if isinstance(self._generator, HeyGemGenerator):
            generated = self._generator.generate(crops, chunk.features, should_stop)
        else:
            generated = self._generator.generate(crops, chunk.extra[REFERENCES], chunk.features, should_stop)
        return paste_crops(chunk, generated, self._layout, self._style)


def paste_crops(chunk: BoxChunk, generated: NDArray[np.uint8], layout: CropLayout, style: Paste) -> FacePatches:
    """Put (N, height, width, 3) uint8 RGB crops back into the frames of a chunk of N faces."""
    if style == "face":
        return paste(chunk, generated)
    if style == "mask":
        return paste(replace(chunk, outline=corners(layout.masked_box(chunk.boxes))), generated)
    boxes = chunk.boxes.copy()
    boxes[:, 3] = boxes[:, 1] + (boxes[:, 3] - boxes[:, 1]) * layout.num_pasted / layout.height
    return paste(replace(chunk, boxes=boxes), np.ascontiguousarray(generated[:, : layout.num_pasted]), "rectangle")
