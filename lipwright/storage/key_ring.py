"""Keys of callers: API keys, stored as hashes, and the secrets that sign their webhooks.

A key has the form `lw_{id}_{secret}`. The id names its record and its owner's jobs. The secret has 192 random bits, so
one round of SHA-256 suffices: it cannot be guessed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from lipwright.errors import NotFoundError, UnauthorizedError
from lipwright.jobs.model.base import new_id, utc_now
from lipwright.storage.local.folder import make_private_folder, write_atomic

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


_KEY = re.compile(r"lw_([0-9a-f]{12})_([\w-]{20,100})", re.ASCII)
_ID_BYTES, _SECRET_BYTES = 6, 24


class KeyLimits(BaseModel):
    """What the holder of an API key may use; None is unlimited."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    concurrent_jobs: int | None = Field(None, ge=0, description="Jobs that wait or run.")
    jobs_per_day: int | None = Field(None, ge=0, description="Jobs submitted on a day (UTC).")
    video_seconds_per_month: int | None = Field(None, ge=0, description="Seconds of video rendered in a month (UTC).")
    stored_bytes: int | None = Field(None, ge=0, description="Bytes of stored files.")
    live_sessions: int | None = Field(None, ge=0, description="Live sessions at the same time.")


class ApiKey(BaseModel):
    """The record of an API key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(description="Names the key and its owner's jobs.")
    name: str = Field(max_length=120, description="For display.")
    hash: str = Field(description="SHA-256 of the secret, in hexadecimal digits.")
    created_at: datetime
    max_priority: int = Field(0, ge=-1, le=1, description="Highest priority that its jobs may ask for.")
    weight: int = Field(1, ge=1, le=100, description="Its share of the service while other keys wait, too.")
    limits: KeyLimits = KeyLimits()


class KeyRing(ABC):
    """The API keys of a service."""

    @abstractmethod
    def list(self) -> list[ApiKey]:
        """Return all keys, the oldest first.

        Raises:
            ConfigError: They cannot be read; no caller is accepted then.
            TableUnreachableError: The database that holds them does not answer.
        """

    @property
    def is_fresh(self) -> bool:
        """Whether the next lookup needs no network access."""
        return True

    def refresh(self) -> None:  # noqa: B027  # only needed where keys are cached
        """Reload the keys, if lookups do not. Blocks.

        Raises:
            TableUnreachableError: No keys are cached and the database does not answer.
        """

    @abstractmethod
    def _change(self) -> AbstractContextManager[dict[str, ApiKey]]:
        """Provide all keys by id, written back when the block succeeds; one process at a time."""

    @abstractmethod
    def _find(self, key_id: str) -> ApiKey | None:
        """Return one key, if it exists."""

    def find(self, presented: str) -> ApiKey:
        """Return the record of a presented key, compared in constant time.

        Raises:
            UnauthorizedError: The key is unknown.
            ConfigError: They cannot be read.
            TableUnreachableError: The database that holds them does not answer.
        """
        match = _KEY.fullmatch(presented)
        key = self._find(match[1]) if match else None
        expected = key.hash if key else _hash("")
        if not hmac.compare_digest(expected, _hash(match[2] if match else presented)) or key is None:
            raise UnauthorizedError("The API key is unknown; it may have been revoked.")
        return key

    def current(self, key_id: str | None) -> ApiKey | None:
        """Return one key if it exists, also while the database does not answer. Blocks.

        Raises:
            ConfigError: They cannot be read.
            TableUnreachableError: No keys are cached and the database does not answer.
        """
        if key_id is None:
            return None
        self.refresh()
        return self._find(key_id)

    def add(self, name: str, max_priority: int = 0, weight: int = 1) -> tuple[ApiKey, str]:
        """Create a key; returns its record and the key itself, which is not stored."""
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        key = ApiKey(
            id=secrets.token_hex(_ID_BYTES),
            name=name,
            hash=_hash(secret),
            created_at=utc_now(),
            max_priority=max_priority,
            weight=weight,
        )
        with self._change() as keys:
            keys[key.id] = key
        return key, f"lw_{key.id}_{secret}"

    def update(self, key_id: str, weight: int | None, limits: Mapping[str, int | None]) -> ApiKey:
        """Change the weight of a key, unless it is None, and some limits, where None is unlimited.

        Raises:
            NotFoundError: There is no such key.
        """
        with self._change() as keys:
            if (key := keys.get(key_id)) is None:
                raise no_key(key_id)
            changed = {"weight": weight or key.weight, "limits": key.limits.model_copy(update=dict(limits))}
            keys[key_id] = key = key.model_copy(update=changed)
            return key

    def revoke(self, key_id: str) -> ApiKey:
        """Revoke a key; the next request with it is refused. NotFoundError if there is none."""
        with self._change() as keys:
            if key_id not in keys:
                raise no_key(key_id)
            return keys.pop(key_id)


def no_key(key_id: str) -> NotFoundError:
    """Return the error for an unknown key."""
    return NotFoundError(f"There is no API key with the ID {key_id[:80]!r}. `lipwright keys list` shows the IDs.")


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
