"""Findings for a reader at a terminal."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from doctor.finding import Finding, Status, worst

_PLURALS: Final = {Status.OK: "ok", Status.WARNING: "to look at", Status.PROBLEM: "to mend"}
_STYLES: Final = {Status.OK: "green", Status.WARNING: "yellow", Status.PROBLEM: "bold red"}


def print_findings(findings: Sequence[Finding]) -> None:
    """One line for what is well; for the rest what was found, what was expected, and what to do."""
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    table = Table.grid(Column(no_wrap=True), Column(no_wrap=True, style="bold"), Column(), padding=(0, 2, 0, 0))
    for finding in findings:
        lines = [finding.found]
        lines += [f"expected: {finding.expected}"] if finding.expected else []
        lines += [f"to mend:  {finding.mend}"] if finding.mend else []
        table.add_row(Text(finding.status, _STYLES[finding.status]), finding.check, Text("\n".join(lines)))
    console.print(table)
    counts = Counter(finding.status for finding in findings)
    summary = ", ".join(f"{counts[status]} {_PLURALS[status]}" for status in Status if counts[status])
    console.print(Text(f"\n{summary}", _STYLES[worst(findings)]))
