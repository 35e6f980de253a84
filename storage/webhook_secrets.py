"""The secrets that sign webhooks: one per owner, derived from a master secret in a file or a database."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from jobs.model.files import new_id
from storage.local.disk import make_private_folder, write_atomic

_FILE = "webhook_secret"
MASTER_BYTES = 32


def derived_secret(master: bytes, owner: str | None) -> str:
    """Return the `whsec_...` secret of an owner, an API key's id or None; constant for one master secret."""
    label = b"lipwright webhook\0" + (owner or "").encode()
    return f"whsec_{base64.b64encode(hmac.new(master, label, hashlib.sha256).digest()).decode()}"


def webhook_secret(root: Path, owner: str | None) -> str:
    """Return the secret of an owner from the master secret in the data folder `root`."""
    return derived_secret(_master(root), owner)


def _master(root: Path) -> bytes:
    """Return the master secret, created on first use; the first of several processes wins."""
    path = root / _FILE
    if not path.exists():
        make_private_folder(root)
        made = write_atomic(root / f".{_FILE}.{new_id()}", secrets.token_bytes(MASTER_BYTES), mode=0o600)
        try:
            os.link(made, path)
        except FileExistsError:
            pass
        finally:
            made.unlink()
    return path.read_bytes()
