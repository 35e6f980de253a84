"""How a restoration network's file is recognised."""

from __future__ import annotations

from typing import Final

from models.engines.protocol import TensorTable, WeightsSpec
from models.engines.weights.recognition import shape_fits

PICTURE: Final = (1, 3, 512, 512)


def restoration_mismatch(table: TensorTable) -> str | None:
    """Say why a file is not a restoration network; None if it is."""
    pictures = [shape for shape in table.inputs if shape_fits(shape, PICTURE, (0,))]
    numbers = [shape for shape in table.inputs if len(shape) <= 1]
    are_all = len(pictures) == 1 and len(pictures) + len(numbers) == len(table.inputs)
    if table.format == "onnx" and are_all and any(shape_fits(shape, PICTURE) for shape in table.outputs):
        return None
    return (
        f"expected an ONNX file with a picture {PICTURE} in and out, at most one number beside it, "
        f"found {list(table.inputs)} -> {list(table.outputs)}"
    )


RESTORATION_ROLE: Final = WeightsSpec(
    "restoration",
    "Face restoration of the kind of GFPGANv1.4.onnx (512 x 512)",
    "GFPGAN: Apache-2.0 with parts under other terms (StyleGAN2 ops); CodeFormer: S-Lab, not for commercial use.",
    restoration_mismatch,
)
