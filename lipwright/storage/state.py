"""Opens the storage of a service by the settings `state` and `files`: the data folder, or a database and a bucket."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlsplit

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

if TYPE_CHECKING:
    from obstore.store import S3Store

_CACHE_DIR: Final = "LIPWRIGHT_CACHE_DIR"
_PROBE_CONTENT: Final = b"Lipwright was here.\n"
_BUCKET_REQUEST_S: Final = timedelta(seconds=30)  # per request, including its body: at most one part
_BUCKET_CONNECT_S: Final = timedelta(seconds=3)
_BUCKET_RETRY_S: Final = timedelta(seconds=5)
"""Seconds of retries per request; waiting longer for a bucket that is down only piles up callers."""
_BUCKET_MAX_RETRIES: Final = 6
_BUCKET_QUERY: Final = frozenset({"endpoint", "region"})


def open_files(config: PipelineConfig) -> StoredFiles:
    """Return the file storage: the data folder, or a bucket.

    Raises:
        ConfigError: The URL of the bucket is invalid, or its client is not installed.
    """
    if config.files is None:
        return LocalFiles(config.data_dir)
    store, settings = open_bucket(config.files), config.bucket
    from lipwright.storage.s3.bucket import BucketFiles
    from lipwright.storage.s3.cache import CacheBounds, FileCache
    from lipwright.storage.s3.objects import Objects

    make_private_folder(config.data_dir)
    cache = FileCache(cache_folder(config), CacheBounds(settings.max_cache_bytes, settings.max_cache_idle_s))
    cache.start_sweeper()
    return BucketFiles(Objects(store), cache, settings.redirects)


def open_bucket(url: str) -> S3Store:
    """Return the store of `s3://bucket/prefix?endpoint=...&region=...`, without connecting.

    Credentials come from the environment (`AWS_*`).

    Raises:
        ConfigError: The URL is invalid, or the S3 client is not installed.
    """
    if find_spec("obstore") is None:
        raise ConfigError("files: a bucket needs the extra `s3` (pip install -e '.[s3]').")
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if parts.scheme != "s3" or not parts.hostname or parts.username is not None or not _BUCKET_QUERY.issuperset(query):
        raise ConfigError(f"files: expected s3://bucket/prefix?endpoint=...&region=..., found {_redact(url)}.")
    try:
        return S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            client_options={"allow_http": True, "timeout": _BUCKET_REQUEST_S, "connect_timeout": _BUCKET_CONNECT_S},
            retry_config={"max_retries": _BUCKET_MAX_RETRIES, "retry_timeout": _BUCKET_RETRY_S},
            **query,  # type: ignore[arg-type]  # its names are those of `S3Config`
        )
    except (BaseError, ValueError) as error:
        raise ConfigError(f"files: {_redact(url)}: {error}") from error


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


def _redact(url: str) -> str:
    """Return the URL without credentials."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
