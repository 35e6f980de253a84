"""API keys and the secret of webhooks that several machines share."""

from __future__ import annotations

from pathlib import Path

import pytest

from errors import NotFoundError, TableUnreachableError, UnauthorizedError
from storage.postgres.database import Database
from storage.postgres.keys import PostgresKeyRing
from storage.state import open_keys, webhook_secrets
from tests.postgres import PostgresServer


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.new_database()


def test_a_key_is_known_to_all_until_it_is_revoked(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = open_keys(url, tmp_path), open_keys(url, tmp_path)
    assert there.list() == [] and there.is_fresh
    made, key = here.add("a studio", max_priority=1)
    monkeypatch.setattr("storage.postgres.keys._FRESH_S", 0.0)
    there.refresh()
    assert there.find(key) == made == here.find(key)
    here.revoke(made.id)
    with pytest.raises(NotFoundError):
        here.revoke(made.id)
    there.refresh()
    with pytest.raises(UnauthorizedError):
        there.find(key)
    assert list(tmp_path.iterdir()) == [], "nothing lies in the folder"


def test_known_keys_count_while_nobody_answers(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.postgres.keys._FRESH_S", 0.0)
    keys = PostgresKeyRing(Database(url))
    made, key = keys.add("a studio")
    keys._database = Database("postgresql://lipwright@127.0.0.1:1/none")
    keys.refresh()
    assert keys.find(key) == made
    with pytest.raises(TableUnreachableError):
        PostgresKeyRing(keys._database).find(key)


def test_webhooks_are_signed_with_one_secret(url: str, tmp_path: Path) -> None:
    here, there = webhook_secrets(url, tmp_path / "a"), webhook_secrets(url, tmp_path / "b")
    assert here("owner") == there("owner") != here(None) == there(None)
    assert here("owner").startswith("whsec_")
