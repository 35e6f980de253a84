"""The process that reads one weights file: `python -c ... FILE`; its answer is JSON on the standard output.

A file from the web may make its reader run out of memory, hang or crash. So it is read in a process with its own
limits, which replies in JSON: unpickling the reply of a compromised reader could run code.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError, safe_open

from lipwright.errors import WeightsError
from models.engines.protocol import TensorTable
from models.engines.weights.formats import (
    READER_MEMORY_BYTES,
    Contents,
    bare_names,
    bound_memory,
    bound_process,
    file_kind,
)
from models.engines.weights.torch_file import check_torch_zip, read_torch

_NO_MEMORY = "expected a file that can be read in bounded memory, found one that asks for more"


def main(path: str) -> None:
    """Read the file and print what it holds, or why it is refused."""
    try:
        with Path(path).open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise WeightsError("expected a file, found something else")
            bound_process(status.st_size)
            answer: dict[str, Any] = asdict(_read(file, status.st_size))
    except WeightsError as error:
        answer = {"fault": str(error)}
    except OSError as error:
        answer = {"fault": f"expected a file that can be read: {error.strerror}"}
    except (MemoryError, RecursionError):
        answer = {"fault": _NO_MEMORY}
    json.dump(answer, sys.stdout)


def _read(file: BinaryIO, num_bytes: int) -> Contents:
    kind = file_kind(file, num_bytes)
    if kind in ("torch zip", "torch pickle"):
        if kind == "torch zip":
            check_torch_zip(file, num_bytes)
        return read_torch(file, num_bytes, is_zip=kind == "torch zip")
    if kind == "safetensors":
        bound_memory(READER_MEMORY_BYTES + num_bytes)  # mapped into memory as a whole
        return _read_safetensors(file)
    from models.engines.weights.onnx_file import read_onnx

    bound_memory(READER_MEMORY_BYTES + 2 * num_bytes)  # mapped and copied
    return read_onnx(file)


def _read_safetensors(file: BinaryIO) -> Contents:
    """Read the header; the library compares it with the length of the file."""
    try:
        with safe_open(f"/proc/self/fd/{file.fileno()}", "np") as opened:
            shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise WeightsError(f"expected a whole safetensors file, it is truncated or damaged: {error}") from error
    return Contents(TensorTable("safetensors", bare_names(shapes)))
