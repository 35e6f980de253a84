"""The options that a batch has wherever it is started from: as a Ray job, or with `lipwright batch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Manifest = Annotated[Path, typer.Argument(help='JSON lines: {"video": ..., "audio": ..., "out": ...}')]
Out = Annotated[Path | None, typer.Option(help="Folder for relative results; the manifest's by default.")]
MaxInFlight = Annotated[int, typer.Option(min=1, help="Pairs submitted and not finished.")]
PairTimeout = Annotated[float, typer.Option(min=1, help="Bound of one pair, its wait included.")]
RecordPath = Annotated[
    Path | None, typer.Option(help="What is done; by default MANIFEST.results.jsonl beside the results.")
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Try pairs again that failed for good.")]
