from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models.engines.dinet.network import DINet
from models.engines.dinet.weights import (
    detector_mismatch,
    generator_mismatch,
    kind_of,
    landmarks_mismatch,
    speech_mismatch,
)
from models.engines.protocol import TensorTable
from models.engines.weights.inspection import inspect_weights
from tests.random_weights.dinet_exports import (
    export_deepspeech,
    export_detector,
    export_generator,
    export_landmarks,
    export_wenet,
)
from tests.unit.models.engines.reference import fill


@pytest.fixture(scope="module")
def tensors() -> Mapping[str, Tensor]:
    return fill(DINet()).state_dict()


def test_generator_mismatch_accepts_both_kinds(tmp_path: Path, tensors: Mapping[str, Tensor]) -> None:
    path = tmp_path / "clip_training_DINet_256mouth.pth"
    torch.save({"state_dict": {"net_g": {f"module.{name}": value for name, value in tensors.items()}}}, path)
    assert generator_mismatch(inspect_weights(path)) is None
    assert generator_mismatch(inspect_weights(export_generator(tmp_path / "free.onnx"))) is None
    assert generator_mismatch(inspect_weights(export_generator(tmp_path / "fixed.onnx", batch=1))) is None
    assert kind_of(tmp_path / "fixed.onnx") == "heygem"
    said = generator_mismatch(TensorTable("torch", {"face_G.conv.weight": (64, 3, 7, 7)}))
    assert said is not None
    assert "found none; HeyGem's .pth has to be exported" in said
    wenet = inspect_weights(export_wenet(tmp_path / "wenet.onnx"))
    assert "expected inputs [any,3,256,256] [any,3,256,256] [any,256,20]" in str(generator_mismatch(wenet))
    assert "found safetensors" in str(generator_mismatch(TensorTable("safetensors", {})))


def test_other_dinet_roles_accept_only_their_files(tmp_path: Path) -> None:
    tables = {
        "wenet": inspect_weights(export_wenet(tmp_path / "wenet.onnx")),
        "deepspeech": inspect_weights(export_deepspeech(tmp_path / "deepspeech.onnx")),
        "detector": inspect_weights(export_detector(tmp_path / "scrfd.onnx", [])),
        "landmarks": inspect_weights(export_landmarks(tmp_path / "pfpld.onnx", np.zeros((98, 2)))),
        "generator": inspect_weights(export_generator(tmp_path / "dinet.onnx")),
        "torch": TensorTable("torch", {}),
    }
    roles = (
        (speech_mismatch, {"wenet", "deepspeech"}),
        (detector_mismatch, {"detector"}),
        (landmarks_mismatch, {"landmarks"}),
        (generator_mismatch, {"generator"}),
    )
    for mismatch, own in roles:
        assert {name for name, table in tables.items() if mismatch(table) is None} == own
    assert "[1,any,494]" in str(speech_mismatch(tables["landmarks"]))
