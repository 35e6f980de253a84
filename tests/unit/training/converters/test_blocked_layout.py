from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.weights import weights_path
from training.converters.blocked_layout import rewrite

_NUM = 16  # channels
_PICTURE = [1, _NUM, 6, 6]


def _network(path: Path, slopes: np.ndarray, margins: list[int]) -> Path:
    constants = [
        numpy_helper.from_array(slopes.astype(np.float16), "slopes"),
        numpy_helper.from_array(np.array(margins, np.int64), "margins"),
    ]
    nodes = [
        helper.make_node("Cast", ["slopes"], ["slopes_float"], to=TensorProto.FLOAT),
        helper.make_node("PRelu", ["picture", "slopes_float"], ["bent"]),
        helper.make_node("Pad", ["bent", "margins"], ["result"]),
    ]
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, _PICTURE)
    result = helper.make_tensor_value_info("result", TensorProto.FLOAT, [None] * 4)
    graph = helper.make_graph(nodes, "network", [picture], [result], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def _run(path: Path, picture: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"picture": picture})[0])


@pytest.mark.parametrize("slopes", [(-1.5, 0.9), (-4.0, 3.0)], ids=["up to 1", "above 1"])
def test_rewrite_keeps_results_or_refuses(tmp_path: Path, slopes: tuple[float, float]) -> None:
    """Slopes of either sign, below and above 1, and padded channels."""
    path = _network(tmp_path / "network.onnx", np.linspace(*slopes, _NUM).reshape(-1, 1, 1), [0] * 5 + [8, 0, 0])
    picture = np.random.default_rng(0).normal(size=_PICTURE).astype(np.float32)
    before = _run(path, picture)
    rewrite(path)
    np.testing.assert_allclose(_run(path, picture), before, rtol=1e-6, atol=1e-6)
    assert {node.op_type for node in onnx.load(path).graph.node} == {"Conv", "Relu", "Add"}
    rewritten = path.read_bytes()
    rewrite(path)
    assert path.read_bytes() == rewritten, "a second time changes nothing"
    _network(path, np.ones((_NUM, 1, 1)), [0, 0, 1, 1, 0, 0, 1, 1])
    with pytest.raises(ValueError, match="behind the channels"):
        rewrite(path)


@pytest.mark.parametrize("name", ["face_landmark_468.onnx", "lip_landmarks_80.onnx"])
def test_the_face_networks_are_rewritten(tmp_path: Path, name: str) -> None:
    """Every layer is computed in blocks: only the ends, and the sampling of lip features, change the layout."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / name)
    options.log_severity_level = 3
    ort.InferenceSession(str(weights_path(name)), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / name).graph.node]
    assert "PRelu" not in kinds and "Pad" not in kinds
    assert sum(kind.startswith("Reorder") for kind in kinds) <= 5
