"""The result of one check, and results printed to a terminal."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text


class Status(StrEnum):
    """Severity, in ascending order."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
        status: With a warning the service works, but slower or with a risk; with a problem something does not work.
        found: The actual state.
        expected: The required state; empty if the check passed.
        fix: How to fix it; empty if the check passed.
        check: Name of the check, given by `checks.run_checks`.
    """

    status: Status
    found: str
    expected: str = ""
    fix: str = ""
    check: str = ""

    def named(self, check: str) -> CheckResult:
        """The result as that of the named check."""
        return replace(self, check=check)

    def as_dict(self) -> dict[str, str]:
        """The result with the keys of `lipwright doctor --json`, where the fix is called `mend`."""
        about = {"check": self.check, "status": str(self.status)}
        return {**about, "found": self.found, "expected": self.expected, "mend": self.fix}


def ok(found: str) -> CheckResult:
    """Returns a passed check."""
    return CheckResult(Status.OK, found)


def warning(found: str, expected: str, fix: str) -> CheckResult:
    """Returns a warning: it works, but slower or with a risk."""
    return CheckResult(Status.WARNING, found, expected, fix)


def problem(found: str, expected: str, fix: str) -> CheckResult:
    """Returns a problem: something does not work."""
    return CheckResult(Status.PROBLEM, found, expected, fix)


def worst(results: Iterable[CheckResult]) -> Status:
    """Returns the most severe status."""
    order = list(Status)
    return max((result.status for result in results), key=order.index, default=Status.OK)


def size(num_bytes: float) -> str:
    """Formats bytes, as in `64 MiB` or `7.2 GiB`."""
    if num_bytes < 1024**3:
        return f"{num_bytes / 1024**2:.0f} MiB"
    return f"{num_bytes / 1024**3:.1f} GiB"


_PLURALS: Final = {Status.OK: "ok", Status.WARNING: "warnings", Status.PROBLEM: "to mend"}
_STYLES: Final = {Status.OK: "green", Status.WARNING: "yellow", Status.PROBLEM: "bold red"}


def print_report(checked: Mapping[str, str], results: Sequence[CheckResult]) -> None:
    """Prints what was checked, one line per passed check, and for the others what is expected and how to fix it."""
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    for name, value in checked.items():
        console.print(Text(f"{name.replace('_', ' ') + ':':9} {value}"), soft_wrap=True)
    console.print()
    table = Table.grid(Column(no_wrap=True), Column(no_wrap=True, style="bold"), Column(), padding=(0, 2, 0, 0))
    for result in results:
        lines = [result.found]
        lines += [f"expected: {result.expected}"] if result.expected else []
        lines += [f"fix:      {result.fix}"] if result.fix else []
        table.add_row(Text(result.status, _STYLES[result.status]), result.check, Text("\n".join(lines)))
    console.print(table)
    counts = Counter(result.status for result in results)
    summary = ", ".join(f"{counts[status]} {_PLURALS[status]}" for status in Status if counts[status])
    console.print(Text(f"\n{summary}", _STYLES[worst(results)]))
