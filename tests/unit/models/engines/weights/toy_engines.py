"""Engines that need weights and do nothing with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from media.frame_source import FrameSource
from media.yuv_frame import YuvFrame
from models.engines.protocol import (
    AudioEncoder,
    Chunk,
    ComputeResources,
    EngineClass,
    EngineSettings,
    FaceGenerator,
    FrameSpan,
    PlannedBlock,
    TensorTable,
    WeightsSpec,
)
from models.engines.protocol import Engine as Engine


def _no_torch(table: TensorTable) -> str | None:
    found = table.tensors.get("face.weight")
    return None if found == (4, 6, 3, 3) else f"expected face.weight of (4, 6, 3, 3), found {found}"


def _no_onnx(table: TensorTable) -> str | None:
    is_right = sorted(table.inputs) == [(-1, 1, 80, 16), (-1, 6, 96, 96)]
    return None if is_right else f"expected a mel and a face, found {table.inputs}"


class ToyEngine:
    """Works without its second file."""

    title: ClassVar[str] = "Toy faces"
    name = "toy"
    version = "1"
    audio_features = "mel80"
    uses_source_audio = False
    scales_movement = False
    weights: ClassVar[tuple[WeightsSpec, ...]] = (
        WeightsSpec("generator", "Toy generator", "Personal and research use only.", _no_torch),
        WeightsSpec("mixer", "Toy mixer", "Apache-2.0.", _no_onnx, is_required=False),
    )

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings

    def audio_encoder(self, resources: ComputeResources) -> AudioEncoder:
        raise NotImplementedError

    def face_generator(self, resources: ComputeResources) -> FaceGenerator:
        raise NotImplementedError

    def analyse(
        self, avatar: Any, frames: FrameSource, source_audio_features: Any | None, should_stop: Callable[[], bool]
    ) -> None:
        raise NotImplementedError

    def plan(
        self, avatar: Any, features: Any, span: FrameSpan, source_index: NDArray[np.int32], state: Any
    ) -> PlannedBlock:
        raise NotImplementedError

    def crop(self, avatar: Any, plan: Any, frames: Sequence[YuvFrame]) -> Chunk:
        raise NotImplementedError


class FreeEngine(ToyEngine):
    """Needs nothing."""

    title = "Free faces"
    weights: ClassVar[tuple[WeightsSpec, ...]] = ()


class TwinEngine(ToyEngine):
    """Takes the same file as the toy."""

    title = "Twin faces"
    weights: ClassVar[tuple[WeightsSpec, ...]] = (WeightsSpec("generator", "Twin generator", "MIT.", _no_torch),)


ENGINES: Mapping[str, str | EngineClass] = {
    "free": FreeEngine,
    "toy": f"{__name__}:ToyEngine",
}
