"""The secrets that sign webhooks: one per owner, derived from a master secret."""

from __future__ import annotations

import base64
import hashlib
import hmac


def derived_secret(master: bytes, owner: str | None) -> str:
    """Return the `whsec_...` secret of an owner; constant for one master secret.

    Args:
        master: The master secret.
        owner: Id of an API key, or None for jobs that were submitted without one.
    """
    label = b"lipwright webhook\0" + (owner or "").encode()
    return f"whsec_{base64.b64encode(hmac.new(master, label, hashlib.sha256).digest()).decode()}"
