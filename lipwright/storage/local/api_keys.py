"""API keys in one file of the data folder that every process of the service reads."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from lipwright.errors import ConfigError
from lipwright.storage.key_ring import ApiKey, KeyRing
from lipwright.storage.local.folder import PRIVATE_FILE_MODE, make_private_folder, open_private, write_atomic

_FILE, _LOCK = "api_keys.json", ".api_keys.lock"


class _Keys(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[ApiKey, ...] = ()


class FileKeyRing(KeyRing):
    """The keys in the data folder `root`; reloaded whenever the file changes."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen: tuple[int, int, int] | None = None
        self._keys: dict[str, ApiKey] = {}

    def list(self) -> list[ApiKey]:
        """See `KeyRing`."""
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

    def _find(self, key_id: str) -> ApiKey | None:
        self.list()
        return self._keys.get(key_id)

    @contextmanager
    def _change(self) -> Iterator[dict[str, ApiKey]]:
        """Provide all keys, written back when the block succeeds; one process at a time."""
        make_private_folder(self._root)
        with open(self._root / _LOCK, "w", opener=open_private) as lock:
            os.fchmod(lock.fileno(), PRIVATE_FILE_MODE)
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = {key.id: key for key in self.list()}
            yield keys
            stored = _Keys(keys=tuple(keys.values()))
            write_atomic(self._root / _FILE, stored.model_dump_json(indent=2).encode(), mode=PRIVATE_FILE_MODE)
