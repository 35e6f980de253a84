"""Which files can be the generator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from models.engines.contract import TensorTable, WeightsRole
from models.engines.wav2lip.layers import MEL_BANDS, SIZES, WINDOW_COLUMNS, Size, expected_shapes

GENERATOR: Final = "generator"
_FACE_CHANNELS, _PAINTED_CHANNELS = 6, 3
_COUNTER: Final = "num_batches_tracked"  # of batch normalisation in training
_EXPECTED_ONNX: Final = f"inputs (B, 1, {MEL_BANDS}, {WINDOW_COLUMNS}) and (B, 6, S, S), output (B, 3, S, S)"


@dataclass(frozen=True)
class OnnxLayout:
    """How an exported generator is called. Exports differ in names and order, not in shapes.

    Attributes:
        mel: Which input is the mel window.
        face: Which is the face.
        size: Side S of the pictures.
        batch: Faces in a batch; -1 for any number.
    """

    mel: int
    face: int
    size: int
    batch: int


def onnx_layout(inputs: tuple[tuple[int, ...], ...], output: tuple[int, ...]) -> OnnxLayout | None:
    """Return how an ONNX file with these shapes (-1: free) is called; None if it is no such generator."""
    mels = [i for i, shape in enumerate(inputs) if _fits(shape, (-1, 1, MEL_BANDS, WINDOW_COLUMNS))]
    faces = [i for i, shape in enumerate(inputs) if _fits(shape, (-1, _FACE_CHANNELS, -1, -1))]
    if len(inputs) != 2 or len(mels) != 1 or len(faces) != 1:
        return None
    batch, _, height, width = inputs[faces[0]]
    if height != width or height < 2 or height % 2 or inputs[mels[0]][0] != batch:
        return None
    if len(output) != 4 or any(
        found not in (-1, size) for found, size in zip(output[1:], (3, height, width), strict=True)
    ):
        return None
    return OnnxLayout(mels[0], faces[0], height, batch)


def variant_of(tensors: Mapping[str, tuple[int, ...]]) -> Size:
    """Return which of the published variants a file most looks like."""
    return max(SIZES, key=lambda size: len(expected_shapes(size).items() & tensors.items()))


def generator_mismatch(table: TensorTable) -> str | None:
    """Say None of a file that is a Wav2Lip generator, else what was expected and found."""
    if table.format == "onnx":
        output = table.outputs[0] if table.outputs else ()
        if onnx_layout(table.inputs, output) is not None:
            return None
        found = f"inputs {', '.join(map(str, table.inputs)) or 'none'}, output {output}"
        return f"expected a Wav2Lip network with {_EXPECTED_ONNX}, found {found}"
    return parameters_mismatch(table.tensors)


def parameters_mismatch(tensors: Mapping[str, tuple[int, ...]]) -> str | None:
    """Say None of the parameters of a known variant, else what was expected and found."""
    size = variant_of(tensors)
    wanted = expected_shapes(size)
    found = {name: tuple(shape) for name, shape in tensors.items() if not name.endswith(_COUNTER)}
    title = f"a Wav2Lip generator for {size} x {size}"
    for name, shape in wanted.items():
        if name not in found:
            others = sorted(found.keys() - wanted.keys())
            return f"expected {title} with {name} {shape}, found {f'{others[0]} instead' if others else 'none'}"
        if found[name] != shape:
            return f"expected {title} with {name} {shape}, found {found[name]}"
    if surplus := sorted(found.keys() - wanted.keys()):
        return f"expected {title} with {len(wanted)} parameters, found {len(surplus)} more, as {surplus[0]}"
    return None


GENERATOR_ROLE: Final = WeightsRole(
    name=GENERATOR,
    title="Wav2Lip generator: wav2lip.pth, wav2lip_gan.pth, the 256 variant, or an ONNX export of one",
    licence="Published weights (Rudrabha/Wav2Lip) were trained on LRS2: personal, research, non-commercial use only.",
    mismatch=generator_mismatch,
)


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a shape has the wanted sizes; -1 in `wanted` allows any."""
    return len(shape) == len(wanted) and all(size in (-1, own) for own, size in zip(shape, wanted, strict=True))
