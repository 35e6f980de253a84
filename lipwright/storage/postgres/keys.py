"""API keys and the master secret of webhooks in the database of the job table."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from lipwright.errors import TableUnreachableError
from lipwright.storage.key_ring import MASTER_BYTES, ApiKey, KeyRing, derived_secret
from lipwright.storage.protocols import Database
from lipwright.storage.row_codec import from_row, to_row

_FRESH_S: Final = 2.0
"""Maximum age of the cached keys: a revoked key is accepted for this long."""
_WEBHOOKS: Final = "webhooks"


class PostgresKeyRing(KeyRing):
    """The keys in a database, cached for two seconds.

    While the database does not answer, the cached keys remain valid; whatever needs the database fails by itself.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._keys: dict[str, ApiKey] | None = None
        self._read_at = -_FRESH_S

    def list(self) -> list[ApiKey]:
        return list(self._known_keys().values())

    @property
    def is_fresh(self) -> bool:
        return self._keys is not None and time.monotonic() - self._read_at < _FRESH_S

    def refresh(self) -> None:
        with self._lock:
            if self.is_fresh:
                return
            try:
                self._keys = self._read()
            except TableUnreachableError:
                if self._keys is None:
                    raise
            self._read_at = time.monotonic()

    def _find(self, key_id: str) -> ApiKey | None:
        return self._known_keys().get(key_id)

    def _known_keys(self) -> dict[str, ApiKey]:
        if self._keys is None:
            self.refresh()
        assert self._keys is not None
        return self._keys

    def _read(self) -> dict[str, ApiKey]:
        rows = self._database.query("SELECT * FROM api_keys ORDER BY created_at, id")
        return {row["id"]: from_row(ApiKey, row) for row in rows}

    @contextmanager
    def _change(self) -> Iterator[dict[str, ApiKey]]:
        with self._lock, self._database.transaction():
            before = self._read()
            after = dict(before)
            yield after
            for key in after.values():
                if key != before.get(key.id):
                    self._database.insert("api_keys", to_row(key), ("id",))
            for key_id in before.keys() - after.keys():
                self._database.execute("DELETE FROM api_keys WHERE id = ?1", key_id)
        self._read_at = -_FRESH_S
        self.refresh()


class PostgresWebhookSecret:
    """The master secret of webhooks, created on first use; the first of several processes wins."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._master: bytes | None = None

    def of(self, owner: str | None) -> str:
        """Return the `whsec_...` secret of an owner; see `lipwright.storage.key_ring`."""
        if self._master is None:
            with self._database.transaction():
                self._database.execute(
                    "INSERT INTO secrets VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                    _WEBHOOKS,
                    secrets.token_hex(MASTER_BYTES),
                )
            (row,) = self._database.query("SELECT value FROM secrets WHERE name = ?1", _WEBHOOKS)
            self._master = bytes.fromhex(row["value"])
        return derived_secret(self._master, owner)
