"""What the readers of weights files share: kinds of files, their contents, parameter names, and process limits."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final, Literal, TypeVar

from lipwright.errors import WeightsError
from models.engines.protocol import TensorTable

Kind = Literal["torch zip", "torch pickle", "safetensors", "protobuf"]

_ZIP: Final = b"PK\x03\x04"  # APPNOTE.TXT, 4.3.7
_PICKLE: Final = b"\x80"  # PROTO, of pickles of protocol 2 and later
_LENGTH_BYTES: Final = 8  # safetensors, README "Format": u64 in little-endian order, then the header as JSON
_ONNX_START: Final = b"\x08"  # onnx.proto: ModelProto.ir_version, field 1, a varint; exporters write it first
# Files that people often choose by mistake.
_OTHERS: Final = (
    (b"version https://git-lfs", "a Git LFS pointer, which stands for the file: fetch it with `git lfs pull`"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 (Keras) file"),
    (b"GGUF", "a GGUF file"),
    (b"<", "a web page or XML: the download gave no file"),
    (b"{", "JSON text"),
)


def file_kind(file: BinaryIO, num_bytes: int) -> Kind:
    """Return the kind of the file of `num_bytes` bytes; its position is 0 afterwards.

    Raises:
        WeightsError: It is none of them.
    """
    start = file.read(64)
    file.seek(0)
    if start.startswith(_ZIP):
        return "torch zip"
    # Before the pickle: the low byte of a header's length may be that of a pickle's first opcode.
    if _is_safetensors(start, num_bytes):
        return "safetensors"
    if start.startswith(_PICKLE):
        return "torch pickle"
    if start.startswith(_ONNX_START):
        return "protobuf"
    raise WeightsError(f"expected a torch, safetensors or ONNX file, found {_describe(start)}")


def _is_safetensors(start: bytes, num_bytes: int) -> bool:
    length = int.from_bytes(start[:_LENGTH_BYTES], "little")
    # A header longer than the file is a truncated file; one longer than any file is something else.
    return start[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{" and length < max(num_bytes, 1 << 40)


def _describe(start: bytes) -> str:
    if not start:
        return "an empty file"
    for magic, name in _OTHERS:
        if start.lstrip().startswith(magic):
            return name
    return f"one that begins with {start[:8].hex(' ')}"


@dataclass(frozen=True)
class Contents:
    """A weights file as it describes itself."""

    table: TensorTable  # its tensors
    # ONNX only: files with external data, as relative POSIX paths, and the bytes that each must have
    external_data: Mapping[str, int] = field(default_factory=dict)


WRAPPERS: Final = ("state_dict", "model_state_dict", "model", "net_g", "face_G")
"""Keys under which checkpoints keep their parameters: Wav2Lip, DINet (`state_dict`, `net_g`), Whisper
(`model_state_dict`), Ultralight-Digital-Human (`model`); see inference.py or the loading code of each repository."""
MAX_DEPTH: Final = 3
"""Wrappers inside wrappers."""
_PARALLEL: Final = "module."  # torch.nn.parallel.DataParallel puts it before every name

Item = TypeVar("Item")


def find_state_dict(checkpoint: object) -> Mapping[str, Any]:
    """Return the mapping inside all wrappers; its values may be anything.

    Raises:
        WeightsError: There is no mapping of names.
    """
    found = checkpoint
    for _ in range(MAX_DEPTH):
        inner = [found[key] for key in WRAPPERS if isinstance(found, Mapping) and isinstance(found.get(key), Mapping)]
        if not inner:
            break
        found = inner[0]
    if not isinstance(found, Mapping):
        raise WeightsError(f"expected a dict of tensors, found {type(found).__name__}")
    return {name: value for name, value in found.items() if isinstance(name, str)}


def bare_names(items: Mapping[str, Item]) -> dict[str, Item]:
    """Return `items` without the prefix that DataParallel puts before names.

    Raises:
        WeightsError: Two names are the same without it.
    """
    bare = {name.removeprefix(_PARALLEL): item for name, item in items.items()}
    if len(bare) < len(items):
        raise WeightsError(f"expected names with or without {_PARALLEL!r}, found the same one with and without it")
    return bare


READER_MEMORY_BYTES: Final = 512 * 1024**2
"""Memory that a reader may use beside a mapping of the file."""
MAX_ANSWER_BYTES: Final = 64 * 1024**2
"""What the process may write, to its answer or anywhere."""
_MAX_OPEN_FILES: Final = 64
_CPU_SECONDS: Final = 120  # importing PyTorch takes a few, with a cold disk cache on a slow machine many
_BYTES_PER_CPU_SECOND: Final = 50_000_000  # an old torch file is read as a whole


def bound_process(num_bytes: int) -> None:
    """Limit processor time, open files and what is written, for reading a file of `num_bytes`."""
    _limit(resource.RLIMIT_CPU, _CPU_SECONDS + num_bytes // _BYTES_PER_CPU_SECOND)
    _limit(resource.RLIMIT_FSIZE, MAX_ANSWER_BYTES)
    _limit(resource.RLIMIT_NOFILE, _MAX_OPEN_FILES)
    _limit(resource.RLIMIT_CORE, 0)


def bound_memory(more_bytes: int) -> None:
    """Limit the address space to what it is now and `more_bytes`: libraries map gigabytes when they are imported."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        now = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmSize:"))
    _limit(resource.RLIMIT_AS, now + more_bytes)


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, hard if kind == resource.RLIMIT_AS else value))
