from pathlib import Path

import onnx
import onnxruntime as ort
import pytest

from models.weights import weights_path


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
