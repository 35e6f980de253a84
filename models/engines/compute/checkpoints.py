"""Reads files with weights that somebody else made: nothing in them is ever run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

FileFormat = Literal["torch", "safetensors", "onnx"]

# Keys under which training scripts store the parameters; the last one is that of OpenAI's Whisper.
_WRAPPERS: Final = ("state_dict", "model", "model_state_dict")
_PARALLEL_PREFIX: Final = "module."  # torch.nn.DataParallel
# First bytes: zip archives of torch, pickles of torch before 1.6; ONNX begins with field 1 (ir_version) of its message.
_ZIP, _PICKLE, _ONNX = b"PK\x03\x04", b"\x80", b"\x08"
_SAFETENSORS_HEADER: Final = slice(8, 9)  # after its length: JSON


def file_format(path: Path) -> FileFormat:
    """Say what kind of file it is, by its first bytes; its name does not matter.

    Raises:
        WeightsError: It is missing, or none of the known kinds.
    """
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise WeightsError(f"Expected weights in {path.name}, the file cannot be read: {error.strerror}.") from error
    if head.startswith((_ZIP, _PICKLE)):
        return "torch"
    if head[_SAFETENSORS_HEADER] == b"{":
        return "safetensors"
    if head.startswith(_ONNX):
        return "onnx"
    raise WeightsError(f"Expected a torch, safetensors or ONNX file, {path.name} starts with {head[:8]!r}.")


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the parameters in a torch checkpoint or a safetensors file.

    Wrappers (`state_dict`, `model`) and the prefix `module.` are taken off. Only tensors and plain containers are
    unpickled (`weights_only`): a file that asks for anything else is refused, and nothing of it has run. Zip archives
    and safetensors are mapped into memory, so that large networks are not held twice on their way to a device.

    Returns:
        Parameters by name, on the CPU; not to be written to.

    Raises:
        WeightsError: The file is missing, damaged, or holds something else than parameters.
    """
    kind = file_format(path)
    try:
        loaded = _load_safetensors(path) if kind == "safetensors" else _load_torch(path)
    except Exception as error:  # a damaged or hostile file makes the unpickler raise nearly anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        reader = "safetensors" if kind == "safetensors" else "torch"
        raise WeightsError(f"Expected tensors alone in {path.name}, {reader} refuses it: {reason}") from error
    return _parameters(loaded, path)


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    loaded: dict[str, Tensor] = load_file(path)
    return loaded


def _load_torch(path: Path) -> Any:
    import torch

    with path.open("rb") as file:
        is_zip = file.read(len(_ZIP)) == _ZIP
    return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)


def _parameters(loaded: Any, path: Path) -> dict[str, Tensor]:
    import torch

    for key in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping):
        raise WeightsError(f"Expected parameters by name in {path.name}, found {type(loaded).__name__}.")
    found = {
        str(name).removeprefix(_PARALLEL_PREFIX): value
        for name, value in loaded.items()
        if isinstance(value, torch.Tensor)
    }
    if not found:
        raise WeightsError(f"Expected parameters by name in {path.name}, found none among {len(loaded)} entries.")
    return found
