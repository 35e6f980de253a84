"""Which files the roles of all engines accept, and what they report of others."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models.engines.dinet.network import DINet
from models.engines.musetalk.network import PUBLISHED, make_unet, make_vae
from models.engines.musetalk.whisper import WhisperEncoder
from models.engines.protocol import TensorTable
from models.engines.registry import BUILT_IN, POST_PROCESSORS, weights_specs
from models.engines.runtime.checkpoints import shapes_of
from models.engines.ultralight.network import UltralightNetwork
from models.engines.wav2lip.network import network_without_values
from models.engines.weights.inspection import inspect_weights
from tests.random_weights import dinet_exports, ultralight
from tests.random_weights.edtalk import save_edtalk
from tests.random_weights.restoration import save_restoration
from tests.unit.models.engines.wav2lip.networks import save_onnx

ROLES = {f"{name} {role.name}": role for name in (*BUILT_IN, *POST_PROCESSORS) for role in weights_specs(name)}
Dims = tuple[int, ...]
MEL, FACE, OUT = (-1, 1, 80, 16), (-1, 6, 96, 96), (-1, 3, 96, 96)
EDTALK_MEL, EDTALK_FACE = (1, 1, 80, 16), (1, 3, 256, 256)
CHUNK, CACHES = (1, 1, -1, 80), ((1,), (3, 8, -1, 128), (3, 1, 512, 14))  # of the streaming WeNet encoder
with torch.device("meta"):
    DINET, ULTRALIGHT, WHISPER = DINet(), UltralightNetwork(), WhisperEncoder()


def onnx(*inputs: Dims, output: Dims = ()) -> TensorTable:
    return TensorTable("onnx", {}, inputs, (output,))


def checkpoint(network: nn.Module, changes: Mapping[str, Dims | None] | None = None, prefix: str = "") -> TensorTable:
    """The parameters of a network, of which some have another shape or are missing."""
    shapes = {**shapes_of(network), **(changes or {})}
    return TensorTable("torch", {prefix + name: shape for name, shape in shapes.items() if shape is not None})


def test_roles_accept_only_their_files(tmp_path: Path) -> None:
    def read(save: Callable[..., Path], *arguments: Any, **options: Any) -> TensorTable:
        return inspect_weights(save(tmp_path / "file", *arguments, **options))

    decoder = {"model.decoder.embed_tokens.weight": (51865, 384)}
    whisper = checkpoint(WHISPER, prefix="model.encoder.")
    accepted = {
        "dinet generator": [checkpoint(DINET), *(read(dinet_exports.export_generator, batch=n) for n in ("B", 1))],
        "dinet speech": [read(dinet_exports.export_wenet), read(dinet_exports.export_deepspeech)],
        "dinet detector": [read(dinet_exports.export_detector, [])],
        "dinet landmarks": [read(dinet_exports.export_landmarks, np.zeros((98, 2)))],
        "edtalk generator": [
            read(save_edtalk),
            onnx((-1,), (-1, 3, 256, 256), (-1, 1, 80, 16), output=(-1, -1, 256, 256)),
        ],
        "musetalk whisper": [whisper, TensorTable("safetensors", {**whisper.tensors, **decoder})],
        "ultralight generator": [checkpoint(ULTRALIGHT), *(read(ultralight.save_generator, n) for n in (1, "n"))],
        "ultralight hubert": [read(ultralight.save_hubert, with_mask=with_mask) for with_mask in (False, True)],
        "ultralight wenet": [
            read(ultralight.save_wenet),
            TensorTable("onnx", {}, (CHUNK, *CACHES), ((1, -1, -1), (3, 8, -1, 128))),
        ],
        "wav2lip generator": [
            checkpoint(network_without_values(256)),
            checkpoint(network_without_values(96), {"output_block.0.conv_block.1.num_batches_tracked": ()}),
            read(save_onnx, face_first=True),
            onnx(MEL, FACE, output=OUT),
            onnx((1, 1, 80, 16), (1, 6, 256, 256), output=(1, 3, 256, 256)),
            onnx(MEL, (-1, 6, 288, 288), output=(-1, -1, -1, -1)),
        ],
        "restoration restoration": [
            read(save_restoration),
            onnx((-1, 3, 512, 512), output=(-1, -1, -1, -1)),
            onnx((1, 3, 512, 512), (1,), output=(1, 3, 512, 512)),
        ],
    }
    if find_spec("diffusers"):  # the extra musetalk
        accepted["musetalk unet"] = [checkpoint(make_unet(PUBLISHED))]
        accepted["musetalk vae"] = [checkpoint(make_vae(PUBLISHED))]
        assert accepted.keys() == ROLES.keys()
    for own, tables in accepted.items():
        for number, table in enumerate(tables):
            assert [name for name, role in ROLES.items() if role.mismatch(table) is None] == [own], number


Exports = list[tuple[tuple[Dims, ...], Dims]]  # inputs and the output
EDTALK_LIKE: Exports = [
    ((EDTALK_MEL, (1, 6, 96, 96)), (1, 3, 96, 96)),  # Wav2Lip as facefusion exports it
    ((EDTALK_MEL, EDTALK_FACE), EDTALK_FACE),
    ((EDTALK_MEL, EDTALK_FACE, (1,)), (1, 1)),
]
WAV2LIP_LIKE: Exports = [
    ((), ()),
    *((each, OUT) for each in ((FACE,), (MEL, FACE, (1,)), ((-1, 1, 80, 20), FACE), ((2, 1, 80, 16), FACE))),
    *(((MEL, face), OUT) for face in ((-1, 3, 96, 96), (-1, 6, -1, -1), (-1, 6, 96, 128))),
    *(((MEL, FACE), output) for output in ((-1, 1, 96, 96), (-1, 3, 48, 48))),
]
WAV2LIP_CHANGES: list[tuple[dict[str, Dims | None], str]] = [
    ({"output_block.1.bias": None}, "96 x 96 with output_block.1.bias (3,), found none"),
    ({"output_block.1.weight": (3, 32, 3, 3)}, "output_block.1.weight (3, 32, 1, 1), found (3, 32, 3, 3)"),
    ({"face_decoder_blocks.9.0.weight": (1,)}, "found 1 more, as face_decoder_blocks.9.0.weight"),
]
REFUSED = [
    (
        "dinet generator",
        TensorTable("torch", {"face_G.conv.weight": (64, 3, 7, 7)}),
        "found none; HeyGem's .pth has to be exported",
    ),
    (
        "dinet generator",
        onnx((1, -1, 80), (1,), output=(1, -1, 256)),
        "expected inputs [any,3,256,256] [any,3,256,256] [any,256,20]",
    ),
    ("dinet generator", TensorTable("safetensors", {}), "found safetensors"),
    ("dinet speech", onnx((1, 3, 112, 112), output=(1, 200)), "[1,any,494]"),
    *(
        ("edtalk generator", onnx(*inputs, output=output), f"found {[*inputs]} -> [{output}]")
        for inputs, output in EDTALK_LIKE
    ),
    ("edtalk generator", TensorTable("torch", {"weight": (1,)}), "expected an ONNX network"),
    *(
        ("restoration restoration", onnx((1, 3, side, side), output=output), f"found [(1, 3, {side}, {side})]")
        for side, output in ((256, (1, 3, 256, 256)), (512, (1, 19)))
    ),
    ("restoration restoration", TensorTable("torch", {"weight": (1,)}), "expected an ONNX file"),
    (
        "ultralight generator",
        checkpoint(ULTRALIGHT, {"up3.conv.double_conv.0.conv.0.weight": (1, 2, 3, 3)}),
        "found (1, 2, 3, 3)",
    ),
    ("ultralight wenet", onnx((1, 1, -1, -1), *CACHES, output=(1, 16, 512)), "found [(1, 1, -1, -1), (1,)"),
    ("ultralight wenet", onnx(CHUNK, *CACHES, output=(1, 16, 256)), "-> [(1, 16, 256)]"),
    *(("wav2lip generator", checkpoint(network_without_values(96), each), words) for each, words in WAV2LIP_CHANGES),
    ("wav2lip generator", TensorTable("torch", {"conv1.weight": (64, 3, 7, 7)}), "expected a Wav2Lip generator"),
    *(
        ("wav2lip generator", onnx(*inputs, output=output), f"{', '.join(map(str, inputs)) or 'none'}, output {output}")
        for inputs, output in WAV2LIP_LIKE
    ),
]


@pytest.mark.parametrize(("role", "table", "words"), REFUSED)
def test_role_other_file_reports_expected_and_found(role: str, table: TensorTable, words: str) -> None:
    reported = str(ROLES[role].mismatch(table))
    assert words in reported
    assert "expected" in reported and "found" in reported
