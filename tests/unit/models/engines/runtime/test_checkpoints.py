from __future__ import annotations

import pickle
import struct
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from errors import WeightsError
from models.engines.runtime.checkpoints import file_format, read_checkpoint

PARAMETERS = {"conv.weight": torch.arange(6.0).reshape(2, 3), "conv.bias": torch.ones(2)}


class _Hostile:
    """Writes a file when it is unpickled the ordinary way."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self.trace, "ran"))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda parameters: parameters,
        lambda parameters: {"state_dict": parameters, "optimizer": {"state": {}}, "global_step": 7},
        lambda parameters: {"model": {f"module.{name}": tensor for name, tensor in parameters.items()}},
        lambda parameters: {"state_dict": {f"module.{name}": tensor for name, tensor in parameters.items()}},
    ],
)
@pytest.mark.parametrize("is_zip", [True, False])
def test_read_checkpoint_finds_parameters_in_every_wrapper(tmp_path: Path, wrap: Any, is_zip: bool) -> None:
    path = tmp_path / "weights.bin"
    torch.save(wrap(PARAMETERS), path, _use_new_zipfile_serialization=is_zip)
    assert file_format(path) == "torch"
    found = read_checkpoint(path)
    assert found.keys() == PARAMETERS.keys()
    assert all(torch.equal(found[name], PARAMETERS[name]) for name in PARAMETERS)


@pytest.mark.parametrize("is_zip", [True, False])
def test_read_checkpoint_malicious_file_runs_no_code(tmp_path: Path, is_zip: bool) -> None:
    trace, path = tmp_path / "trace", tmp_path / "hostile.pth"
    torch.save({"state_dict": PARAMETERS, "x": _Hostile(trace)}, path, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(WeightsError, match=r"hostile\.pth"):
        read_checkpoint(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)  # the file would have done it
    assert trace.exists()


def test_read_checkpoint_malicious_bare_pickle_raises(tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "hostile.pkl"
    path.write_bytes(pickle.dumps(_Hostile(trace), protocol=2))
    with pytest.raises(WeightsError, match=r"hostile\.pkl"):
        read_checkpoint(path)
    assert not trace.exists()


def _save_safetensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    pytest.importorskip("safetensors.torch").save_file(tensors, path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
@pytest.mark.parametrize(
    "save", [torch.save, partial(torch.save, _use_new_zipfile_serialization=False), _save_safetensors]
)
def test_read_checkpoint_truncated_file_raises(tmp_path: Path, share: float, save: Any) -> None:
    path = tmp_path / "half.pth"
    save({"w": torch.rand(200, 200)}, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(WeightsError, match=r"half\.pth"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {}])
def test_read_checkpoint_without_parameters_raises(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "none.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError, match=r"none\.pth: expected .* found"):
        read_checkpoint(path)


def test_file_format_reads_content_not_name(tmp_path: Path) -> None:
    import onnx

    onnx_file, tensors, text = tmp_path / "a.pth", tmp_path / "b.pth", tmp_path / "c.pth"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [])), str(onnx_file))
    tensors.write_bytes(struct.pack("<Q", 2) + b"{}")
    text.write_text("<html>not found</html>")
    assert file_format(onnx_file) == "onnx"
    assert file_format(tensors) == "safetensors"
    with pytest.raises(WeightsError, match=r"c\.pth: .*found a web page"):
        file_format(text)
    with pytest.raises(WeightsError, match=r"missing\.pth: expected a file that can be read"):
        file_format(tmp_path / "missing.pth")
