"""The result of one check."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum


class Status(StrEnum):
    """Severity, in ascending order."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
        check: Name of the check.
        status: With a warning the service works, but slower or with a risk; with a problem something does not work.
        found: The actual state.
        expected: The required state; empty if the check passed.
        fix: How to fix it; empty if the check passed.
    """

    check: str
    status: Status
    found: str
    expected: str = ""
    fix: str = ""

    def as_dict(self) -> dict[str, str]:
        """The result with the keys of `lipwright doctor --json`, where the fix is called `mend`."""
        fields = {name: str(value) for name, value in asdict(self).items()}
        return {**{name: value for name, value in fields.items() if name != "fix"}, "mend": self.fix}


def ok(check: str, found: str) -> CheckResult:
    """Returns a passed check."""
    return CheckResult(check, Status.OK, found)


def warning(check: str, found: str, expected: str, fix: str) -> CheckResult:
    """Returns a warning: it works, but slower or with a risk."""
    return CheckResult(check, Status.WARNING, found, expected, fix)


def problem(check: str, found: str, expected: str, fix: str) -> CheckResult:
    """Returns a problem: something does not work."""
    return CheckResult(check, Status.PROBLEM, found, expected, fix)


def worst(results: Iterable[CheckResult]) -> Status:
    """Returns the most severe status."""
    order = list(Status)
    return max((result.status for result in results), key=order.index, default=Status.OK)


def size(num_bytes: float) -> str:
    """Formats bytes, as in `64 MiB` or `7.2 GiB`."""
    if num_bytes < 1024**3:
        return f"{num_bytes / 1024**2:.0f} MiB"
    return f"{num_bytes / 1024**3:.1f} GiB"
