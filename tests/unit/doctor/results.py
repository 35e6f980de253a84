"""What a check of the doctor has to say."""

from __future__ import annotations

from doctor.report import CheckResult, Status


def is_mended(result: CheckResult, status: Status) -> bool:
    """Whether a result has this status, and says what is expected and how to fix it."""
    return result.status is status and bool(result.expected and result.fix)
