from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from errors import ConfigError, WeightsError
from models.weights.onnx_session import make_session


@pytest.fixture
def doubler(tmp_path: Path) -> Path:
    """A network that adds its input to itself."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "doubler", ports[:1], ports[1:])
    path = tmp_path / "doubler.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_make_session_cpu_uses_num_threads(doubler: Path) -> None:
    session = make_session(doubler, num_threads=3, device="cpu")
    assert session.get_providers() == ["CPUExecutionProvider"]
    assert session.get_session_options().intra_op_num_threads == 3
    assert session.run(None, {"x": np.array([1, 2], np.float32)})[0].tolist() == [2.0, 4.0]


@pytest.mark.skipif("CUDAExecutionProvider" in ort.get_available_providers(), reason="this onnxruntime has CUDA")
def test_make_session_missing_cuda_is_a_config_error(doubler: Path) -> None:
    with pytest.raises(ConfigError, match="CUDAExecutionProvider"):
        make_session(doubler, num_threads=1, device="cuda")


@pytest.mark.skipif("TensorrtExecutionProvider" in ort.get_available_providers(), reason="this onnxruntime has it")
def test_make_session_missing_tensorrt_is_a_config_error(doubler: Path) -> None:
    with pytest.raises(ConfigError, match="TensorrtExecutionProvider"):
        make_session(doubler, num_threads=1, device="cuda", tensorrt=True)
    assert make_session(doubler, num_threads=1, device="cpu", tensorrt=True).get_providers() == ["CPUExecutionProvider"]


@pytest.mark.needs_cuda
def test_make_session_cuda_runs(doubler: Path) -> None:
    session = make_session(doubler, num_threads=1, device="cuda")
    assert session.get_providers()[0] == "CUDAExecutionProvider"
    assert session.run(None, {"x": np.array([1, 2], np.float32)})[0].tolist() == [2.0, 4.0]


def test_make_session_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"gone\.onnx"):
        make_session(tmp_path / "gone.onnx", num_threads=1, device="cpu")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a network")
    with pytest.raises(WeightsError, match=r"broken\.onnx"):
        make_session(broken, num_threads=1, device="cpu")
