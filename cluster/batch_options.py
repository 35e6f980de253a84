"""Options shared by `python -m cluster.batch` and `lipwright batch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

INVALID_MANIFEST: Final = 2
"""Exit status: the manifest cannot be used; standard error has one complaint per line."""

Manifest = Annotated[
    Path,
    typer.Argument(
        help='JSON lines, each {"video": ..., "audio" or "text": ..., "out": ...}, or a .csv file with these columns.'
    ),
]
Out = Annotated[Path | None, typer.Option(help="Folder for relative result paths. Default: the manifest's folder.")]
MaxInFlight = Annotated[int, typer.Option(min=1, help="Maximum number of unfinished pairs.")]
PairTimeout = Annotated[float, typer.Option(min=1, help="Timeout of one pair, including its time in the queue.")]
RecordPath = Annotated[
    Path | None, typer.Option(help="Record of finished pairs. Default: MANIFEST.results.jsonl next to the results.")
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print a JSON line per pair, with the quality report, instead of a short line.")
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Retry pairs whose failure was final.")]
