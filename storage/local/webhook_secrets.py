"""The master secret of webhook signatures, in one file of the data folder."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from storage.local.disk import write_atomic
from storage.records import new_id
from storage.webhook_secrets import derived_secret

_FILE = "webhook_secret"
_NUM_BYTES = 32


def webhook_secret(root: Path, owner: str | None) -> str:
    """Return the `whsec_...` secret of an owner; constant for one data folder.

    Args:
        root: The data folder.
        owner: Id of an API key, or None for jobs that were submitted without one.
    """
    return derived_secret(_master(root), owner)


def _master(root: Path) -> bytes:
    """Return the master secret, created on first use; the first of several processes wins."""
    path = root / _FILE
    if not path.exists():
        root.mkdir(parents=True, exist_ok=True)
        made = write_atomic(root / f".{_FILE}.{new_id()}", secrets.token_bytes(_NUM_BYTES), mode=0o600)
        try:
            os.link(made, path)
        except FileExistsError:
            pass
        finally:
            made.unlink()
    return path.read_bytes()
