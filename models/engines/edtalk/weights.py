"""Recognises the network's file and its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from models.engines.protocol import TensorTable, WeightsSpec
from models.engines.weights.recognition import Shape, input_roles, shape_fits

GENERATOR: Final = "generator"
SIDE: Final = 256
"""Pixels of the picture that the network reads and writes."""
PICTURE: Final = (1, 3, SIDE, SIDE)
_INPUTS: Final = {"mel": (1, 1, 80, 16), "picture": PICTURE, "weight": (1,)}


def edtalk_roles(inputs: Sequence[Shape]) -> list[str] | None:
    """Return the role of each input of a file, "mel", "picture" or "weight"; None if it is not this network."""
    return input_roles(inputs, _INPUTS, (0,))


def edtalk_mismatch(table: TensorTable) -> str | None:
    """Return None for a file that is this network, otherwise what was expected and found."""
    has_output = bool(table.outputs) and shape_fits(table.outputs[0], PICTURE)
    if table.format == "onnx" and has_output and edtalk_roles(table.inputs) is not None:
        return None
    return (
        f"expected an ONNX network with inputs {', '.join(map(str, _INPUTS.values()))} and an output {PICTURE}, "
        f"found {list(table.inputs)} -> {list(table.outputs)}"
    )


GENERATOR_ROLE: Final = WeightsSpec(
    name=GENERATOR,
    title="EdTalk as exported for facefusion: edtalk_256.onnx",
    licence="Apache-2.0 (tanshuai0219/EdTalk), as facefusion states it.",
    mismatch=edtalk_mismatch,
)
