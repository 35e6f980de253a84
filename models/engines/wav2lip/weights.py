"""The files of this engine and how they are recognised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from models.engines.protocol import TensorTable, WeightsSpec
from models.engines.weights.recognition import Shape, shape_fits

MEL_BANDS: Final = 80
WINDOW_COLUMNS: Final = 16
"""Mel columns that drive one frame: 0.2 seconds."""

GENERATOR: Final = "generator"
_FACE_CHANNELS, _PAINTED_CHANNELS = 6, 3
_FIRST: Final = "face_encoder_blocks.0.0.conv_block.0.weight"
_EXPECTED_ONNX: Final = f"inputs (B, 1, {MEL_BANDS}, {WINDOW_COLUMNS}) and (B, 6, S, S), output (B, 3, S, S)"


@dataclass(frozen=True)
class OnnxLayout:
    """Inputs of an exported generator. Exports differ in names and order, not in shapes."""

    mel: int  # which input is the mel window
    face: int  # which is the face
    size: int  # side S of the pictures
    batch: int  # faces in a batch; -1 for any number


def onnx_layout(inputs: tuple[Shape, ...], output: Shape) -> OnnxLayout | None:
    """Return the layout of an ONNX file with these shapes (-1: free); None if it is not such a generator."""
    mels = [i for i, shape in enumerate(inputs) if shape_fits(shape, (-1, 1, MEL_BANDS, WINDOW_COLUMNS), ())]
    faces = [i for i, shape in enumerate(inputs) if shape_fits(shape, (-1, _FACE_CHANNELS, -1, -1), ())]
    if len(inputs) != 2 or len(mels) != 1 or len(faces) != 1:
        return None
    batch, _, height, width = inputs[faces[0]]
    if height != width or height < 2 or height % 2 or inputs[mels[0]][0] != batch:
        return None
    if not shape_fits(output, (-1, _PAINTED_CHANNELS, height, width)):
        return None
    return OnnxLayout(mels[0], faces[0], height, batch)


def generator_mismatch(table: TensorTable) -> str | None:
    """Return None for a file that is a Wav2Lip generator, otherwise what was expected and found."""
    if table.format == "onnx":
        output = table.outputs[0] if table.outputs else ()
        if onnx_layout(table.inputs, output) is not None:
            return None
        found = f"inputs {', '.join(map(str, table.inputs)) or 'none'}, output {output}"
        return f"expected a Wav2Lip network with {_EXPECTED_ONNX}, found {found}"
    if _FIRST not in table.tensors:
        return f"expected a Wav2Lip generator with {_FIRST}, found none"
    # Imported here: importing PyTorch takes two seconds, and most files are of other families.
    from models.engines.wav2lip.network import parameters_mismatch

    return parameters_mismatch(table.tensors)


GENERATOR_ROLE: Final = WeightsSpec(
    name=GENERATOR,
    title="Wav2Lip generator: wav2lip.pth, wav2lip_gan.pth, the 256 variant, or an ONNX export of one",
    licence="Published weights (Rudrabha/Wav2Lip) were trained on LRS2: personal, research, non-commercial use only.",
    mismatch=generator_mismatch,
)
