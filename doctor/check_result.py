"""The result of one check."""

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
class CheckResult:
    """The result of one check.

    Attributes:
        check: What was looked at.
        status: A warning is slower or riskier than it need be; with a problem something does not work.
        found: What is here.
        expected: What should be here; empty if all is well.
        fix: What to do about it; empty if all is well.
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
    """All is well."""
    return CheckResult(check, Status.OK, found)


def warning(check: str, found: str, expected: str, fix: str) -> CheckResult:
    """It works, but slower or with a risk."""
    return CheckResult(check, Status.WARNING, found, expected, fix)


def problem(check: str, found: str, expected: str, fix: str) -> CheckResult:
    """Something does not work."""
    return CheckResult(check, Status.PROBLEM, found, expected, fix)


def worst(results: Iterable[CheckResult]) -> Status:
    """The worst status of all."""
    order = list(Status)
    return max((result.status for result in results), key=order.index, default=Status.OK)


def size(num_bytes: float) -> str:
    """Bytes for a reader: `64 MiB`, `7.2 GiB`."""
    if num_bytes < 1024**3:
        return f"{num_bytes / 1024**2:.0f} MiB"
    return f"{num_bytes / 1024**3:.1f} GiB"
