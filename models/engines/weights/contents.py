"""What one look into a weights file gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from models.engines.contract import TensorTable


@dataclass(frozen=True)
class Contents:
    """A weights file as it describes itself.

    Attributes:
        table: Its tensors.
        companions: ONNX only: files with external data, as relative POSIX paths, and the bytes that each must have.
    """

    table: TensorTable
    companions: Mapping[str, int] = field(default_factory=dict)
