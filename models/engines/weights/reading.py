"""The process that reads one weights file: `python -c ... FILE`; its answer is JSON on the standard output.

A file that somebody found on the web may make a reader run out of memory, hang or crash. So it is read in a process
with bounds of its own, and what comes back is JSON: a reader that was taken over has no pickle to send.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import warnings
import zipfile
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Final

from errors import WeightsError
from models.engines.protocol import TensorTable
from models.engines.weights.formats import Contents, bare_names, bound_memory, bound_process, file_kind, find_state_dict
from models.engines.weights.onnx_file import read_onnx

_ROOM_BYTES = 512 * 1024**2
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
    bound_memory(_ROOM_BYTES)
    return read_safetensors(file, num_bytes) if kind == "safetensors" else read_onnx(file, num_bytes)


# The header of a safetensors file; the tensors themselves are not read.

_LENGTH_BYTES: Final = 8
_MAX_HEADER_BYTES: Final = 16 * 1024**2  # the format allows 100 MB; ten thousand tensors take one
# safetensors, tensor.rs: bits of one element.
_BITS: Final = {
    **dict.fromkeys(("F4", "F4_E2M1"), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E5M2FNUZ", "F8_E4M3FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}


def read_safetensors(file: BinaryIO, num_bytes: int) -> Contents:
    """Return what the header says after comparing it with the length of the file.

    Raises:
        WeightsError: The header is none, or speaks of bytes that are not there.
    """
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if length > _MAX_HEADER_BYTES:
        raise WeightsError(f"expected a safetensors header of at most {_MAX_HEADER_BYTES} bytes, found one of {length}")
    text = file.read(length)
    if len(text) < length:
        raise WeightsError(f"expected a safetensors header of {length} bytes, found {len(text)}: the file is truncated")
    header = _parse_header(text)
    header.pop("__metadata__", None)
    stops = []
    shapes = {}
    for name, entry in header.items():
        shapes[name], span = _tensor(name, entry)
        stops.append(span)
    _check_spans(sorted(stops), num_bytes - _LENGTH_BYTES - length)
    return Contents(TensorTable("safetensors", bare_names(shapes)))


def _parse_header(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text, object_pairs_hook=_refuse_duplicates)
    except (ValueError, RecursionError) as error:
        raise WeightsError("expected a safetensors header of JSON, found something else") from error
    if not isinstance(header, dict):
        raise WeightsError(f"expected a safetensors header that is an object, found {type(header).__name__}")
    return header


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name twice")
    return found


def _tensor(name: str, entry: Any) -> tuple[tuple[int, ...], tuple[int, int]]:
    """Shape and half-open span of bytes of one entry."""
    try:
        bits, shape, (start, stop) = _BITS[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
        is_sound = all(type(n) is int and n >= 0 for n in (*shape, start, stop))
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"expected dtype, shape and data_offsets of {name!r}, found {str(entry)[:80]}") from error
    if not is_sound or prod(shape) * bits != (stop - start) * 8:
        raise WeightsError(f"expected {name!r} to take the bytes of {shape} {entry['dtype']}, found {start} to {stop}")
    return shape, (start, stop)


def _check_spans(spans: list[tuple[int, int]], num_bytes: int) -> None:
    """The tensors fill the rest of the file without gaps and without sharing bytes."""
    place = 0
    for start, stop in spans:
        if start != place:
            raise WeightsError(f"expected the next tensor at byte {place} of the data, found it at {start}")
        place = stop
    if place != num_bytes:
        why = ": the file is truncated" if place > num_bytes else ""
        raise WeightsError(f"expected {place} bytes of tensors, found {num_bytes}{why}")


# The shapes in a file of `torch.save`, read by `torch.load(weights_only=True)` without reading the numbers. PyTorch is
# imported here, in the reading process, only: what a pickle can ask for stays there.


_MAX_ENTRIES: Final = 100_000
_MAX_PICKLE_BYTES: Final = 64 * 1024**2  # ten thousand tensors take two
_GLOBAL: Final = re.compile(r"GLOBAL (\S+)")


def check_torch_zip(file: BinaryIO, num_bytes: int) -> None:
    """Refuse an archive that `torch.save` did not write, or that unpacks to more than it is.

    Raises:
        WeightsError: As said.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise WeightsError("expected a whole torch file, found a zip archive that is truncated or damaged") from error
    names = [entry.filename for entry in entries]
    pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
    if any(name.endswith("/constants.pkl") for name in names):
        raise WeightsError("expected tensors alone, found a TorchScript program: save its state_dict()")
    if len(pickles) != 1 or len(entries) > _MAX_ENTRIES:
        raise WeightsError(f"expected a torch file, found a zip archive of {', '.join(names[:3])} ({len(names)} files)")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise WeightsError(
                f"expected entries that are stored as they are, found {entry.filename}, "
                f"{entry.compress_size} bytes that unpack to {entry.file_size}"
            )
    total = sum(entry.file_size for entry in entries)
    if total > num_bytes or pickles[0].file_size > _MAX_PICKLE_BYTES:
        raise WeightsError(
            f"expected entries of together at most {num_bytes} bytes and a pickle of at most {_MAX_PICKLE_BYTES}, "
            f"found {total} and {pickles[0].file_size}"
        )


def read_torch(file: BinaryIO, num_bytes: int, *, is_zip: bool) -> Contents:
    """Return the shapes of all parameters.

    `is_zip`: it is the archive that `torch.save` has written since 1.6, not the bare pickle of before.

    Raises:
        WeightsError: It holds more than tensors, is damaged, or has no parameters.
    """
    import torch

    # From here on the file decides what memory is asked for. An archive is mapped as a whole, page by page as needed.
    bound_memory(_ROOM_BYTES + (num_bytes if is_zip else 0))
    # By number: a path that ends in .safetensors would be read by another library.
    path = f"/proc/self/fd/{file.fileno()}"
    # On "meta" an old file's tensors are read one at a time and dropped. An archive's would not be compared with
    # their records there; mapped to memory they are, and no page is touched.
    place: dict[str, Any] = {"map_location": "cpu", "mmap": True} if is_zip else {"map_location": "meta"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            checkpoint = torch.load(path, weights_only=True, **place)
        except MemoryError:
            raise
        except Exception as error:  # whatever a damaged pickle makes the unpickler raise
            raise WeightsError(_fault(str(error))) from error
    shapes = {
        name: tuple(int(length) for length in value.shape)
        for name, value in find_state_dict(checkpoint).items()
        if isinstance(value, torch.Tensor)
    }
    if not shapes:
        keys = ", ".join(map(repr, list(find_state_dict(checkpoint))[:5])) or "nothing"
        raise WeightsError(f"expected a dict of tensors, found one of {keys}")
    return Contents(TensorTable("torch", bare_names(shapes)))


def _fault(message: str) -> str:
    if found := _GLOBAL.search(message):
        return f"expected tensors alone, found a pickle that asks for {found[1]}, which it was not given"
    if "can't allocate" in message:
        return "expected tensors that fit into the bytes of the file, found one that claims more memory"
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    reason = lines[0][:200].rstrip(".") if lines else "no reason given"
    return f"expected a torch file of tensors, torch cannot read it: {reason}"
