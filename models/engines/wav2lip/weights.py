"""The files of this engine and how they are recognised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from models.engines.protocol import TensorTable, WeightsSpec

# The layers of the generator, as data: modules are built from them, and files are checked against them.
#
# Source: Rudrabha/Wav2Lip, models/wav2lip.py; the 256 variant: lipku/LiveTalking, wav2lip/models/wav2lip_v2.py.

Size = Literal[96, 256]
SIZES: Final[tuple[Size, ...]] = (96, 256)
"""Image sizes of the known variants."""

MEL_BANDS: Final = 80
WINDOW_COLUMNS: Final = 16
"""Mel columns that drive one frame: 0.2 seconds."""


class Unit(NamedTuple):
    """A convolution, batch normalisation and ReLU."""

    kind: Literal["plain", "residual", "transposed"]
    """A residual unit adds its input before the ReLU."""
    channels_in: int
    channels_out: int
    kernel: int = 3
    stride: tuple[int, int] = (1, 1)
    padding: int = 1


Block = tuple[Unit, ...]


def face_encoder(size: Size) -> tuple[Block, ...]:
    """Return the blocks that see the picture (6 channels); each gives its result to the decoder too."""
    blocks: list[Block] = [(Unit("plain", 6, 16, kernel=7, padding=3),)]
    down = [(16, 32, 2), (32, 64, 3), (64, 128, 2), (128, 256, 2), (256, 512, 1)]
    if size == 256:
        down.append((512, 512, 1))
    blocks += [_changed("plain", channels_in, out, 2, residuals) for channels_in, out, residuals in down]
    last = Unit("plain", 512, 512, kernel=3 if size == 96 else 4, padding=0)
    return (*blocks, (last, Unit("plain", 512, 512, kernel=1, padding=0)))


def audio_encoder() -> Block:
    """Return the units that encode 80 x 16 mel values."""
    return (
        *_changed("plain", 1, 32, 1, 2),
        *_changed("plain", 32, 64, (3, 1), 2),
        *_changed("plain", 64, 128, 3, 2),
        *_changed("plain", 128, 256, (3, 2), 1),
        Unit("plain", 256, 512, padding=0),
        Unit("plain", 512, 512, kernel=1, padding=0),
    )


def face_decoder(size: Size) -> tuple[Block, ...]:
    """Return the blocks that generate; the result of the matching encoder block is appended to that of each."""
    first = Unit("transposed", 1024, 512, kernel=3 if size == 96 else 4, padding=0)
    up = [(768, 384, 2), (512, 256, 2), (320, 128, 2), (160, 64, 2)]
    up = [(1024, 512, 2), *up] if size == 96 else [(1024, 512, 1), (1024, 512, 2), *up]
    return (
        (Unit("plain", 512, 512, kernel=1, padding=0),),
        (first, Unit("residual", 512, 512)),
        *(_changed("transposed", channels_in, out, 2, residuals) for channels_in, out, residuals in up),
    )


OUTPUT_UNIT: Final = Unit("plain", 80, 32)
OUTPUT_CHANNELS: Final = 3


def expected_shapes(size: Size) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all parameters by name, in the module's order, without those that inference does not use."""
    shapes: dict[str, tuple[int, ...]] = {}
    for i, block in enumerate(face_encoder(size)):
        for j, unit in enumerate(block):
            shapes |= _unit_shapes(f"face_encoder_blocks.{i}.{j}", unit)
    for i, unit in enumerate(audio_encoder()):
        shapes |= _unit_shapes(f"audio_encoder.{i}", unit)
    for i, block in enumerate(face_decoder(size)):
        for j, unit in enumerate(block):
            shapes |= _unit_shapes(f"face_decoder_blocks.{i}.{j}", unit)
    shapes |= _unit_shapes("output_block.0", OUTPUT_UNIT)
    last = OUTPUT_UNIT.channels_out
    return shapes | {"output_block.1.weight": (OUTPUT_CHANNELS, last, 1, 1), "output_block.1.bias": (OUTPUT_CHANNELS,)}


def _changed(
    kind: Literal["plain", "transposed"], channels_in: int, out: int, stride: int | tuple[int, int], residuals: int
) -> Block:
    steps = (stride, stride) if isinstance(stride, int) else stride
    return (Unit(kind, channels_in, out, stride=steps), *(Unit("residual", out, out) for _ in range(residuals)))


def _unit_shapes(name: str, unit: Unit) -> dict[str, tuple[int, ...]]:
    ends = (unit.channels_in, unit.channels_out) if unit.kind == "transposed" else (unit.channels_out, unit.channels_in)
    shapes: dict[str, tuple[int, ...]] = {
        f"{name}.conv_block.0.weight": (*ends, unit.kernel, unit.kernel),
        f"{name}.conv_block.0.bias": (unit.channels_out,),
    }
    for part in ("weight", "bias", "running_mean", "running_var"):
        shapes[f"{name}.conv_block.1.{part}"] = (unit.channels_out,)
    return shapes


GENERATOR: Final = "generator"
_FACE_CHANNELS, _PAINTED_CHANNELS = 6, 3
_COUNTER: Final = "num_batches_tracked"  # of batch normalisation, used in training only
_EXPECTED_ONNX: Final = f"inputs (B, 1, {MEL_BANDS}, {WINDOW_COLUMNS}) and (B, 6, S, S), output (B, 3, S, S)"


@dataclass(frozen=True)
class OnnxLayout:
    """Inputs of an exported generator. Exports differ in names and order, not in shapes.

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
    """Return the published variant that is most similar to a file."""
    return max(SIZES, key=lambda size: len(expected_shapes(size).items() & tensors.items()))


def generator_mismatch(table: TensorTable) -> str | None:
    """Return None for a file that is a Wav2Lip generator, otherwise what was expected and found."""
    if table.format == "onnx":
        output = table.outputs[0] if table.outputs else ()
        if onnx_layout(table.inputs, output) is not None:
            return None
        found = f"inputs {', '.join(map(str, table.inputs)) or 'none'}, output {output}"
        return f"expected a Wav2Lip network with {_EXPECTED_ONNX}, found {found}"
    return parameters_mismatch(table.tensors)


def parameters_mismatch(tensors: Mapping[str, tuple[int, ...]]) -> str | None:
    """Return None for the parameters of a known variant, otherwise what was expected and found."""
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


GENERATOR_ROLE: Final = WeightsSpec(
    name=GENERATOR,
    title="Wav2Lip generator: wav2lip.pth, wav2lip_gan.pth, the 256 variant, or an ONNX export of one",
    licence="Published weights (Rudrabha/Wav2Lip) were trained on LRS2: personal, research, non-commercial use only.",
    mismatch=generator_mismatch,
)


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a shape has the wanted sizes; -1 in `wanted` allows any."""
    return len(shape) == len(wanted) and all(size in (-1, own) for own, size in zip(shape, wanted, strict=True))
