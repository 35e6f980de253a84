"""Opens the storage of a service by the settings `state` and `files`: the data folder, or a database and a bucket."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from lipwright.config import PipelineConfig
from lipwright.errors import ConfigError, StoredFileError
from lipwright.jobs.model.base import new_id
from lipwright.storage.file_store import FileStore
from lipwright.storage.files import StoredFiles
from lipwright.storage.job_table import JobTable
from lipwright.storage.key_ring import KeyRing, webhook_secret
from lipwright.storage.local.api_keys import FileKeyRing
from lipwright.storage.local.folder import LocalFiles, make_private_folder
from lipwright.storage.protocols import Database
from lipwright.storage.sqlite.database import Database as FileDatabase

_CACHE_DIR: Final = "LIPWRIGHT_CACHE_DIR"
_PROBE_CONTENT: Final = b"Lipwright was here.\n"


def open_files(config: PipelineConfig) -> StoredFiles:
    """Return the file storage: the data folder, or a bucket.

    Raises:
        ConfigError: The URL of the bucket is invalid, or its client is not installed.
    """
    if config.files is None:
        return LocalFiles(config.data_dir)
    from lipwright.storage.s3.address import open_bucket

    store, settings = open_bucket(config.files), config.bucket
    from lipwright.storage.s3.bucket import BucketFiles
    from lipwright.storage.s3.cache import CacheBounds, FileCache
    from lipwright.storage.s3.objects import Objects

    make_private_folder(config.data_dir)
    cache = FileCache(cache_folder(config), CacheBounds(settings.max_cache_bytes, settings.max_cache_idle_s))
    cache.start_sweeper()
    return BucketFiles(Objects(store), cache, settings.redirects)


def cache_folder(config: PipelineConfig) -> Path:
    """Return the folder in which this machine caches files of a bucket."""
    return Path(os.environ.get(_CACHE_DIR) or config.bucket.cache_dir or config.data_dir / "cache")


def check_files_access(config: PipelineConfig) -> None:
    """Check access by writing, reading and removing a small file.

    Raises:
        ConfigError: See `open_files`.
        StorageUnreachableError: The bucket does not answer, or refuses access.
        StoredFileError: It returns another content.
    """
    files, key = open_files(config), f"trials/{new_id()}"
    files.put(key, _PROBE_CONTENT)
    with files.fetched(key) as path:
        if path.read_bytes() != _PROBE_CONTENT:
            raise StoredFileError("files: the bucket returned another content than was written.")
    files.remove(key)


def open_store(config: PipelineConfig) -> FileStore:
    """Return the file store over `open_files`."""
    return FileStore(config.data_dir, open_files(config))


def open_table(
    state: str | None,
    files: FileStore,
    on_change: Callable[[str], None] = lambda job_id: None,
    weight_of: Callable[[str | None], int] = lambda owner: 1,
) -> JobTable:
    """Return the job table; for the arguments see `JobTable`.

    Raises:
        ConfigError: The file is not a job table, or the PostgreSQL client is not installed.
    """
    return JobTable(FileDatabase(files.table_path) if state is None else open_database(state), on_change, weight_of)


def open_keys(state: str | None, data_dir: Path) -> KeyRing:
    """Return the API keys."""
    if state is None:
        return FileKeyRing(data_dir)
    from lipwright.storage.postgres.keys import PostgresKeyRing

    return PostgresKeyRing(open_database(state))


def webhook_secrets(state: str | None, data_dir: Path) -> Callable[[str | None], str]:
    """Return the function that gives the signing secret of an owner's webhooks."""
    if state is None:
        return lambda owner: webhook_secret(data_dir, owner)
    from lipwright.storage.postgres.keys import PostgresWebhookSecret

    return PostgresWebhookSecret(open_database(state)).of


def open_database(url: str) -> Database:
    """Return the PostgreSQL database of a URL, without connecting; ConfigError without the client."""
    if find_spec("psycopg") is None:
        raise ConfigError("state: PostgreSQL needs the extra `postgres` (pip install -e '.[postgres]').")
    from lipwright.storage.postgres.database import Database as SharedDatabase

    return SharedDatabase(url)
