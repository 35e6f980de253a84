"""Looking into weights files: what each kind says, and what is refused without being run."""

from __future__ import annotations

import json
import os
import pickle
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from errors import WeightsError
from models.engines.runtime.checkpoints import read_checkpoint
from models.engines.weights.inspection import inspect_weights
from tests.unit.models.engines.weights.weights_files import (
    SHAPES,
    Glutton,
    Harm,
    claimed,
    external_onnx,
    onnx_file,
    onnx_model,
    plain_pickle,
    raw_safetensors,
    rewritten_zip,
    safetensors_file,
    state,
    torch_file,
)

Make = Callable[[Path], Path]


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "pickle"])
def test_inspect_weights_finds_state_dict_in_wrappers(tmp_path: Path, is_zip: bool) -> None:
    # DINet: state_dict, net_g; Wav2Lip: state_dict beside an optimiser.
    checkpoint = {"state_dict": {"net_g": state(prefix="module."), "net_d": {}}, "optimizer": {"state": {0: [1]}}}
    table = inspect_weights(torch_file(tmp_path / "w.onnx", checkpoint, is_zip=is_zip))
    assert (table.format, dict(table.tensors)) == ("torch", SHAPES)
    for wrappers in ([], ["model"], ["model_state_dict"], ["state_dict", "model", "face_G"]):
        wrapped: Any = state()
        for wrapper in wrappers:
            wrapped = {wrapper: wrapped, "epoch": 3}
        assert inspect_weights(torch_file(tmp_path / "w", wrapped, is_zip=is_zip)).tensors == SHAPES


def test_inspect_weights_reads_safetensors(tmp_path: Path) -> None:
    path = safetensors_file(tmp_path / "w.pth", {"module.face.weight": (4, 6, 3, 3), "face.bias": (4,), "s": ()})
    table = inspect_weights(path)
    assert (table.format, dict(table.tensors)) == ("safetensors", {**SHAPES, "s": ()})


@pytest.mark.parametrize("length", [0x80, 0x280])
def test_inspect_weights_safetensors_starts_like_pickle(tmp_path: Path, length: int) -> None:
    header = '{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'.ljust(length)
    path = raw_safetensors(tmp_path / "w.safetensors", header, 8)
    assert path.read_bytes()[:1] == b"\x80"
    assert dict(inspect_weights(path).tensors) == {"w": (2,)}
    assert read_checkpoint(path)["w"].shape == (2,)


@pytest.mark.usefixtures("reading_process")
@pytest.mark.parametrize("ir_version", [3, 10])
def test_inspect_weights_reads_onnx(tmp_path: Path, ir_version: int) -> None:
    model = onnx_model(ir_version=ir_version)
    onnx.checker.check_model(model)
    table = inspect_weights(onnx_file(tmp_path / "w.bin", model))
    assert (table.format, dict(table.tensors)) == ("onnx", {"w": (3, 6, 1, 1), "b": (3,)})
    assert table.inputs == ((-1, 1, 80, 16), (-1, 6, 96, 96))
    assert table.outputs == ((-1, 3, 96, 96),)


def test_inspect_weights_reads_onnx_external_data(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "w.bin").write_bytes(bytes(72))
    assert inspect_weights(external_onnx(tmp_path / "w.onnx", "data/w.bin")).tensors["w"] == (3, 6, 1, 1)


def test_inspect_weights_reads_each_onnx_data_type(tmp_path: Path) -> None:
    model = onnx_model()
    kinds = set(TensorProto.DataType.values()) - {TensorProto.UNDEFINED, TensorProto.STRING}
    arrays = {str(kind): np.zeros(8, helper.tensor_dtype_to_np_dtype(kind)) for kind in kinds}
    arrays["texts"] = np.full(8, "text")
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    assert inspect_weights(onnx_file(tmp_path / "w.onnx", model)).tensors.keys() == {"w", "b", *arrays}


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "pickle"])
def test_inspect_weights_malicious_file_runs_no_code(tmp_path: Path, is_zip: bool) -> None:
    target = tmp_path / "was-run"
    path = torch_file(tmp_path / "w.pth", {"state_dict": state(), "extra": Harm(target)}, is_zip=is_zip)
    with pytest.raises(WeightsError, match=r"w.pth: expected tensors alone, found a pickle that asks for posix.mkdir"):
        inspect_weights(path)
    assert not target.exists()
    torch.load(path, weights_only=False)
    assert target.exists(), "the file would have done nothing to anybody"


@pytest.mark.usefixtures("reading_process")
def test_inspect_weights_malicious_bare_pickle_runs_no_code(tmp_path: Path) -> None:
    target = tmp_path / "was-run"
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(Harm(target), protocol=2))
    with pytest.raises(WeightsError, match="asks for"):
        inspect_weights(tmp_path / "w.pkl")
    assert not target.exists()


@pytest.mark.usefixtures("reading_process")
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "pickle"])
def test_inspect_weights_pickle_asking_for_memory_raises(tmp_path: Path, is_zip: bool) -> None:
    path = torch_file(tmp_path / "w.pth", {"state_dict": state(), "extra": Glutton()}, is_zip=is_zip)
    with pytest.raises(WeightsError, match="bounded memory"):
        inspect_weights(path)


def _whole_module(path: Path) -> Path:
    return torch_file(path, torch.nn.Linear(2, 2))


def _script(path: Path) -> Path:
    code = {"toy/constants.pkl": b"", "toy/data.pkl": b"", "toy/code/__torch__.py": b"class Net: pass"}
    return _zip(path, code)


def _zip(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in entries.items():
            archive.writestr(name, text)
    return path


def _packed(path: Path) -> Path:
    large = torch_file(path.with_name("large"), {"w": torch.zeros(1 << 22)})
    rewritten_zip(large, path, lambda pickled: pickled, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 16
    return path


def _cut(make: Make, share: float) -> Make:
    def cut(path: Path) -> Path:
        whole = make(path).read_bytes()
        path.write_bytes(whole[: int(len(whole) * share)])
        return path

    return cut


def _torch_claim(path: Path) -> Path:
    small = torch_file(path.with_name("small"), {"w": torch.zeros(1000)})
    return rewritten_zip(small, path, lambda pickled: claimed(pickled, 1000, 2_000_000_000))


def _old_torch_claim(path: Path) -> Path:
    small = torch_file(path.with_name("small"), {"w": torch.zeros(1000)}, is_zip=False)
    path.write_bytes(claimed(small.read_bytes(), 1000, 2_000_000_000))
    return path


def _safetensors(header: Any, num_data_bytes: int) -> Make:
    text = header if isinstance(header, str) else json.dumps(header)
    return lambda path: raw_safetensors(path, text, num_data_bytes)


def _entry(start: int, stop: int, shape: list[int]) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, stop]}


def _long_header(path: Path) -> Path:
    path.write_bytes((10**9).to_bytes(8, "little") + b"{" + bytes(100))
    return path


def _onnx_claim(path: Path) -> Path:
    model = onnx_model()
    model.graph.initializer[0].dims[:] = [50_000, 50_000]
    return onnx_file(path, model)


def _packed_onnx_claim(path: Path) -> Path:
    model = onnx_model()
    model.graph.initializer[1].dims[:] = [2_500_000_000]
    return onnx_file(path, model)


def _empty_nodes(path: Path) -> Path:
    """32 MB that take 2 GB in memory."""
    nodes = b"\x0a\x00" * (1 << 24)
    path.write_bytes(b"\x08\x0a\x3a\x80\x80\x80\x10" + nodes)  # 2**25 as a varint
    return path


def _unknown_type(path: Path) -> Path:
    model = onnx_model()
    model.graph.initializer[0].data_type = 99
    return onnx_file(path, model)


def _nested_outside(path: Path) -> Path:
    tensor = helper.make_tensor("deep", TensorProto.FLOAT, (1,), [1.0])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    return onnx_file(path, onnx_model(nested=tensor))


def _link_outside(path: Path) -> Path:
    (path.parent.parent / "secret").write_bytes(bytes(100))
    os.symlink("../secret", path.parent / "w.bin")
    return external_onnx(path, "w.bin")


def _short_companion(path: Path) -> Path:
    (path.parent / "w.bin").write_bytes(bytes(71))
    return external_onnx(path, "w.bin")


def _bytes(content: bytes) -> Make:
    def write(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return write


def _too_deep(path: Path) -> Path:
    return torch_file(path, {"model": {"model": {"model": {"model": state()}}}})


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


REFUSED: dict[str, tuple[Make, str]] = {
    "a pickled module": (_whole_module, "asks for torch.nn.modules.linear.Linear"),
    "TorchScript": (_script, "found a TorchScript program"),
    "another zip": (
        lambda path: _zip(path, {"readme.txt": b"hello"}),
        r"found a zip archive of readme.txt \(1 files\)",
    ),
    "a packed zip": (_packed, "stored as they are, found large/data.pkl, "),
    "a cut zip": (_cut(torch_file, 0.7), "truncated or damaged"),
    "a cut old file": (_cut(lambda path: torch_file(path, is_zip=False), 0.7), "unexpected EOF"),
    "a claim in a zip": (_torch_claim, "torch cannot read it"),
    "a claim in an old file": (_old_torch_claim, "claims more memory|torch cannot read it"),
    "no state dict": (lambda path: torch_file(path, [torch.zeros(3)]), "expected a dict of tensors, found list"),
    "no tensors": (lambda path: torch_file(path, {"lr": 1, "G": {"a": state()}}), "found one of 'lr', 'G'"),
    "wrapped four times": (_too_deep, "found one of 'model'"),
    "twice with and without module.": (
        lambda path: torch_file(path, {**state(), **state(prefix="module.")}),
        "the same one with and without",
    ),
    "another pickle": (plain_pickle, "torch cannot read it"),
    "names to trick a terminal": (lambda path: torch_file(path, {"\x1b[2J": torch.zeros(1)}), "found something else"),
    "a header without end": (_long_header, "header too large"),
    "a cut header": (_cut(safetensors_file, 0.1), "truncated or damaged"),
    "cut tensors": (_cut(safetensors_file, 0.9), "file not fully covered"),
    "a wrong span": (_safetensors({"w": _entry(0, 44, [10])}, 44), "truncated or damaged"),
    "a shared span": (_safetensors({"w": _entry(0, 40, [10]), "v": _entry(0, 40, [10])}, 40), "invalid offset"),
    "a name twice": (_safetensors('{"w": 1, "w": 2}', 0), "invalid JSON"),
    "no JSON": (_safetensors('{"w": ' + "[" * 100_000, 0), "recursion limit"),
    "a cut network": (_cut(onnx_file, 0.5), "protobuf cannot read this one: Error parsing"),
    "empty nodes": (_empty_nodes, "Arena alloc failed"),
    "a type of the future": (_unknown_type, "expected a known data type of 'module.w', found 99"),
    "a claim in a network": (_onnx_claim, r"expected the data of \(50000, 50000\) in 'module.w'"),
    "a packed claim in a network": (_packed_onnx_claim, r"expected the data of \(2500000000,\) in 'b'"),
    "data above": (lambda path: external_onnx(path, "../secret"), "inside the folder of the file, found '../secret'"),
    "data of the system": (lambda path: external_onnx(path, "/etc/passwd"), "found '/etc/passwd'"),
    "data at an address": (lambda path: external_onnx(path, "*/_ORT_MEM_ADDR_/*"), "inside the folder"),
    "data above in a node": (_nested_outside, "found '../secret'"),
    "data behind a link": (_link_outside, "inside its folder, found 'w.bin' outside"),
    "no data": (lambda path: external_onnx(path, "w.bin"), "expected 72 bytes or more in w.bin beside it, found none"),
    "less data": (_short_companion, "in w.bin beside it, found 71 bytes"),
    "less data than claimed": (lambda path: external_onnx(path, "w.bin", num_bytes=8), "expected 72 bytes of external"),
    "a web page": (_bytes(b"<!DOCTYPE html><html>"), "found a web page"),
    "an LFS pointer": (_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "found a Git LFS pointer"),
    "something": (_bytes(b"\xff\xfe hello"), "begins with ff fe 20"),
    "nothing": (_bytes(b""), "found an empty file"),
    "a folder": (_folder, "expected a file, found none"),
    "a pipe": (_pipe, "expected a file, found none"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_inspect_weights_damaged_file_raises_weights_error(tmp_path: Path, case: str) -> None:
    make, expected = REFUSED[case]
    folder = tmp_path / "inside"
    folder.mkdir()
    path = make(folder / "w.file")
    began = time.process_time()
    with pytest.raises(WeightsError, match=expected) as refused:
        inspect_weights(path)
    assert str(refused.value).startswith("w.file: expected ")
    assert str(refused.value).isprintable(), "one line for a terminal"
    assert time.process_time() - began < 60
