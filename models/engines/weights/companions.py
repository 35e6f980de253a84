"""The files beside an ONNX file that hold data of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from errors import WeightsError


def companion_paths(label: str, companions: Mapping[str, int], folder: Path | None) -> dict[str, Path]:
    """Return where the companions lie, by location.

    Args:
        label: What messages call the ONNX file.
        companions: Relative POSIX paths, and the bytes that each must have.
        folder: Where the ONNX file lies; None when it came alone, from a URL.

    Raises:
        WeightsError: One is missing, too short, or lies outside of `folder`, be it through a link.
    """
    found = {}
    for location, num_bytes in companions.items():
        if folder is None:
            raise WeightsError(f"{label}: expected all its data in one file, found that some is in {location}.")
        path = (folder / location).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise WeightsError(f"{label}: expected external data inside its folder, found {location!r} outside.")
        if not path.is_file() or path.stat().st_size < num_bytes:
            size = f"{path.stat().st_size} bytes" if path.is_file() else "none"
            raise WeightsError(f"{label}: expected {num_bytes} bytes or more in {location} beside it, found {size}.")
        found[location] = path
    return found
