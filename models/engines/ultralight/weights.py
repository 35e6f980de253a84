"""The files of this engine, and how they and the inputs of the audio encoders are recognised."""

from __future__ import annotations

from typing import Final

from models.engines.protocol import TensorTable, WeightsSpec
from models.engines.ultralight.variants import (
    SIDE,
    Variant,
    published_name,
    unknown_variant,
    variant_of_audio,
    variant_of_tensors,
)
from models.engines.weights.recognition import Shape, shape_fits, tensors_mismatch

NUM_HUBERT_FEATURES: Final = 1024
"""Values per row of HuBERT large."""

# The streaming encoder: dihuman_run.py and data_utils/wenet_infer.py of anliyuan/Ultralight-Digital-Human.
CHUNK_FRAMES: Final = 67
OUTPUT_SHAPE: Final = (1, 16, 512)
NUM_WENET_FEATURES: Final = 16 * 512
CHUNK_SHAPE: Final = (1, 1, CHUNK_FRAMES, 80)
ATT_CACHE_SHAPE: Final = (3, 8, 16, 128)
CNN_CACHE_SHAPE: Final = (3, 1, 512, 14)
WENET_ROLES: Final = ["att_cache", "chunk", "cnn_cache", "offset"]


def input_role(shape: Shape) -> str | None:
    """Identify an input of the encoder by its shape; None if it is none of the four.

    Its last side must not be free, because it distinguishes the inputs.
    """
    if len(shape) <= 1:
        return "offset"
    known = {"chunk": CHUNK_SHAPE, "att_cache": ATT_CACHE_SHAPE, "cnn_cache": CNN_CACHE_SHAPE}
    return next((role for role, want in known.items() if shape_fits(shape, want, range(len(want) - 1))), None)


_PREFIX: Final = "hubert."  # in models for speech recognition
# Names of weight normalisation before and after PyTorch 2.1.
_NEW_NAMES: Final = (
    ("parametrizations.weight.original0", "weight_g"),
    ("parametrizations.weight.original1", "weight_v"),
)
_TELLING: Final = {
    "feature_extractor.conv_layers.0.conv.weight": (512, 1, 10),
    "feature_extractor.conv_layers.6.layer_norm.weight": (512,),
    "feature_projection.projection.weight": (1024, 512),
    "encoder.pos_conv_embed.conv.weight_v": (1024, 64, 128),
    "encoder.layers.23.attention.k_proj.weight": (1024, 1024),
    "encoder.layers.23.feed_forward.intermediate_dense.weight": (4096, 1024),
    "encoder.layer_norm.weight": (1024,),
}
"""Some parameters of facebook/hubert-large-ls960-ft, from its first layer to its last."""


def bare_name(name: str) -> str:
    """Return a parameter's name as `HubertNetwork` has it."""
    name = name.removeprefix(_PREFIX)
    for new, old in _NEW_NAMES:
        name = name.replace(new, old)
    return name


GENERATOR: Final = "generator"
_CODE_LICENCE: Final = (
    "Trained by the user, for one person; the training code's README names Apache-2.0, "
    "its repository holds no licence file."
)


def generator_variant(table: TensorTable) -> Variant | None:
    """Return which network a file contains; None if it is not of this family."""
    if table.format != "onnx":
        return variant_of_tensors(_rename_tensors(table))
    found = [variant_of_audio(shape) for shape in table.inputs if shape[1:] != (6, SIDE, SIDE)]
    pictures = [shape for shape in table.inputs if len(shape) == 4 and shape[1:] == (6, SIDE, SIDE)]
    return found[0] if len(found) == len(pictures) == 1 else None


def generator_mismatch(table: TensorTable) -> str | None:
    """Return why a file is not an Ultralight generator; None if it is one."""
    variant = generator_variant(table)
    if table.format == "onnx":
        answers = [shape for shape in table.outputs if len(shape) == 4 and shape[1:] == (3, SIDE, SIDE)]
        if variant is not None and answers:
            return None
        return (
            f"expected inputs (B, 6, {SIDE}, {SIDE}) and (B, 16 | 32, 32, 32) or (B, 128 | 256, 16, 32) and an output "
            f"(B, 3, {SIDE}, {SIDE}), found {list(table.inputs)} -> {list(table.outputs)}"
        )
    shapes = _rename_tensors(table)
    variant = variant_of_tensors(shapes)
    if variant is None:
        return unknown_variant(shapes)
    # Imported here: importing PyTorch takes two seconds, and most files are of other families.
    from models.engines.ultralight.network import parameters_mismatch

    return parameters_mismatch(shapes, variant)


def hubert_mismatch(table: TensorTable) -> str | None:
    """Return why a file is not HuBERT large; None if it is."""
    if table.format != "onnx":
        tensors = {bare_name(name): shape for name, shape in table.tensors.items()}
        return tensors_mismatch("HuBERT large", _TELLING, tensors, are_all=False)
    is_wave = bool(table.inputs) and all(len(shape) == 2 and shape[1] < 0 for shape in table.inputs)
    if is_wave and len(table.inputs) <= 2 and any(map(is_hubert_output, table.outputs)):
        return None
    return (
        f"expected an input (1, N) of any length, at most a mask beside it, and an output "
        f"(1, T, {NUM_HUBERT_FEATURES}), found {list(table.inputs)} -> {list(table.outputs)}"
    )


def is_hubert_output(shape: Shape) -> bool:
    """Return whether the shape of an output is that of HuBERT's rows."""
    return len(shape) == 3 and shape[2] == NUM_HUBERT_FEATURES


def wenet_mismatch(table: TensorTable) -> str | None:
    """Return why a file is not the streaming WeNet encoder; None if it is."""
    roles = sorted(input_role(shape) or "" for shape in table.inputs)
    if roles == WENET_ROLES and any(shape_fits(shape, OUTPUT_SHAPE) for shape in table.outputs):
        return None
    return (
        f"expected an ONNX file with inputs {CHUNK_SHAPE}, (1,), {ATT_CACHE_SHAPE}, {CNN_CACHE_SHAPE} and an output "
        f"{OUTPUT_SHAPE}, found {list(table.inputs)} -> {list(table.outputs)}"
    )


def _rename_tensors(table: TensorTable) -> dict[str, tuple[int, ...]]:
    return {published_name(name): shape for name, shape in table.tensors.items()}


ROLES: Final = (
    WeightsSpec(GENERATOR, "Generator trained for one person (.pth or .onnx)", _CODE_LICENCE, generator_mismatch),
    WeightsSpec(
        "hubert",
        "HuBERT large, for generators trained on it: pytorch_model.bin of hubert-large-ls960-ft, or an ONNX export",
        "Apache-2.0 (facebook/hubert-large-ls960-ft).",
        hubert_mismatch,
        alternative="wenet",
    ),
    WeightsSpec(
        "wenet",
        "WeNet's streaming encoder (encoder.onnx of Ultralight-Digital-Human), for generators trained on it",
        "Published without terms of its own; WeNet is Apache-2.0.",
        wenet_mismatch,
        alternative="hubert",
    ),
)
