"""Which files the roles of these engines accept beside the core's, and what they report of others."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from classic_weights import dinet_exports, ultralight
from classic_weights.edtalk import save_edtalk
from lipwright_engines_classic.dinet.engine import DinetEngine
from lipwright_engines_classic.dinet.network import DINet
from lipwright_engines_classic.edtalk.engine import EdTalkEngine
from lipwright_engines_classic.ultralight.engine import UltralightEngine
from lipwright_engines_classic.ultralight.network import UltralightNetwork
from models.engines.protocol import TensorTable
from tests.unit.models.engines import role_tables
from tests.unit.models.engines.role_tables import accepted_tables, check_accepted, check_refused, checkpoint, onnx

ROLES = {
    f"{engine.name} {role.name}": role
    for engine in (DinetEngine, EdTalkEngine, UltralightEngine)
    for role in engine.weights
}
EDTALK_MEL, EDTALK_FACE = (1, 1, 80, 16), (1, 3, 256, 256)
CHUNK, CACHES = (1, 1, -1, 80), ((1,), (3, 8, -1, 128), (3, 1, 512, 14))  # of the streaming WeNet encoder
with torch.device("meta"):
    DINET, ULTRALIGHT = DINet(), UltralightNetwork()


def test_roles_accept_only_their_files(tmp_path: Path) -> None:
    read = partial(role_tables.read, tmp_path)
    own = {
        "dinet generator": [checkpoint(DINET), *(read(dinet_exports.export_generator, batch=n) for n in ("B", 1))],
        "dinet speech": [read(dinet_exports.export_wenet), read(dinet_exports.export_deepspeech)],
        "dinet detector": [read(dinet_exports.export_detector, [])],
        "dinet landmarks": [read(dinet_exports.export_landmarks, np.zeros((98, 2)))],
        "edtalk generator": [
            read(save_edtalk),
            onnx((-1,), (-1, 3, 256, 256), (-1, 1, 80, 16), output=(-1, -1, 256, 256)),
        ],
        "ultralight generator": [checkpoint(ULTRALIGHT), *(read(ultralight.save_generator, n) for n in (1, "n"))],
        "ultralight hubert": [read(ultralight.save_hubert, with_mask=with_mask) for with_mask in (False, True)],
        "ultralight wenet": [
            read(ultralight.save_wenet),
            TensorTable("onnx", {}, (CHUNK, *CACHES), ((1, -1, -1), (3, 8, -1, 128))),
        ],
    }
    assert own.keys() == ROLES.keys()
    check_accepted({**accepted_tables(tmp_path), **own}, {**role_tables.ROLES, **ROLES})


EDTALK_LIKE = [  # inputs and the output
    ((EDTALK_MEL, (1, 6, 96, 96)), (1, 3, 96, 96)),  # Wav2Lip as facefusion exports it
    ((EDTALK_MEL, EDTALK_FACE), EDTALK_FACE),
    ((EDTALK_MEL, EDTALK_FACE, (1,)), (1, 1)),
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
    (
        "ultralight generator",
        checkpoint(ULTRALIGHT, {"up3.conv.double_conv.0.conv.0.weight": (1, 2, 3, 3)}),
        "found (1, 2, 3, 3)",
    ),
    ("ultralight wenet", onnx((1, 1, -1, -1), *CACHES, output=(1, 16, 512)), "found [(1, 1, -1, -1), (1,)"),
    ("ultralight wenet", onnx(CHUNK, *CACHES, output=(1, 16, 256)), "-> [(1, 16, 256)]"),
]


@pytest.mark.parametrize(("role", "table", "words"), REFUSED)
def test_role_other_file_reports_expected_and_found(role: str, table: TensorTable, words: str) -> None:
    check_refused(ROLES[role], table, words)
