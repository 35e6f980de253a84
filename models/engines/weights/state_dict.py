"""Where the parameters lie inside what training code saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from errors import WeightsError

WRAPPERS: Final = ("state_dict", "model_state_dict", "model", "net_g", "face_G")
"""Keys under which checkpoints keep their parameters: Wav2Lip, DINet (`state_dict`, `net_g`), Whisper
(`model_state_dict`), Ultralight-Digital-Human (`model`); see inference.py or the loading code of each repository."""
MAX_DEPTH: Final = 3
"""Wrappers inside wrappers."""
_PARALLEL: Final = "module."  # torch.nn.parallel.DataParallel puts it before every name

Item = TypeVar("Item")


def find_state_dict(checkpoint: Any) -> Mapping[str, Any]:
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
