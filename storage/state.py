"""Where the state of a service is, by the setting `state`: in the data folder (None), or in a PostgreSQL (its URL)."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from errors import ConfigError
from storage.contract import Database
from storage.job_table import JobTable
from storage.key_ring import KeyRing
from storage.local.api_keys import ApiKeys
from storage.local.file_store import FileStore
from storage.local.webhook_secrets import webhook_secret
from storage.sqlite.database import Database as FileDatabase


def open_table(state: str | None, files: FileStore, on_change: Callable[[str], None] = lambda job_id: None) -> JobTable:
    """The job table; see `JobTable`.

    Raises:
        ConfigError: The file is no table of this service, or what speaks to PostgreSQL is not installed.
    """
    return JobTable(FileDatabase(files.table_path) if state is None else open_database(state), on_change)


def open_keys(state: str | None, data_dir: Path) -> KeyRing:
    """The API keys."""
    if state is None:
        return ApiKeys(data_dir)
    from storage.postgres.keys import SharedKeys

    return SharedKeys(open_database(state))


def webhook_secrets(state: str | None, data_dir: Path) -> Callable[[str | None], str]:
    """What gives the secret that the webhooks of an owner's jobs are signed with."""
    if state is None:
        return lambda owner: webhook_secret(data_dir, owner)
    from storage.postgres.keys import SharedSecret

    return SharedSecret(open_database(state)).of


def open_database(url: str) -> Database:
    """The PostgreSQL behind a URL; nobody is asked yet.

    Raises:
        ConfigError: What speaks to it is not installed.
    """
    if find_spec("psycopg") is None:
        raise ConfigError("state: expected the extra `postgres` (pip install 'lipwright[postgres]'), found no psycopg.")
    from storage.postgres.database import Database as SharedDatabase

    return SharedDatabase(url)
