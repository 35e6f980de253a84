"""Weights files that a user could have brought."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lipwright.errors import WeightsError


@dataclass(frozen=True)
class Brought:
    """Satisfies `EngineWeights`: files by role."""

    files: Mapping[str, Path]

    def path(self, role: str) -> Path:
        if role not in self.files:
            raise WeightsError(f"There is no {role}.")
        return self.files[role]

    def fingerprint(self, role: str) -> str:
        return self.path(role).name if self.has(role) else ""

    def has(self, role: str) -> bool:
        return role in self.files
