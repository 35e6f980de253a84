from __future__ import annotations

from pathlib import Path

import pytest

from errors import WeightsError
from models.weights import FOLDER, SUMS_NAME, file_sha256, read_sums, verified_path, weights_path


def test_weights_path_of_shipped_and_unknown_files() -> None:
    shipped = {path.name for path in FOLDER.iterdir() if path.suffix in (".onnx", ".npz", ".npy")}
    assert shipped == set(read_sums(FOLDER / SUMS_NAME))
    for name in shipped:
        assert weights_path(name) == FOLDER / name
    with pytest.raises(WeightsError, match=r"nothing\.onnx"):
        weights_path("nothing.onnx")


def test_verified_path_changed_file_names_both_sums(tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    file.write_bytes(b"first")
    listed = file_sha256(file)
    (tmp_path / SUMS_NAME).write_text(f"{listed}  net.onnx\n")
    assert verified_path(tmp_path, "net.onnx") == file
    file.write_bytes(b"second")
    with pytest.raises(WeightsError, match=listed) as caught:
        verified_path(tmp_path, "net.onnx")
    assert file_sha256(file) in str(caught.value)


def test_verified_path_missing_file_or_sums_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=SUMS_NAME):
        verified_path(tmp_path, "net.onnx")
    (tmp_path / SUMS_NAME).write_text("0" * 64 + "  net.onnx\n")
    with pytest.raises(WeightsError, match=r"net\.onnx"):
        verified_path(tmp_path, "net.onnx")
    (tmp_path / SUMS_NAME).write_text("abc net.onnx\n")
    with pytest.raises(WeightsError, match="abc"):
        verified_path(tmp_path, "net.onnx")
