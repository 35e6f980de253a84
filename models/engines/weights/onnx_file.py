"""Reads inputs, outputs, initialisers and names of external data from an ONNX file, without copying it.

The reader walks the protobuf fields of a memory map and compares each tensor with its bytes. onnxruntime loads and
optimises the network and does not expose its initialisers; `onnx` needs twice the size of the file in memory.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import BinaryIO, Final

from errors import WeightsError
from models.engines.protocol import TensorTable
from models.engines.weights.formats import Contents, bare_names

# Wire types and limits: protobuf.dev, "Encoding".
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES: Final = 10
_FIXED: Final = {_FIXED64: 8, _FIXED32: 4}
_MAX_TEXT_BYTES: Final = 4096


Buffer = bytes | mmap.mmap


@dataclass(frozen=True)
class Span:
    """Bytes [start, stop) of a buffer: a message, a text or packed numbers, depending on the field."""

    buffer: Buffer
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def fields(self) -> Iterator[tuple[int, int | Span]]:
        """Yield the fields of a message: their numbers, with an integer for a varint and a span for all others.

        Raises:
            WeightsError: It is not a protobuf message.
        """
        place = self.start
        while place < self.stop:
            tag, place = self._varint(place)
            number, wire = tag >> 3, tag & 7
            if wire == _VARINT:
                value, place = self._varint(place)
                yield number, value
                continue
            if wire == _BYTES:
                length, place = self._varint(place)
            else:
                length = _FIXED.get(wire, -1)
            if number == 0 or length < 0 or place + length > self.stop:
                raise WeightsError("expected an ONNX file, found protocol buffers that are truncated or something else")
            yield number, Span(self.buffer, place, place + length)
            place += length

    def messages(self, wanted: int) -> Iterator[Span]:
        """Yield the spans of the fields with that number."""
        return (value for number, value in self.fields() if number == wanted and isinstance(value, Span))

    def integers(self, wanted: int) -> Iterator[int]:
        """Yield the signed 64-bit integers of that field, packed or not."""
        for number, value in self.fields():
            if number == wanted:
                yield from (_to_signed(each) for each in ([value] if isinstance(value, int) else value._unpack()))

    def text(self, wanted: int) -> str:
        """Return the last text of that field, "" without one.

        Raises:
            WeightsError: It is too long, or not UTF-8.
        """
        found = list(self.messages(wanted))
        if not found:
            return ""
        span = found[-1]
        try:
            if len(span) <= _MAX_TEXT_BYTES:
                return bytes(self.buffer[span.start : span.stop]).decode()
        except UnicodeDecodeError:
            pass
        raise WeightsError(f"expected names of at most {_MAX_TEXT_BYTES} bytes of UTF-8, found {len(span)} bytes")

    def _unpack(self) -> Iterator[int]:
        place = self.start
        while place < self.stop:
            value, place = self._varint(place)
            yield value

    def _varint(self, place: int) -> tuple[int, int]:
        """The number that begins at `place`, and where it ends."""
        value = 0
        for number in range(min(_MAX_VARINT_BYTES, self.stop - place)):
            byte = self.buffer[place + number]
            value |= (byte & 0x7F) << (7 * number)
            if byte < 0x80:
                return value & (2**64 - 1), place + number + 1
        raise WeightsError("expected an ONNX file, found protocol buffers that are truncated or something else")


def _to_signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


# onnx/onnx.proto: numbers of fields.
MODEL: Final = {"graph": 7, "training_info": 20, "functions": 25}
TRAINING: Final = {"initialization": 1, "algorithm": 2}
GRAPH: Final = {"node": 1, "initializer": 5, "input": 11, "output": 12, "sparse_initializer": 15}
FUNCTION: Final = {"node": 7, "attribute_proto": 11}
NODE: Final = {"attribute": 5}
ATTRIBUTE: Final = {"t": 5, "g": 6, "tensors": 10, "graphs": 11, "sparse_tensor": 22, "sparse_tensors": 23}
SPARSE: Final = {"values": 1, "indices": 2}
TENSOR: Final = {"dims": 1, "data_type": 2, "string_data": 6, "name": 8, "raw_data": 9, "external_data": 13}
PACKED: Final = {"float_data": 4, "int32_data": 5, "int64_data": 7, "double_data": 10, "uint64_data": 11}
ENTRY: Final = {"key": 1, "value": 2}
VALUE: Final = {"name": 1, "type": 2}
TYPE: Final = {"tensor_type": 1}
TENSOR_TYPE: Final = {"shape": 2}
SHAPE: Final = {"dim": 1}
DIMENSION: Final = {"dim_value": 1, "dim_param": 2}

BITS: Final = {
    **dict.fromkeys((25, 26), 2),  # UINT2, INT2
    **dict.fromkeys((21, 22, 23), 4),  # UINT4, INT4, FLOAT4E2M1
    **dict.fromkeys((27, 28), 6),  # FLOAT6E2M3, FLOAT6E3M2
    **dict.fromkeys((2, 3, 9, 17, 18, 19, 20, 24), 8),  # UINT8, INT8, BOOL, the FLOAT8s
    **dict.fromkeys((4, 5, 10, 16), 16),  # UINT16, INT16, FLOAT16, BFLOAT16
    **dict.fromkeys((1, 6, 12), 32),  # FLOAT, INT32, UINT32
    **dict.fromkeys((7, 11, 13, 14), 64),  # INT64, DOUBLE, UINT64, COMPLEX64
    15: 128,  # COMPLEX128
}
"""Bits of one element of `raw_data` and of external data, by TensorProto.DataType."""
_STRING: Final = 8
_MAX_DEPTH: Final = 16  # graphs inside nodes
_MAX_RANK: Final = 64
_PART: Final = re.compile(r"\w[\w .()+@=-]*", re.ASCII)
_MAX_LOCATION_CHARS: Final = 200


def read_onnx(file: BinaryIO, num_bytes: int) -> Contents:
    """Return what the file says; every tensor of it is compared with the bytes that are there for it.

    Raises:
        WeightsError: It is not an ONNX file, is damaged, or names external data outside its folder.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return _Reader().read(Span(mapped, 0, num_bytes))


class _Reader:
    """Walks one model and gathers the external data files that its tensors name."""

    def __init__(self) -> None:
        self._external_data: dict[str, int] = {}

    def read(self, model: Span) -> Contents:
        graphs = list(model.messages(MODEL["graph"]))
        if len(graphs) != 1:
            raise WeightsError(f"expected an ONNX file with one graph, found {len(graphs)}")
        (graph,) = graphs
        self._walk_graph(graph, 0)
        for function in model.messages(MODEL["functions"]):
            self._walk_nodes(function.messages(FUNCTION["node"]), 0)
            self._walk_attributes(function.messages(FUNCTION["attribute_proto"]), 0)
        for training in model.messages(MODEL["training_info"]):
            for each in chain(*(training.messages(number) for number in TRAINING.values())):
                self._walk_graph(each, 0)
        tensors = {each.text(TENSOR["name"]): _dims(each) for each in graph.messages(GRAPH["initializer"])}
        # Before IR version 4 each initialiser was an input too.
        inputs = tuple(
            _shape(each) for each in graph.messages(GRAPH["input"]) if each.text(VALUE["name"]) not in tensors
        )
        outputs = tuple(_shape(each) for each in graph.messages(GRAPH["output"]))
        if not inputs or not outputs:
            raise WeightsError(f"expected inputs and outputs, found {len(inputs)} and {len(outputs)}")
        return Contents(TensorTable("onnx", bare_names(tensors), inputs, outputs), self._external_data)

    def _walk_graph(self, graph: Span, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise WeightsError(f"expected graphs at most {_MAX_DEPTH} deep inside each other, found deeper ones")
        for tensor in graph.messages(GRAPH["initializer"]):
            self._check(tensor)
        self._walk_sparse(graph.messages(GRAPH["sparse_initializer"]))
        self._walk_nodes(graph.messages(GRAPH["node"]), depth)

    def _walk_nodes(self, nodes: Iterator[Span], depth: int) -> None:
        for node in nodes:
            self._walk_attributes(node.messages(NODE["attribute"]), depth)

    def _walk_attributes(self, attributes: Iterator[Span], depth: int) -> None:
        for attribute in attributes:
            for number, value in attribute.fields():
                if not isinstance(value, Span):
                    continue
                if number in (ATTRIBUTE["t"], ATTRIBUTE["tensors"]):
                    self._check(value)
                elif number in (ATTRIBUTE["g"], ATTRIBUTE["graphs"]):
                    self._walk_graph(value, depth + 1)
                elif number in (ATTRIBUTE["sparse_tensor"], ATTRIBUTE["sparse_tensors"]):
                    self._walk_sparse(iter([value]))

    def _walk_sparse(self, tensors: Iterator[Span]) -> None:
        for tensor in tensors:
            for each in chain(*(tensor.messages(number) for number in SPARSE.values())):
                self._check(each)

    def _check(self, tensor: Span) -> None:
        """Compare the elements that a tensor claims with its bytes, here or in an external data file."""
        kind = next(tensor.integers(TENSOR["data_type"]), 0)
        num_elements = prod(_dims(tensor))
        bits = BITS.get(kind)
        if bits is None and kind != _STRING:
            raise WeightsError(f"expected a known data type of {_name(tensor)}, found {kind}")
        num_bytes = (num_elements * (bits or 0) + 7) // 8
        if entries := list(tensor.messages(TENSOR["external_data"])):
            self._add_external_data(entries, num_bytes)
        elif not _has_data(tensor, num_elements, num_bytes):
            raise WeightsError(f"expected the data of {_dims(tensor)} in {_name(tensor)}, found less or more")

    def _add_external_data(self, entries: list[Span], num_bytes: int) -> None:
        said = {entry.text(ENTRY["key"]): entry.text(ENTRY["value"]) for entry in entries}
        location = said.get("location", "")
        offset, length = (said.get(key) or "0" for key in ("offset", "length"))
        if not (offset.isdecimal() and length.isdecimal()) or (int(length) and int(length) < num_bytes):
            raise WeightsError(f"expected {num_bytes} bytes of external data, found {length[:40]} from {offset[:40]}")
        parts = location.split("/")
        if len(location) > _MAX_LOCATION_CHARS or not all(_PART.fullmatch(part) for part in parts):
            raise WeightsError(f"expected external data inside the folder of the file, found {location!r}")
        stop = int(offset) + max(int(length), num_bytes)
        self._external_data[location] = max(stop, self._external_data.get(location, 0))


def _dims(tensor: Span) -> tuple[int, ...]:
    dims = tuple(tensor.integers(TENSOR["dims"]))
    if len(dims) > _MAX_RANK or any(length < 0 for length in dims):
        raise WeightsError(f"expected a shape, found {str(dims)[:80]} of {_name(tensor)}")
    return dims


def _name(tensor: Span) -> str:
    return repr(tensor.text(TENSOR["name"])[:80])


def _has_data(tensor: Span, num_elements: int, num_bytes: int) -> bool:
    """Whether the file holds the elements that a tensor without external data claims."""
    if texts := list(tensor.messages(TENSOR["string_data"])):
        return len(texts) == num_elements
    if raw := list(tensor.messages(TENSOR["raw_data"])):
        return sum(map(len, raw)) == num_bytes
    # Numbers of their own type. Each takes a byte or more, which hold at most four elements (UINT2, INT2).
    places = [value for number, value in tensor.fields() if number in PACKED.values()]
    return num_elements <= 4 * sum(len(value) if isinstance(value, Span) else 1 for value in places)


def _shape(value: Span) -> tuple[int, ...]:
    """The shape of an input or output: -1 for a free dimension, () where none is given."""
    found = value
    for number in (VALUE["type"], TYPE["tensor_type"], TENSOR_TYPE["shape"]):
        inner = list(found.messages(number))
        if not inner:
            return ()
        found = inner[-1]
    return tuple(_length(each) for each in found.messages(SHAPE["dim"]))


def _length(dimension: Span) -> int:
    lengths = list(dimension.integers(DIMENSION["dim_value"]))
    return max(lengths[-1], -1) if lengths else -1
