"""What kind of weights file something is, told by its first bytes; its name says nothing."""

from __future__ import annotations

from typing import BinaryIO, Final, Literal

from errors import WeightsError

Kind = Literal["torch zip", "torch pickle", "safetensors", "protobuf"]

_ZIP: Final = b"PK\x03\x04"  # APPNOTE.TXT, 4.3.7
_PICKLE: Final = b"\x80"  # PROTO, of pickles of protocol 2 and later
_LENGTH_BYTES: Final = 8  # safetensors, README "Format": u64 in little-endian order, then the header as JSON
_ONNX_START: Final = b"\x08"  # onnx.proto: ModelProto.ir_version, field 1, a varint; exporters write it first
# What people pick in place of the file they mean.
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
    if start.startswith(_PICKLE):
        return "torch pickle"
    if _is_safetensors(start, num_bytes):
        return "safetensors"
    if start.startswith(_ONNX_START):
        return "protobuf"
    raise WeightsError(f"expected a torch, safetensors or ONNX file, found {_described(start)}")


def _is_safetensors(start: bytes, num_bytes: int) -> bool:
    length = int.from_bytes(start[:_LENGTH_BYTES], "little")
    # A header longer than the file is a truncated file; one longer than any file is something else.
    return start[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{" and length < max(num_bytes, 1 << 40)


def _described(start: bytes) -> str:
    if not start:
        return "an empty file"
    for magic, name in _OTHERS:
        if start.lstrip().startswith(magic):
            return name
    return f"one that begins with {start[:8].hex(' ')}"
