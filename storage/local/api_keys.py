"""API keys, hashed, in one file of the data folder that every process of the service reads.

A key looks like `lw_{id}_{secret}`. The id names its record and its owner's jobs; the secret has 192 random bits, so
one round of SHA-256 keeps it: there is nothing to guess.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from errors import ConfigError, NotFoundError, UnauthorizedError
from storage.local.file_store import write_atomic
from storage.records import utc_now

_FILE, _LOCK = "api_keys.json", ".api_keys.lock"
_KEY = re.compile(r"lw_([0-9a-f]{12})_([\w-]{20,100})", re.ASCII)
_ID_BYTES, _SECRET_BYTES = 6, 24


class ApiKey(BaseModel):
    """What is kept of a key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(description="Names the key and its owner's jobs.")
    name: str = Field(max_length=120, description="For people.")
    hash: str = Field(description="SHA-256 of the secret, in hexadecimal digits.")
    created_at: datetime
    max_priority: int = Field(0, ge=-1, le=1, description="Highest priority that its jobs may ask for.")


class _Keys(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[ApiKey, ...] = ()


class ApiKeys:
    """The keys in the data folder `root`; read again whenever the file has changed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen: tuple[int, int, int] | None = None
        self._keys: dict[str, ApiKey] = {}

    def list(self) -> list[ApiKey]:
        """All keys, the oldest first.

        Raises:
            ConfigError: The file cannot be read; nobody is let in then.
        """
        try:
            state = (self._root / _FILE).stat()
            seen = (state.st_mtime_ns, state.st_ino, state.st_size)
            if seen != self._seen:
                stored = _Keys.model_validate_json((self._root / _FILE).read_bytes())
                self._keys, self._seen = {key.id: key for key in stored.keys}, seen
        except (FileNotFoundError, NotADirectoryError):
            self._keys, self._seen = {}, None
        except (OSError, ValidationError) as error:
            raise ConfigError(f"{self._root / _FILE}: expected a file made by `lipwright keys`.") from error
        return list(self._keys.values())

    def find(self, presented: str) -> ApiKey:
        """The key that `presented` is, compared in constant time.

        Raises:
            UnauthorizedError: It is none of ours.
            ConfigError: The file cannot be read.
        """
        self.list()
        match = _KEY.fullmatch(presented)
        key = self._keys.get(match[1]) if match else None
        expected = key.hash if key else _hash("")
        if not hmac.compare_digest(expected, _hash(match[2] if match else presented)) or key is None:
            raise UnauthorizedError("The API key is not known; it may have been revoked.")
        return key

    def add(self, name: str, max_priority: int = 0) -> tuple[ApiKey, str]:
        """Make a key. Returns its record and the key itself, which is shown this once."""
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        key = ApiKey(
            id=secrets.token_hex(_ID_BYTES),
            name=name,
            hash=_hash(secret),
            created_at=utc_now(),
            max_priority=max_priority,
        )
        with self._changing() as keys:
            keys[key.id] = key
        return key, f"lw_{key.id}_{secret}"

    def revoke(self, key_id: str) -> ApiKey:
        """Forget a key; the next request that carries it is refused.

        Raises:
            NotFoundError: There is no such key.
        """
        with self._changing() as keys:
            if key_id not in keys:
                raise NotFoundError(f"There is no API key {key_id[:80]!r}.")
            return keys.pop(key_id)

    @contextmanager
    def _changing(self) -> Iterator[dict[str, ApiKey]]:
        """All keys, written back when the block ends well; one process at a time."""
        self._root.mkdir(parents=True, exist_ok=True)
        with (self._root / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = {key.id: key for key in self.list()}
            yield keys
            stored = _Keys(keys=tuple(keys.values()))
            write_atomic(self._root / _FILE, stored.model_dump_json(indent=2).encode(), mode=0o600)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
