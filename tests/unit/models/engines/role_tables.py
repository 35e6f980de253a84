"""What the files of the core's engines contain: the tables that their roles accept."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.engines.musetalk.network import PUBLISHED, make_unet, make_vae
from models.engines.musetalk.whisper import WhisperEncoder
from models.engines.protocol import TensorTable, WeightsSpec
from models.engines.registry import BUILT_IN, POST_PROCESSORS, weights_specs
from models.engines.runtime.checkpoints import shapes_of
from models.engines.wav2lip.network import network_without_values
from models.engines.weights.inspection import inspect_weights
from tests.random_weights.restoration import save_restoration
from tests.unit.models.engines.wav2lip.networks import save_onnx

ROLES = {f"{name} {role.name}": role for name in (*BUILT_IN, *POST_PROCESSORS) for role in weights_specs(name)}
Dims = tuple[int, ...]
MEL, FACE, OUT = (-1, 1, 80, 16), (-1, 6, 96, 96), (-1, 3, 96, 96)


def onnx(*inputs: Dims, output: Dims = ()) -> TensorTable:
    return TensorTable("onnx", {}, inputs, (output,))


def checkpoint(network: nn.Module, changes: Mapping[str, Dims | None] | None = None, prefix: str = "") -> TensorTable:
    """The parameters of a network, of which some have another shape or are missing."""
    shapes = {**shapes_of(network), **(changes or {})}
    return TensorTable("torch", {prefix + name: shape for name, shape in shapes.items() if shape is not None})


def read(folder: Path, save: Callable[..., Path], *arguments: Any, **options: Any) -> TensorTable:
    """The table of a file that is written first."""
    return inspect_weights(save(folder / "file", *arguments, **options))


def accepted_tables(folder: Path) -> dict[str, list[TensorTable]]:
    """The tables that each of `ROLES` accepts."""
    with torch.device("meta"):
        whisper = checkpoint(WhisperEncoder(), prefix="model.encoder.")
    decoder = {"model.decoder.embed_tokens.weight": (51865, 384)}
    accepted = {
        "musetalk whisper": [whisper, TensorTable("safetensors", {**whisper.tensors, **decoder})],
        "wav2lip generator": [
            checkpoint(network_without_values(256)),
            checkpoint(network_without_values(96), {"output_block.0.conv_block.1.num_batches_tracked": ()}),
            read(folder, save_onnx, face_first=True),
            onnx(MEL, FACE, output=OUT),
            onnx((1, 1, 80, 16), (1, 6, 256, 256), output=(1, 3, 256, 256)),
            onnx(MEL, (-1, 6, 288, 288), output=(-1, -1, -1, -1)),
        ],
        "restoration restoration": [
            read(folder, save_restoration),
            onnx((-1, 3, 512, 512), output=(-1, -1, -1, -1)),
            onnx((1, 3, 512, 512), (1,), output=(1, 3, 512, 512)),
        ],
    }
    if find_spec("diffusers"):  # the extra musetalk
        accepted["musetalk unet"] = [checkpoint(make_unet(PUBLISHED))]
        accepted["musetalk vae"] = [checkpoint(make_vae(PUBLISHED))]
        assert accepted.keys() == ROLES.keys()
    return accepted


def check_accepted(accepted: Mapping[str, list[TensorTable]], roles: Mapping[str, WeightsSpec]) -> None:
    """Every table is accepted by its own role alone."""
    for own, tables in accepted.items():
        for number, table in enumerate(tables):
            assert [name for name, role in roles.items() if role.mismatch(table) is None] == [own], number


def check_refused(role: WeightsSpec, table: TensorTable, words: str) -> None:
    """The role reports what it expected and found."""
    reported = str(role.mismatch(table))
    assert words in reported
    assert "expected" in reported and "found" in reported
