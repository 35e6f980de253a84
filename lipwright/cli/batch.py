"""`lipwright batch`: renders a manifest with a running service or a temporary one."""

from __future__ import annotations

import sys

import typer

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
from lipwright.cli.local_service import LocalDataDir, OptionalServer, service_at
from lipwright.errors import InputError


def batch(
    manifest: Manifest,
    out: Out = None,
    server: OptionalServer = None,
    data_dir: LocalDataDir = None,
    max_in_flight: MaxInFlight = 8,
    pair_timeout_s: PairTimeout = 3600.0,
    record: RecordPath = None,
    retry_failed: RetryFailed = False,
    as_json: AsJson = False,
) -> None:
    """Render all unfinished pairs of MANIFEST.

    Prints one line per pair; the record has the details. The exit status is 0 if all pairs succeeded, 1 if some failed,
    2 if the manifest cannot be used.
    """
    from cluster.batch_record import open_record, record_path
    from cluster.batch_run import BatchLimits, render_batch
    from cluster.manifest import read_manifest

    try:
        pairs = read_manifest(manifest, out)
    except InputError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(INVALID_MANIFEST) from None
    limits = BatchLimits(max_in_flight, pair_timeout_s)
    with open_record(record or record_path(manifest, out)) as known, service_at(server, data_dir) as url:
        num_failed = render_batch(url, pairs, known, limits, retry_failed, as_json)
    if num_failed:
        raise typer.Exit(1)
