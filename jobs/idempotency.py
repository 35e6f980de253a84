"""Idempotency keys: one key stands for one request, however often that is sent.

As in the IETF's draft of the header (draft-ietf-httpapi-idempotency-key-header, section 2.6), a key that comes with
another request is an error of the caller's, answered with 422.
"""

from __future__ import annotations

from errors import KeyReuseError
from storage.records import JobRecord


def check_same_request(job: JobRecord, request_digest: str | None) -> None:
    """Refuse a request that bears the key of `job` and is not the one that made it.

    Jobs of other doors and of older versions have no digest: whatever bears their key is taken for the same.

    Raises:
        KeyReuseError: It is another one.
    """
    if None not in (job.request_digest, request_digest) and job.request_digest != request_digest:
        raise KeyReuseError(
            f"This Idempotency-Key made job {job.id} of another request: expected the same files and fields as then, "
            "found others. Take a new key for a new job."
        )
