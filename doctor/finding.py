"""What one check found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum


class Status(StrEnum):
    """How bad it is, from good to bad."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """The answer of one check.

    Attributes:
        check: What was looked at.
        status: A warning is slower or riskier than it need be; with a problem something does not work.
        found: What is here.
        expected: What should be here; empty if all is well.
        mend: What to do about it; empty if all is well.
    """

    check: str
    status: Status
    found: str
    expected: str = ""
    mend: str = ""

    def as_dict(self) -> dict[str, str]:
        """The finding as JSON knows it."""
        return {name: str(value) for name, value in asdict(self).items()}


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, Status.OK, found)


def warning(check: str, found: str, expected: str, mend: str) -> Finding:
    """It works, but slower or with a risk."""
    return Finding(check, Status.WARNING, found, expected, mend)


def problem(check: str, found: str, expected: str, mend: str) -> Finding:
    """Something does not work."""
    return Finding(check, Status.PROBLEM, found, expected, mend)


def worst(findings: Iterable[Finding]) -> Status:
    """The worst status of all."""
    order = list(Status)
    return max((finding.status for finding in findings), key=order.index, default=Status.OK)


def size(num_bytes: float) -> str:
    """Bytes for a reader: `64 MiB`, `7.2 GiB`."""
    if num_bytes < 1024**3:
        return f"{num_bytes / 1024**2:.0f} MiB"
    return f"{num_bytes / 1024**3:.1f} GiB"
