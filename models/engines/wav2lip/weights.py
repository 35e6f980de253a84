"""The files of this engine and how they are recognised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from models.engines.protocol import TensorTable, WeightsSpec
from models.engines.weights.recognition import Shape, input_roles, shape_fits

MEL_BANDS: Final = 80
WINDOW_COLUMNS: Final = 16
"""Mel columns that drive one frame: 0.2 seconds."""

GENERATOR: Final = "generator"
_PAINTED_CHANNELS: Final = 3
_ONNX_INPUTS: Final = {"mel": (-1, 1, MEL_BANDS, WINDOW_COLUMNS), "face": (-1, 6, -1, -1)}
_FIRST: Final = "face_encoder_blocks.0.0.conv_block.0.weight"
_EXPECTED_ONNX: Final = f"inputs (B, 1, {MEL_BANDS}, {WINDOW_COLUMNS}) and (B, 6, S, S), output (B, 3, S, S)"


def onnx_roles(inputs: Sequence[Shape], output: Shape) -> list[str] | None:
    """Return the role of each input of an exported generator with these shapes, "mel" or "face"; None if it is none."""
    roles = input_roles(inputs, _ONNX_INPUTS, ())
    if roles is None:
        return None
    mel, (batch, _, height, width) = (inputs[roles.index(role)] for role in ("mel", "face"))
    fits = height == width and height >= 2 and height % 2 == 0 and mel[0] == batch
    return roles if fits and shape_fits(output, (-1, _PAINTED_CHANNELS, height, width)) else None


def generator_mismatch(table: TensorTable) -> str | None:
    """Return None for a file that is a Wav2Lip generator, otherwise what was expected and found."""
    if table.format == "onnx":
        output = table.outputs[0] if table.outputs else ()
        if onnx_roles(table.inputs, output) is not None:
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
