"""Output of a batch: one JSON line per pair on stdout, progress and failures on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from cluster.batch_record import BatchRecord
from cluster.batch_run import Batch
from cluster.manifest import Pair

_PERIOD_S = 10.0


async def run_and_print(batch: Batch, record: BatchRecord, pairs: Sequence[Pair], again: bool = False) -> int:
    """Render the pairs that are not done yet; return the number of pairs that failed, now or earlier.

    Args:
        batch: The batch.
        record: Its record.
        pairs: The whole manifest.
        again: Whether pairs whose failure was final are retried.
    """
    done = {pair.line: record.done(pair, again) for pair in pairs}
    rest = [pair for pair in pairs if done[pair.line] is None]
    failed = [report | {"line": line} for line, report in done.items() if report and report["status"] != "succeeded"]
    progress = _Progress(len(pairs), len(pairs) - len(rest), len(failed))
    progress.say(is_due=0 < len(rest) < len(pairs))
    async for report in batch.run(rest):
        print(json.dumps(report, ensure_ascii=False), flush=True)
        if report["status"] != "succeeded":
            failed.append(report)
        progress.count(is_failed=report["status"] != "succeeded")
    progress.say(is_due=True)
    for report in sorted(failed, key=lambda report: int(report["line"])):
        print(
            f"failed: line {report['line']}, {report['out']}: {_reason(report['error'])}", file=sys.stderr, flush=True
        )
    return len(failed)


def _reason(error: dict[str, Any] | None) -> str:
    return f"{error['code']}: {error['message']}" if error else "cancelled"


class _Progress:
    """Prints the progress of a batch every few seconds."""

    def __init__(self, num_pairs: int, num_done: int, num_failed: int) -> None:
        self._num_pairs, self._num_before = num_pairs, num_done
        self._num_done, self._num_failed = num_done, num_failed
        self._started = self._said = time.monotonic()

    def count(self, is_failed: bool) -> None:
        """Count a finished pair."""
        self._num_done += 1
        self._num_failed += is_failed
        self.say(is_due=time.monotonic() - self._said >= _PERIOD_S)

    def say(self, is_due: bool) -> None:
        """Print a line, if one is due."""
        if not is_due:
            return
        self._said = time.monotonic()
        num_left, num_now = self._num_pairs - self._num_done, self._num_done - self._num_before
        rest = f", about {(self._said - self._started) / num_now * num_left:.0f} s left" if num_now and num_left else ""
        print(
            f"{self._num_done} of {self._num_pairs} done, {self._num_failed} failed{rest}", file=sys.stderr, flush=True
        )
