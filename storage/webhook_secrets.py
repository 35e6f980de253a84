"""The secrets that webhooks are signed with: one for each owner, all from one."""

from __future__ import annotations

import base64
import hashlib
import hmac


def derived_secret(master: bytes, owner: str | None) -> str:
    """The `whsec_...` that the receivers of `owner` verify with; always the same for one master secret.

    Args:
        master: The secret behind all others.
        owner: Id of an API key, or None for jobs that were submitted without one.
    """
    label = b"lipwright webhook\0" + (owner or "").encode()
    return f"whsec_{base64.b64encode(hmac.new(master, label, hashlib.sha256).digest()).decode()}"
