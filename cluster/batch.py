"""Render a manifest of pairs: `ray job submit -- python -m cluster.batch manifest.jsonl --out results/`.

Calls the HTTP API of the application that runs on this cluster. If none runs, it starts one and stops it at the end.
Prints one line per finished pair; the exit status is 0 only if all succeeded. The next run with the same record renders
only what is left.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cluster.application import running_application
from cluster.batch_options import (
    INVALID_MANIFEST,
    AsJson,
    Manifest,
    MaxInFlight,
    Out,
    PairTimeout,
    RecordPath,
    RetryFailed,
)
from cluster.batch_record import open_record, record_path
from cluster.batch_run import BatchLimits, render_batch
from cluster.manifest import read_manifest
from lipwright.errors import InputError, LipwrightError


def main(
    manifest: Manifest,
    out: Out = None,
    serve_config: Annotated[
        Path | None, typer.Option(help="Serve config for starting the service. Default: the shipped one.")
    ] = None,
    max_in_flight: MaxInFlight = 8,
    pair_timeout_s: PairTimeout = 3600.0,
    record: RecordPath = None,
    retry_failed: RetryFailed = False,
    as_json: AsJson = False,
) -> None:
    """Render every pair of MANIFEST that is not done yet. The exit status is 0 only if all succeeded."""
    limits = BatchLimits(max_in_flight, pair_timeout_s)
    try:
        pairs = read_manifest(manifest, out)
        with open_record(record or record_path(manifest, out)) as known, running_application(serve_config) as url:
            num_failed = render_batch(url, pairs, known, limits, retry_failed, as_json)
    except LipwrightError as error:
        print(error, file=sys.stderr)
        raise SystemExit(INVALID_MANIFEST if isinstance(error, InputError) else 1) from None
    raise SystemExit(1 if num_failed else 0)


if __name__ == "__main__":
    typer.run(main)
