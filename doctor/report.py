"""Prints check results to a terminal."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from doctor.check_result import CheckResult, Status, worst

_PLURALS: Final = {Status.OK: "ok", Status.WARNING: "warnings", Status.PROBLEM: "to mend"}
_STYLES: Final = {Status.OK: "green", Status.WARNING: "yellow", Status.PROBLEM: "bold red"}


def print_report(results: Sequence[CheckResult]) -> None:
    """Prints one line per passed check, and for the others also what is expected and how to fix it."""
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
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
