"""Recognises the network's file and its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from models.engines.protocol import TensorTable, WeightsSpec
from models.engines.weights.recognition import Shape, shape_fits

GENERATOR: Final = "generator"
SIDE: Final = 256
"""Pixels of the picture that the network reads and writes."""
MEL: Final = (1, 1, 80, 16)
PICTURE: Final = (1, 3, SIDE, SIDE)
WEIGHT: Final = (1,)


@dataclass(frozen=True)
class EdTalkLayout:
    """Which input is which, by its place in the file; names differ between exports."""

    mel: int
    picture: int
    weight: int


def edtalk_layout(inputs: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> EdTalkLayout | None:
    """Return the layout of a file with these shapes (-1: free); None if it is not this network."""
    places = [
        [i for i, shape in enumerate(inputs) if shape_fits(shape, wanted, (0,))] for wanted in (MEL, PICTURE, WEIGHT)
    ]
    if len(inputs) != len(places) or any(len(found) != 1 for found in places):
        return None
    if not outputs or not shape_fits(outputs[0], PICTURE):
        return None
    return EdTalkLayout(*(found[0] for found in places))


def edtalk_mismatch(table: TensorTable) -> str | None:
    """Return None for a file that is this network, otherwise what was expected and found."""
    if table.format == "onnx" and edtalk_layout(table.inputs, table.outputs) is not None:
        return None
    return (
        f"expected an ONNX network with inputs {MEL}, {PICTURE} and {WEIGHT} and an output {PICTURE}, "
        f"found {list(table.inputs)} -> {list(table.outputs)}"
    )


GENERATOR_ROLE: Final = WeightsSpec(
    name=GENERATOR,
    title="EdTalk as exported for facefusion: edtalk_256.onnx",
    licence="Apache-2.0 (tanshuai0219/EdTalk), as facefusion states it.",
    mismatch=edtalk_mismatch,
)
