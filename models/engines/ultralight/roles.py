"""The files that the engine is brought, and how they are recognised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from models.engines.contract import TensorTable, WeightsRole
from models.engines.ultralight.encoder_shapes import (
    ATT_CACHE_SHAPE,
    CHUNK_SHAPE,
    CNN_CACHE_SHAPE,
    NUM_HUBERT_FEATURES,
    OUTPUT_SHAPE,
    WENET_ROLES,
    fits,
    input_role,
)
from models.engines.ultralight.hubert_names import hubert_large_mismatch
from models.engines.ultralight.variant import (
    AUDIO_KEY,
    SIDE,
    WIDTH_KEY,
    Variant,
    published_name,
    variant_of_audio,
    variant_of_tensors,
)

GENERATOR: Final = "generator"
_CODE_LICENCE: Final = (
    "Trained by whoever brings it, for one person; the training code's README names Apache-2.0, "
    "its repository holds no licence file."
)


def generator_variant(table: TensorTable) -> Variant | None:
    """Tell which network a file holds; None if it is none of this family."""
    if table.format != "onnx":
        return variant_of_tensors(_published(table))
    found = [variant_of_audio(shape) for shape in table.inputs if shape[1:] != (6, SIDE, SIDE)]
    pictures = [shape for shape in table.inputs if len(shape) == 4 and shape[1:] == (6, SIDE, SIDE)]
    return found[0] if len(found) == len(pictures) == 1 else None


def generator_mismatch(table: TensorTable) -> str | None:
    """Say why a file is not an Ultralight generator; None if it is one."""
    variant = generator_variant(table)
    if table.format == "onnx":
        answers = [shape for shape in table.outputs if len(shape) == 4 and shape[1:] == (3, SIDE, SIDE)]
        if variant is not None and answers:
            return None
        return (
            f"expected inputs (B, 6, {SIDE}, {SIDE}) and (B, 16 | 32, 32, 32) or (B, 128 | 256, 16, 32) and an output "
            f"(B, 3, {SIDE}, {SIDE}), found {list(table.inputs)} -> {list(table.outputs)}"
        )
    return parameters_mismatch(_published(table))


def parameters_mismatch(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Say why parameters, under the names of today's checkpoints, are not those of a generator."""
    variant = variant_of_tensors(shapes)
    if variant is None:
        heard, width = (shapes.get(key) for key in (AUDIO_KEY, WIDTH_KEY))
        return (
            f"expected {AUDIO_KEY} for 16 or 32 (HuBERT) or 128 or 256 channels (WeNet) and {WIDTH_KEY} "
            f"(3, 32, 1, 1), found {heard} and {width}"
        )
    return _difference(shapes, _expected(variant))


def hubert_mismatch(table: TensorTable) -> str | None:
    """Say why a file is not HuBERT large; None if it is."""
    if table.format != "onnx":
        return hubert_large_mismatch(table.tensors)
    is_wave = bool(table.inputs) and all(len(shape) == 2 and shape[1] < 0 for shape in table.inputs)
    answers = [shape for shape in table.outputs if len(shape) == 3 and shape[2] == NUM_HUBERT_FEATURES]
    if is_wave and len(table.inputs) <= 2 and answers:
        return None
    return (
        f"expected an input (1, N) of any length, at most a mask beside it, and an output "
        f"(1, T, {NUM_HUBERT_FEATURES}), found {list(table.inputs)} -> {list(table.outputs)}"
    )


def wenet_mismatch(table: TensorTable) -> str | None:
    """Say why a file is not the streaming WeNet encoder; None if it is."""
    roles = sorted(input_role(shape) or "" for shape in table.inputs)
    if roles == WENET_ROLES and any(fits(s, OUTPUT_SHAPE, is_output=True) for s in table.outputs):
        return None
    return (
        f"expected an ONNX file with inputs {CHUNK_SHAPE}, (1,), {ATT_CACHE_SHAPE}, {CNN_CACHE_SHAPE} and an output "
        f"{OUTPUT_SHAPE}, found {list(table.inputs)} -> {list(table.outputs)}"
    )


def _published(table: TensorTable) -> dict[str, tuple[int, ...]]:
    return {published_name(name): shape for name, shape in table.tensors.items()}


def _expected(variant: Variant) -> dict[str, tuple[int, ...]]:
    # Not at the top: those who only plan do without PyTorch.
    import torch

    from models.engines.ultralight.network import UltralightNetwork

    with torch.device("meta"):
        network = UltralightNetwork(variant.hears, variant.num_frames, variant.width)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def _difference(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> str | None:
    """The first parameter that differs, in one line; counters of batches are not needed."""
    wanted = {name: shape for name, shape in expected.items() if not name.endswith("num_batches_tracked")}
    for name, shape in wanted.items():
        if found.get(name) != shape:
            return f"expected {name} {shape}, found {found.get(name, 'none')}"
    more = sorted(name for name in found if name not in expected)
    return f"expected {len(wanted)} parameters, found {len(more)} more, as {more[0]}" if more else None


ROLES: Final = (
    WeightsRole(GENERATOR, "Generator trained for one person (.pth or .onnx)", _CODE_LICENCE, generator_mismatch),
    WeightsRole(
        "hubert",
        "HuBERT large for generators that hear it: pytorch_model.bin of hubert-large-ls960-ft, or an ONNX export",
        "Apache-2.0 (facebook/hubert-large-ls960-ft).",
        hubert_mismatch,
        alternative="wenet",
    ),
    WeightsRole(
        "wenet",
        "WeNet's streaming encoder (encoder.onnx of Ultralight-Digital-Human), for generators that hear it",
        "Published without terms of its own; WeNet is Apache-2.0.",
        wenet_mismatch,
        alternative="hubert",
    ),
)
