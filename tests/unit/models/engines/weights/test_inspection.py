import json
import os
import pickle
import re
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from lipwright.errors import WeightsError
from models.engines.runtime.checkpoints import file_format, read_checkpoint
from models.engines.weights.inspection import inspect_weights
from tests.unit.models.engines.weights.weights_files import (
    SHAPES,
    Glutton,
    Harm,
    external_onnx,
    onnx_file,
    onnx_model,
    raw_safetensors,
    safetensors_file,
    state,
    torch_file,
)

Make = Callable[[Path], object]
Edit = Callable[[bytes], bytes]


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "pickle"])
def test_inspect_weights_finds_state_dict_in_wrappers(tmp_path: Path, is_zip: bool) -> None:
    # DINet: state_dict, net_g; Wav2Lip: state_dict beside an optimiser.
    checkpoint = {"state_dict": {"net_g": state(prefix="module."), "net_d": {}}, "optimizer": {"state": {0: [1]}}}
    path = torch_file(tmp_path / "w.onnx", checkpoint, is_zip=is_zip)
    table = inspect_weights(path)
    assert (table.format, dict(table.tensors), file_format(path)) == ("torch", SHAPES, "torch")
    for wrappers in ([], ["model"], ["model_state_dict"], ["state_dict", "model", "face_G"]):
        wrapped: Any = state()
        for wrapper in wrappers:
            wrapped = {wrapper: wrapped, "epoch": 3}
        path = torch_file(tmp_path / "w", wrapped, is_zip=is_zip)
        assert inspect_weights(path).tensors == SHAPES
        for name, tensor in read_checkpoint(path).items():
            assert torch.equal(tensor, state()[name])


def test_inspect_weights_reads_safetensors(tmp_path: Path) -> None:
    path = safetensors_file(tmp_path / "w.pth", {"module.face.weight": (4, 6, 3, 3), "face.bias": (4,), "s": ()})
    table = inspect_weights(path)
    assert (table.format, dict(table.tensors)) == ("safetensors", {**SHAPES, "s": ()})
    assert file_format(path) == "safetensors"


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
    path = onnx_file(tmp_path / "w.bin", model)
    table = inspect_weights(path)
    assert (table.format, dict(table.tensors), file_format(path)) == ("onnx", {"w": (3, 6, 1, 1), "b": (3,)}, "onnx")
    assert table.inputs == ((-1, 1, 80, 16), (-1, 6, 96, 96))
    assert table.outputs == ((-1, 3, 96, 96),)


def test_inspect_weights_reads_onnx_types_and_external_data(tmp_path: Path) -> None:
    model = onnx_model()
    kinds = set(TensorProto.DataType.values()) - {TensorProto.UNDEFINED, TensorProto.STRING}
    arrays = {str(kind): np.zeros(8, helper.tensor_dtype_to_np_dtype(kind)) for kind in kinds}
    arrays["texts"] = np.full(8, "text")
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    assert inspect_weights(onnx_file(tmp_path / "w.onnx", model)).tensors.keys() == {"w", "b", *arrays}
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "w.bin").write_bytes(bytes(72))
    assert inspect_weights(external_onnx(tmp_path / "w.onnx", "data/w.bin")).tensors["w"] == (3, 6, 1, 1)


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zip", "pickle", "bare"])
def test_inspect_weights_malicious_file_runs_no_code(tmp_path: Path, kind: str) -> None:
    target, path = tmp_path / "was-run", tmp_path / "w.pth"
    if kind == "bare":
        path.write_bytes(pickle.dumps(Harm(target), protocol=2))
    else:
        torch_file(path, {"state_dict": state(), "extra": Harm(target)}, is_zip=kind == "zip")
    with pytest.raises(WeightsError, match=r"w.pth: expected tensors alone, found a pickle that asks for posix.mkdir"):
        inspect_weights(path)
    with pytest.raises(WeightsError, match=r"w.pth: expected tensors alone"):
        read_checkpoint(path)
    assert not target.exists()
    if kind != "bare":
        torch.load(path, weights_only=False)
        assert target.exists(), "the file would have done nothing to anybody"


@pytest.mark.usefixtures("reading_process")
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "pickle"])
def test_inspect_weights_pickle_asking_for_memory_raises(tmp_path: Path, is_zip: bool) -> None:
    path = torch_file(tmp_path / "w.pth", {"state_dict": state(), "extra": Glutton()}, is_zip=is_zip)
    with pytest.raises(WeightsError, match="bounded memory"):
        inspect_weights(path)


def _add_zip(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")


def _edited_zip(path: Path, tensor: torch.Tensor, edit: Edit = bytes, kind: int = zipfile.ZIP_STORED) -> None:
    """A torch archive whose pickle was changed, or whose entries were packed."""
    source = torch_file(path.with_name("source"), {"w": tensor})
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", kind) as new:
        for name in old.namelist():
            new.writestr(name, edit(old.read(name)) if name.endswith("data.pkl") else old.read(name))


def _claim(pickled: bytes) -> bytes:
    """A pickle that says 2,000,000,000 where it said 1000."""
    changed = pickled.replace(b"M" + (1000).to_bytes(2, "little"), b"J" + (2_000_000_000).to_bytes(4, "little"))
    assert changed != pickled
    return changed


def _edit(make: Make, edit: Edit) -> Make:
    def write(path: Path) -> None:
        make(path)
        path.write_bytes(edit(path.read_bytes()))

    return write


def _cut(make: Make, share: float) -> Make:
    return _edit(make, lambda whole: whole[: int(len(whole) * share)])


def _safetensors(num_data_bytes: int, **spans: tuple[int, int]) -> Make:
    header = {name: {"dtype": "F32", "shape": [10], "data_offsets": span} for name, span in spans.items()}
    return lambda path: raw_safetensors(path, json.dumps(header), num_data_bytes)


def _onnx(path: Path, number: int, dims: list[int], data_type: int = TensorProto.FLOAT) -> None:
    """A network of which an initializer was changed."""
    model = onnx_model()
    tensor = model.graph.initializer[number]
    tensor.dims[:], tensor.data_type = dims, data_type
    onnx_file(path, model)


def _nested_outside(path: Path) -> None:
    tensor = helper.make_tensor("deep", TensorProto.FLOAT, (1,), [1.0])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    onnx_file(path, onnx_model(nested=tensor))


def _external(location: str, content: bytes | None = None, num_bytes: int = 72) -> Make:
    def write(path: Path) -> None:
        external_onnx(path, location, num_bytes=num_bytes)
        if content is not None:
            (path.parent / location).write_bytes(content)

    return write


def _link_outside(path: Path) -> None:
    (path.parent.parent / "secret").write_bytes(bytes(100))
    os.symlink("../secret", path.parent / "w.bin")
    external_onnx(path, "w.bin")


NUMBERS, NESTED = torch.zeros(1000), {"model": {"model": {"model": {"model": state()}}}}
REFUSED: dict[str, tuple[Make, str]] = {
    "a pickled module": (
        lambda path: torch_file(path, torch.nn.Linear(2, 2)),
        "asks for torch.nn.modules.linear.Linear",
    ),
    "TorchScript": (
        lambda path: _add_zip(path, "toy/constants.pkl", "toy/data.pkl", "toy/code/__torch__.py"),
        "found a TorchScript program",
    ),
    "another zip": (lambda path: _add_zip(path, "readme.txt"), r"found a zip archive of readme.txt \(1 files\)"),
    "a packed zip": (
        lambda path: _edited_zip(path, torch.zeros(1 << 22), kind=zipfile.ZIP_DEFLATED),
        "stored as they are, found source/data.pkl, ",
    ),
    "a cut zip": (_cut(torch_file, 0.7), "truncated or damaged"),
    "a cut old file": (_cut(lambda path: torch_file(path, is_zip=False), 0.7), "unexpected EOF"),
    "a claim in a zip": (lambda path: _edited_zip(path, NUMBERS, _claim), "torch cannot read it"),
    "a claim in an old file": (
        _edit(lambda path: torch_file(path, {"w": NUMBERS}, is_zip=False), _claim),
        "claims more memory|torch cannot read it",
    ),
    "no state dict": (lambda path: torch_file(path, [torch.zeros(3)]), "expected a dict of tensors, found list"),
    "no tensors": (lambda path: torch_file(path, {"lr": 1, "G": {"a": state()}}), "found one of 'lr', 'G'"),
    "an empty dict": (lambda path: torch_file(path, {}), "expected"),
    "wrapped four times": (lambda path: torch_file(path, NESTED), "found one of 'model'"),
    "twice with and without module.": (
        lambda path: torch_file(path, {**state(), **state(prefix="module.")}),
        "the same one with and without",
    ),
    "another pickle": (
        lambda path: path.write_bytes(pickle.dumps(OrderedDict(a=[1, 2]), protocol=2)),
        "torch cannot read it",
    ),
    "names to trick a terminal": (lambda path: torch_file(path, {"\x1b[2J": torch.zeros(1)}), "found something else"),
    "a header without end": (
        lambda path: path.write_bytes((10**9).to_bytes(8, "little") + b"{" + bytes(100)),
        "header too large",
    ),
    "a cut header": (_cut(safetensors_file, 0.1), "truncated or damaged"),
    "cut tensors": (_cut(safetensors_file, 0.9), "file not fully covered"),
    "a wrong span": (_safetensors(44, w=(0, 44)), "truncated or damaged"),
    "a shared span": (_safetensors(40, w=(0, 40), v=(0, 40)), "invalid offset"),
    "a name twice": (lambda path: raw_safetensors(path, '{"w": 1, "w": 2}', 0), "invalid JSON"),
    "no JSON": (lambda path: raw_safetensors(path, '{"w": ' + "[" * 100_000, 0), "recursion limit"),
    "a cut network": (_cut(onnx_file, 0.5), "protobuf cannot read this one: Error parsing"),
    "32 MB of empty nodes that take 2 GB in memory": (  # 2**25 as a varint
        lambda path: path.write_bytes(b"\x08\x0a\x3a\x80\x80\x80\x10" + b"\x0a\x00" * (1 << 24)),
        "Arena alloc failed",
    ),
    "a type of the future": (
        lambda path: _onnx(path, 0, [3, 6, 1, 1], data_type=99),
        "expected a known data type of 'module.w', found 99",
    ),
    "a claim in a network": (
        lambda path: _onnx(path, 0, [50_000, 50_000]),
        r"expected the data of \(50000, 50000\) in 'module.w'",
    ),
    "a packed claim in a network": (
        lambda path: _onnx(path, 1, [2_500_000_000]),
        r"expected the data of \(2500000000,\) in 'b'",
    ),
    "data above": (_external("../secret"), "inside the folder of the file, found '../secret'"),
    "data of the system": (_external("/etc/passwd"), "found '/etc/passwd'"),
    "data at an address": (_external("*/_ORT_MEM_ADDR_/*"), "inside the folder"),
    "data above in a node": (_nested_outside, "found '../secret'"),
    "data behind a link": (_link_outside, "inside its folder, found 'w.bin' outside"),
    "no data": (_external("w.bin"), "expected 72 bytes or more in w.bin beside it, found none"),
    "less data": (_external("w.bin", bytes(71)), "in w.bin beside it, found 71 bytes"),
    "less data than claimed": (_external("w.bin", num_bytes=8), "expected 72 bytes of external"),
    "a web page": (lambda path: path.write_text("<!DOCTYPE html><html>"), "found a web page"),
    "an LFS pointer": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"),
        "found a Git LFS pointer",
    ),
    "something": (lambda path: path.write_bytes(b"\xff\xfe hello"), "begins with ff fe 20"),
    "nothing": (Path.touch, "found an empty file"),
    "a folder": (Path.mkdir, "expected a file, found none"),
    "a pipe": (os.mkfifo, "expected a file, found none"),
}
NO_CHECKPOINT = re.compile("zip|old|dict|tensors|wrapped|module|pickle|header|page|pointer|something|nothing|folder")


@pytest.mark.parametrize("case", list(REFUSED))
def test_inspect_weights_damaged_file_raises_weights_error(tmp_path: Path, case: str) -> None:
    make, expected = REFUSED[case]
    folder = tmp_path / "inside"
    folder.mkdir()
    path = folder / "w.file"
    make(path)
    began = time.process_time()
    with pytest.raises(WeightsError, match=expected) as refused:
        inspect_weights(path)
    assert str(refused.value).startswith("w.file: expected ")
    assert str(refused.value).isprintable(), "one line for a terminal"
    assert time.process_time() - began < 60
    if NO_CHECKPOINT.search(case):
        with pytest.raises(WeightsError, match=r"^w\.file: expected "):
            read_checkpoint(path)
