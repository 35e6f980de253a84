"""Reads inputs, outputs, initialisers and names of external data from an ONNX file.

onnxruntime loads and optimises the network and does not expose its initialisers. `onnx` parses the file from a memory
map into as much memory again; `onnx.load` reads it first, which takes twice as much.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from math import prod
from typing import Any, BinaryIO, Final

from google.protobuf.message import DecodeError, Message
from onnx import ModelProto, TensorProto, ValueInfoProto

from lipwright.errors import WeightsError
from models.engines.protocol import TensorTable
from models.engines.weights.formats import Contents, bare_names

_BITS: Final = {"FLOAT": 32, "DOUBLE": 64, "BOOL": 8, "STRING": 0}
"""Bits of one element of `raw_data` and of external data; the names of other types contain them."""
_NUMBERS: Final = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
_MAX_RANK: Final = 64
_PART: Final = re.compile(r"\w[\w .()+@=-]*", re.ASCII)
_MAX_LOCATION_CHARS: Final = 200


def read_onnx(file: BinaryIO) -> Contents:
    """Return what the file says; every tensor of it is compared with the bytes that are there for it.

    Raises:
        WeightsError: It is not an ONNX file, is damaged, or names external data outside its folder.
    """
    try:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as content:
            model = ModelProto.FromString(content)
        return _contents(model)
    except (DecodeError, UnicodeDecodeError) as error:
        raise WeightsError(f"expected an ONNX file, protobuf cannot read this one: {error}") from error


def _contents(model: ModelProto) -> Contents:
    external_data: dict[str, int] = {}
    for tensor in _tensors(model):
        _check(tensor, external_data)
    tensors = {each.name: _dims(each) for each in model.graph.initializer}
    # Before IR version 4 each initialiser was an input too.
    inputs = tuple(_shape(each) for each in model.graph.input if each.name not in tensors)
    outputs = tuple(_shape(each) for each in model.graph.output)
    if not inputs or not outputs:
        raise WeightsError(f"expected an ONNX file with inputs and outputs, found {len(inputs)} and {len(outputs)}")
    return Contents(TensorTable("onnx", bare_names(tensors), inputs, outputs), external_data)


def _tensors(message: Any) -> Iterator[TensorProto]:
    """Yield all tensors of a model: of graphs, of nodes and graphs inside them, of functions and of sparse tensors."""
    if isinstance(message, TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in [value] if isinstance(value, Message) else value:
                yield from _tensors(each)


def _check(tensor: TensorProto, external_data: dict[str, int]) -> None:
    """Compare the elements that a tensor claims with its bytes, here or in an external data file, which is added."""
    if tensor.data_type not in TensorProto.DataType.values()[1:]:
        raise WeightsError(f"expected a known data type of {tensor.name[:80]!r}, found {tensor.data_type}")
    kind = TensorProto.DataType.Name(tensor.data_type)
    bits = _BITS[kind] if kind in _BITS else int(re.findall(r"\d+", kind)[0])  # FLOAT8E4M3FN has 8
    num_elements = prod(_dims(tensor))
    num_bytes = (num_elements * bits + 7) // 8
    if tensor.external_data:
        _add_external_data(tensor, num_bytes, external_data)
    elif not _has_data(tensor, num_elements, num_bytes):
        raise WeightsError(f"expected the data of {_dims(tensor)} in {tensor.name[:80]!r}, found less or more")


def _add_external_data(tensor: TensorProto, num_bytes: int, external_data: dict[str, int]) -> None:
    said = {entry.key: entry.value for entry in tensor.external_data}
    location = said.get("location", "")
    offset, length = (said.get(key) or "0" for key in ("offset", "length"))
    if not (offset.isdecimal() and length.isdecimal()) or (int(length) and int(length) < num_bytes):
        raise WeightsError(f"expected {num_bytes} bytes of external data, found {length[:40]} from {offset[:40]}")
    parts = location.split("/")
    if len(location) > _MAX_LOCATION_CHARS or not all(_PART.fullmatch(part) for part in parts):
        raise WeightsError(f"expected external data inside the folder of the file, found {location[:200]!r}")
    stop = int(offset) + max(int(length), num_bytes)
    external_data[location] = max(stop, external_data.get(location, 0))


def _dims(tensor: TensorProto) -> tuple[int, ...]:
    dims = tuple(tensor.dims)
    if len(dims) > _MAX_RANK or any(length < 0 for length in dims):
        raise WeightsError(f"expected a shape, found {str(dims)[:80]} of {tensor.name[:80]!r}")
    return dims


def _has_data(tensor: TensorProto, num_elements: int, num_bytes: int) -> bool:
    """Whether the file holds the elements that a tensor without external data claims."""
    if tensor.string_data:
        return len(tensor.string_data) == num_elements
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data) == num_bytes
    # Numbers of their own type; one holds at most four elements (UINT2, INT2).
    return num_elements <= 4 * sum(len(getattr(tensor, name)) for name in _NUMBERS)


def _shape(value: ValueInfoProto) -> tuple[int, ...]:
    """The shape of an input or output: -1 for a free dimension, () where none is given."""
    dims = value.type.tensor_type.shape.dim
    return tuple(max(each.dim_value, -1) if each.HasField("dim_value") else -1 for each in dims)
