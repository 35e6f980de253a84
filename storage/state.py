"""Where a service keeps what it has: by the settings `state` and `files`, in the data folder or elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from config import PipelineConfig
from errors import ConfigError, StoredFileError
from storage.file_store import FileStore
from storage.files import StoredFiles
from storage.job_table import JobTable
from storage.key_ring import KeyRing
from storage.local.api_keys import FileKeyRing
from storage.local.disk import PRIVATE_FOLDER_MODE
from storage.local.folder import LocalFiles
from storage.local.webhook_secrets import webhook_secret
from storage.protocols import Database
from storage.records import new_id
from storage.sqlite.database import Database as FileDatabase

_CACHE_DIR: Final = "LIPWRIGHT_CACHE_DIR"
_PROBE_CONTENT: Final = b"Lipwright was here.\n"


def open_files(config: PipelineConfig) -> StoredFiles:
    """Where the files of the service are, seen from this process: in the data folder, or in a bucket.

    Raises:
        ConfigError: The bucket's URL cannot be used, or what speaks to it is not installed.
    """
    if config.files is None:
        return LocalFiles(config.data_dir)
    from storage.s3.address import open_bucket

    store, settings = open_bucket(config.files), config.bucket
    from storage.s3.bucket import BucketFiles
    from storage.s3.cache import CacheBounds, FileCache
    from storage.s3.objects import Objects

    config.data_dir.mkdir(mode=PRIVATE_FOLDER_MODE, parents=True, exist_ok=True)
    cache = FileCache(cache_folder(config), CacheBounds(settings.max_cache_bytes, settings.max_cache_idle_s))
    cache.start_sweeper()
    return BucketFiles(Objects(store), cache, settings.redirects)


def cache_folder(config: PipelineConfig) -> Path:
    """Where this machine keeps what it has fetched from a bucket."""
    return Path(os.environ.get(_CACHE_DIR) or config.bucket.cache_dir or config.data_dir / "cache")


def check_files_access(config: PipelineConfig) -> None:
    """Write a small file, read it and remove it.

    Raises:
        ConfigError: See `open_files`.
        StorageUnreachableError: The bucket does not answer, or does not take it.
        StoredFileError: It does not give it back.
    """
    files, key = open_files(config), f"trials/{new_id()}"
    files.put(key, _PROBE_CONTENT)
    with files.fetched(key) as path:
        if path.read_bytes() != _PROBE_CONTENT:
            raise StoredFileError("files: expected what was written, found something else.")
    files.remove(key)


def open_store(config: PipelineConfig) -> FileStore:
    """The same, for whoever moves and removes them."""
    return FileStore(config.data_dir, open_files(config))


def open_table(state: str | None, files: FileStore, on_change: Callable[[str], None] = lambda job_id: None) -> JobTable:
    """The job table; see `JobTable`.

    Raises:
        ConfigError: The file is no table of this service, or what speaks to PostgreSQL is not installed.
    """
    return JobTable(FileDatabase(files.table_path) if state is None else open_database(state), on_change)


def open_keys(state: str | None, data_dir: Path) -> KeyRing:
    """The API keys."""
    if state is None:
        return FileKeyRing(data_dir)
    from storage.postgres.keys import PostgresKeyRing

    return PostgresKeyRing(open_database(state))


def webhook_secrets(state: str | None, data_dir: Path) -> Callable[[str | None], str]:
    """What gives the secret that the webhooks of an owner's jobs are signed with."""
    if state is None:
        return lambda owner: webhook_secret(data_dir, owner)
    from storage.postgres.keys import PostgresWebhookSecret

    return PostgresWebhookSecret(open_database(state)).of


def open_database(url: str) -> Database:
    """The PostgreSQL behind a URL; nobody is asked yet.

    Raises:
        ConfigError: What speaks to it is not installed.
    """
    if find_spec("psycopg") is None:
        raise ConfigError("state: expected the extra `postgres` (pip install -e '.[postgres]'), found no psycopg.")
    from storage.postgres.database import Database as SharedDatabase

    return SharedDatabase(url)
