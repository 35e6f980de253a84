"""How a restoration network's file is recognised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from models.engines.protocol import TensorTable, WeightsSpec

PICTURE: Final = (1, 3, 512, 512)


def is_picture(shape: Sequence[object] | None, *, may_be_free: bool = False) -> bool:
    """Return whether a shape is that of one upright face; the batch may be free, and every side of an output."""
    if shape is None or len(shape) != len(PICTURE):
        return False
    free = [(i == 0 or may_be_free) and (not isinstance(side, int) or side < 0) for i, side in enumerate(shape)]
    return all(is_free or side == want for is_free, side, want in zip(free, shape, PICTURE, strict=True))


def restoration_mismatch(table: TensorTable) -> str | None:
    """Say why a file is not a restoration network; None if it is."""
    pictures = [shape for shape in table.inputs if is_picture(shape)]
    numbers = [shape for shape in table.inputs if len(shape) <= 1]
    are_all = len(pictures) + len(numbers) == len(table.inputs)
    if (
        table.format == "onnx"
        and len(pictures) == 1
        and are_all
        and any(is_picture(s, may_be_free=True) for s in table.outputs)
    ):
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
