"""Inspects weights files without running any code in them; `reading` is the process that does it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lipwright.errors import WeightsError
from models.engines.protocol import TensorTable
from models.engines.weights.formats import MAX_ANSWER_BYTES, Contents
from models.engines.weights.upload import external_data_paths

_ROOT: Final = Path(__file__).resolve().parents[3]
_START: Final = "import sys; from models.engines.weights.reading import main; main(sys.argv[1])"
_KEPT: Final = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LANG", "LC_ALL")
_WALL_SECONDS: Final = 180
_BYTES_PER_SECOND: Final = 20_000_000  # of a slow disk
_MAX_NAME_CHARS: Final = 300
_MAX_RANK: Final = 64
_MAX_FAULT_CHARS: Final = 400


def inspect_weights(path: Path) -> TensorTable:
    """Return the contents of the file. None of its code is run, and memory and time are bounded.

    Torch files (zip archives and the pickles of before 1.6) are read by `torch.load(weights_only=True)` alone; the
    state dict is found inside wrappers, and `module.` before its names is left out.

    Raises:
        WeightsError: It is not a torch, safetensors or ONNX file, is truncated or damaged, asks for code to be run or
            for more memory than it has bytes, or has external data that is missing or outside its folder.
    """
    contents = read_contents(path)
    external_data_paths(path.name, contents.external_data, path.parent)
    return contents.table


def read_contents(path: Path, label: str | None = None) -> Contents:
    """Return what the file holds; the external data files that it names are not looked for.

    Messages call it `label`, or by its name.

    Raises:
        WeightsError: As `inspect_weights`.
    """
    label = label or path.name
    if not path.is_file():
        raise WeightsError(f"{label}: expected a file, found none.")
    with tempfile.TemporaryFile() as answer:
        fault = _run(path, answer.fileno())
        answer.seek(0)
        text = answer.read(MAX_ANSWER_BYTES)
    if fault:
        raise WeightsError(f"{label}: {fault}.")
    try:
        found = json.loads(text)
        if "fault" in found:
            raise WeightsError(f"{label}: {_printable(str(found['fault']))}.")
        return _contents(found)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise WeightsError(f"{label}: expected names and shapes of tensors, found something else.") from error


def _run(path: Path, answer: int) -> str:
    """Read `path` in another process; return why it gave no answer, or "" if it did."""
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_ROOT), environment.get("PYTHONPATH"))))
    # The process computes nothing: threads would only take address space, and it needs no GPU.
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    seconds = _WALL_SECONDS + path.stat().st_size / _BYTES_PER_SECOND
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _START, str(path.absolute())],
            stdin=subprocess.DEVNULL,
            stdout=answer,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"expected a file that can be read in {seconds:.0f} s, found one that takes longer"
    if done.returncode == -signal.SIGXCPU:
        return "expected a file that can be read in bounded processor time, found one that takes more"
    if done.returncode != 0:
        return f"expected a file that can be read, found one that ends its reader (exit code {done.returncode})"
    return ""


def _contents(found: Mapping[str, Any]) -> Contents:
    """The answer, checked again: the process that gave it may be compromised."""
    table = found["table"]
    if table["format"] not in ("torch", "safetensors", "onnx"):
        raise ValueError("format")
    shapes = {_name(name): _shape(shape) for name, shape in table["tensors"].items()}
    inputs, outputs = (tuple(map(_shape, table[key])) for key in ("inputs", "outputs"))
    external_data = {_name(name): int(stop) for name, stop in found["external_data"].items()}
    return Contents(TensorTable(table["format"], shapes, inputs, outputs), external_data)


def _name(name: str) -> str:
    if len(name) > _MAX_NAME_CHARS or not name.isprintable():
        raise ValueError("name")
    return name


def _shape(shape: list[int]) -> tuple[int, ...]:
    if len(shape) > _MAX_RANK or any(type(length) is not int or length < -1 for length in shape):
        raise ValueError("shape")
    return tuple(shape)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text[:_MAX_FAULT_CHARS])
