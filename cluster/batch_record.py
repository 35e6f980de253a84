"""The record of a batch: JSON lines of finished pairs, so that an interrupted batch can be resumed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO
from uuid import uuid4

from cluster.manifest import Pair, exists
from lipwright.errors import InputError, StateError


class BatchRecord:
    """The reports of finished pairs; each is on disk before the next one is reported.

    The first line is the id of the batch. A pair is identified by its contents, so lines of the manifest may move.
    """

    def __init__(self, file: TextIO, batch_id: str, reports: dict[str, dict[str, Any]], num_failures: dict[str, int]):
        self._file, self._batch_id = file, batch_id
        self._reports, self._num_failures = reports, num_failures

    def done(self, pair: Pair, again: bool = False) -> dict[str, Any] | None:
        """Return the report of a finished pair, or None if the pair must be rendered.

        The result of a succeeded pair must still exist. A failure is final unless it is retryable or `again` is set.
        """
        report = self._reports.get(_key(pair))
        if report is None:
            return None
        if report["status"] == "succeeded":
            return report if exists(pair.out) else None
        is_final = report["error"] is not None and not report["error"]["retryable"]
        return report if is_final and not again else None

    def name(self, pair: Pair) -> str:
        """Return 32 hexadecimal digits that stay the same until the pair has failed or its result was deleted."""
        key = _key(pair)
        num_before = self._num_failures.get(key, 0) + (self._reports.get(key, {}).get("status") == "succeeded")
        return _digest(self._batch_id, key, str(num_before))

    def add(self, pair: Pair, report: dict[str, Any]) -> None:
        """Record the report of a pair."""
        key = _key(pair)
        self._reports[key] = report
        self._num_failures[key] = self._num_failures.get(key, 0) + (report["status"] != "succeeded")
        self._write({**report, "pair": key})

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


@contextmanager
def open_record(path: Path) -> Iterator[BatchRecord]:
    """Open the record in a file, or create it, and lock it for the block.

    Raises:
        StateError: Another batch uses the record.
        InputError: The file is not a record of a batch.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StateError(f"{path}: another batch uses this record.") from error
        file.seek(0)
        lines = _whole_lines(path, file)
        if lines and "batch" not in lines[0]:
            raise InputError(f"{path}: not a record of a batch.")
        batch_id = str(lines[0]["batch"]) if lines else uuid4().hex
        reports: dict[str, dict[str, Any]] = {}
        num_failures: dict[str, int] = {}
        for line in lines[1:]:
            key = line.pop("pair")
            reports[key] = line
            num_failures[key] = num_failures.get(key, 0) + (line["status"] != "succeeded")
        record = BatchRecord(file, batch_id, reports, num_failures)
        if not lines:
            record._write({"batch": batch_id})
        yield record


def _whole_lines(path: Path, file: TextIO) -> list[dict[str, Any]]:
    """Return the lines of the file; a partial last line of a killed batch is removed."""
    text = file.read()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.truncate(len(whole.encode()))
        file.seek(0, os.SEEK_END)
    try:
        return [dict(json.loads(line)) for line in whole.split("\n") if line]
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: not a record of a batch: {error}") from error


def record_path(manifest: Path, out: Path | None) -> Path:
    """Return the default path of the record of a manifest: next to its results."""
    return (out or manifest.parent) / f"{manifest.stem}.results.jsonl"


def next_name(name: str) -> str:
    """Return the name of a retry of the job `name`, which was cancelled."""
    return _digest(name)


def _key(pair: Pair) -> str:
    """Return a digest of all fields of a line, in any order."""
    inputs = {name: str(location) for name, location in pair.inputs.items()}
    return _digest(json.dumps([inputs, str(pair.out), pair.options], sort_keys=True))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
