"""Engines that need weights and do nothing with them."""

from collections.abc import Mapping
from typing import ClassVar

from models.engines.protocol import EngineClass, EngineSettings, TensorTable, WeightsSpec
from models.engines.wav2lip.engine import Wav2LipEngine


def _no_torch(table: TensorTable) -> str | None:
    found = table.tensors.get("face.weight")
    return None if found == (4, 6, 3, 3) else f"expected face.weight of (4, 6, 3, 3), found {found}"


def _no_onnx(table: TensorTable) -> str | None:
    is_right = sorted(table.inputs) == [(-1, 1, 80, 16), (-1, 6, 96, 96)]
    return None if is_right else f"expected a mel and a face, found {table.inputs}"


class ToyEngine(Wav2LipEngine):
    """Works without its second file, with any options."""

    title: ClassVar[str] = "Toy faces"
    name = "toy"
    weights: ClassVar[tuple[WeightsSpec, ...]] = (
        WeightsSpec("generator", "Toy generator", "Personal and research use only.", _no_torch),
        WeightsSpec("mixer", "Toy mixer", "Apache-2.0.", _no_onnx, is_required=False),
    )

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings


class FreeEngine(ToyEngine):
    """Needs nothing."""

    title = "Free faces"
    weights: ClassVar[tuple[WeightsSpec, ...]] = ()


class TwinEngine(ToyEngine):
    """Takes the same file as the toy."""

    title = "Twin faces"
    weights: ClassVar[tuple[WeightsSpec, ...]] = (WeightsSpec("generator", "Twin generator", "MIT.", _no_torch),)


ENGINES: Mapping[str, str | EngineClass] = {"free": FreeEngine, "toy": f"{__name__}:ToyEngine"}
