from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from lipwright.errors import ConfigError, WeightsError
from models.weights import FOLDER, SUMS_NAME, file_sha256, read_sums, verified_path, weights_path
from models.weights.onnx_session import make_session


def test_weights_path_of_shipped_and_unknown_files() -> None:
    shipped = {path.name for path in FOLDER.iterdir() if path.suffix in (".onnx", ".npz", ".npy")}
    assert shipped == set(read_sums(FOLDER / SUMS_NAME))
    for name in shipped:
        assert weights_path(name) == FOLDER / name
    with pytest.raises(WeightsError, match=r"nothing\.onnx"):
        weights_path("nothing.onnx")


def test_verified_path_changed_or_missing_file_is_refused(tmp_path: Path) -> None:
    file, sums = tmp_path / "net.onnx", tmp_path / SUMS_NAME
    file.write_bytes(b"first")
    listed = file_sha256(file)
    with pytest.raises(WeightsError, match=SUMS_NAME):
        verified_path(tmp_path, "net.onnx")
    sums.write_text(f"{listed}  net.onnx\n")
    assert verified_path(tmp_path, "net.onnx") == file
    file.write_bytes(b"second")
    with pytest.raises(WeightsError, match=f"{listed}, got {file_sha256(file)}"):
        verified_path(tmp_path, "net.onnx")
    file.unlink()
    with pytest.raises(WeightsError, match=r"net\.onnx"):
        verified_path(tmp_path, "net.onnx")
    sums.write_text("abc net.onnx\n")
    with pytest.raises(WeightsError, match="abc"):
        verified_path(tmp_path, "net.onnx")


@pytest.mark.parametrize("name", ["face_landmark_468.onnx", "lip_landmarks_80.onnx"])
def test_face_networks_are_computed_in_blocks(tmp_path: Path, name: str) -> None:
    """Only the ends, and the sampling of lip features, change the layout."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / name)
    options.log_severity_level = 3
    ort.InferenceSession(str(weights_path(name)), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / name).graph.node]
    assert "PRelu" not in kinds and "Pad" not in kinds
    assert sum(kind.startswith("Reorder") for kind in kinds) <= 5


@pytest.fixture
def doubler(tmp_path: Path) -> Path:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "doubler", ports[:1], ports[1:])
    path = tmp_path / "doubler.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.needs_cuda)])
def test_make_session_runs_on_the_device(doubler: Path, device: Literal["cpu", "cuda"]) -> None:
    session = make_session(doubler, num_threads=3, device=device, tensorrt=device == "cpu")
    assert session.get_providers()[0] == f"{device.upper()}ExecutionProvider"
    assert session.get_session_options().intra_op_num_threads == 3
    assert session.run(None, {"x": np.array([1, 2], np.float32)})[0].tolist() == [2.0, 4.0]


@pytest.mark.parametrize("provider", ["CUDAExecutionProvider", "TensorrtExecutionProvider"])
def test_make_session_missing_provider_is_a_config_error(doubler: Path, provider: str) -> None:
    if provider in ort.get_available_providers():
        pytest.skip("this onnxruntime has it")
    with pytest.raises(ConfigError, match=provider):
        make_session(doubler, num_threads=1, device="cuda", tensorrt=provider.startswith("Tensorrt"))


def test_make_session_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a network")
    for path in (tmp_path / "gone.onnx", broken):
        with pytest.raises(WeightsError, match=path.name):
            make_session(path, num_threads=1, device="cpu")
