"""What API keys use, by day (UTC)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import date
from typing import Final

from pydantic import Field

from lipwright.jobs.model.base import Frozen
from lipwright.jobs.model.compute import ComputeTime


class Usage(Frozen):
    """Sums of one API key and one day."""

    jobs_submitted: int = Field(0, description="Accepted jobs, with retries and revisions.")
    jobs_succeeded: int = 0
    jobs_failed: int = 0
    jobs_cancelled: int = 0
    video_seconds: float = Field(0.0, description="Video that was rendered, in seconds.")
    live_seconds: float = Field(0.0, description="Live streams that were sent, in seconds.")
    cpu_seconds: float = Field(0.0, description="CPU time of the stages.")
    gpu_seconds: float = Field(0.0, description="Time in which replicas with a GPU worked.")


class UsageRow(Usage):
    """What one API key has used on one day (UTC)."""

    key: str | None = Field(description="ID of the API key; null without keys.")
    day: date
    stored_bytes: int | None = Field(None, description="Bytes stored now; only in the row of today.")


class LiveUsage(Frozen):
    """What a live session has used since its start."""

    session_id: str
    owner: str | None
    live_seconds: float = 0.0
    compute: ComputeTime = ComputeTime()
    is_over: bool = False


USAGE_COLUMNS: Final = ("day", "key", *Usage.model_fields, "stored_bytes")


def usage_csv(rows: Sequence[UsageRow]) -> str:
    """Return rows as CSV (RFC 4180) with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, USAGE_COLUMNS)
    writer.writeheader()
    writer.writerows(row.model_dump(mode="json") for row in rows)
    return text.getvalue()
