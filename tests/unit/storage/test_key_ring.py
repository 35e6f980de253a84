"""API keys and webhook secrets, in a folder and shared: private, the same for every process, gone when revoked."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from errors import ConfigError, NotFoundError, TableUnreachableError, UnauthorizedError
from storage.key_ring import webhook_secret
from storage.local.api_keys import FileKeyRing
from storage.postgres.database import Database
from storage.postgres.keys import PostgresKeyRing
from storage.state import open_keys, webhook_secrets
from tests.postgres import PostgresServer


def test_a_key_is_known_until_it_is_revoked(tmp_path: Path) -> None:
    keys = FileKeyRing(tmp_path)
    assert keys.list() == []
    made, key = keys.add("a studio", max_priority=1)
    other, _ = keys.add("another")
    assert key.startswith(f"lw_{made.id}_")
    assert (keys.find(key), made.max_priority, other.max_priority) == (made, 1, 0)
    assert [each.name for each in keys.list()] == ["a studio", "another"]
    near_misses = (key[:-1], f"{key}x", key.upper(), key.replace(made.id, other.id), f"lw_{made.id}_", f"{key}\n")
    for wrong in ("", "ü" * 40, *near_misses):
        with pytest.raises(UnauthorizedError):
            keys.find(wrong)
    assert keys.revoke(made.id) == made
    with pytest.raises(UnauthorizedError):
        keys.find(key)
    with pytest.raises(NotFoundError, match="no API key"):
        keys.revoke(made.id)
    assert keys.list() == [other]


@pytest.mark.parametrize("is_new", [True, False])
def test_adding_a_key_keeps_folder_and_secret_private(tmp_path: Path, is_new: bool) -> None:
    umask = os.umask(0o022)
    try:
        if not is_new:  # as an earlier version has left it
            (tmp_path / "data").mkdir(mode=0o755)
            (tmp_path / "data" / ".api_keys.lock").touch(mode=0o644)
        made, key = FileKeyRing(tmp_path / "data").add("a studio")
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()} == {0o600}
    secret = key.removeprefix(f"lw_{made.id}_")
    assert secret not in (tmp_path / "data" / "api_keys.json").read_text()
    assert made.hash == hashlib.sha256(secret.encode()).hexdigest()
    assert len(base64.urlsafe_b64decode(secret)) * 8 >= 160


def test_other_processes_see_every_change(tmp_path: Path, repo_root: Path) -> None:
    """Several add at the same time, and none is lost; a reader that was there before knows them all."""
    reader = FileKeyRing(tmp_path)
    assert reader.list() == []
    code = "import sys, pathlib; from storage.local.api_keys import FileKeyRing\n" + (
        "for _ in range(5): print(FileKeyRing(pathlib.Path(sys.argv[1])).add('x')[1])"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    adding = [subprocess.Popen(command, cwd=repo_root, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    made = [line for process in adding for line in process.communicate(timeout=60)[0].split()]
    assert len(made) == len(reader.list()) == 15
    assert {reader.find(key).id for key in made} == {key.id for key in reader.list()}


def test_a_broken_file_lets_nobody_in(tmp_path: Path) -> None:
    keys = FileKeyRing(tmp_path)
    _, key = keys.add("a studio")
    (tmp_path / "api_keys.json").write_text('{"keys": [{"id": ')
    for _ in range(2):
        with pytest.raises(ConfigError, match="lipwright keys"):
            keys.list()
    with pytest.raises(ConfigError):
        keys.find(key)
    with pytest.raises(ConfigError):
        keys.add("would lose the others")


def test_webhook_secrets_are_stable_private_and_apart(tmp_path: Path) -> None:
    made = {owner: webhook_secret(tmp_path, owner) for owner in (None, "a" * 12, "b" * 12)}
    assert made == {owner: webhook_secret(tmp_path, owner) for owner in made}
    assert len(set(made.values())) == 3
    for secret in made.values():
        assert secret.startswith("whsec_")
        assert 24 <= len(base64.b64decode(secret.removeprefix("whsec_"))) <= 64  # the specification's bounds
    (master,) = tmp_path.iterdir()
    assert stat.S_IMODE(master.stat().st_mode) == 0o600
    assert webhook_secret(tmp_path / "elsewhere", None) != made[None]


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.new_database()


def test_shared_keys_and_secrets_are_one_for_all(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    here_secret, there_secret = webhook_secrets(url, tmp_path / "a"), webhook_secrets(url, tmp_path / "b")
    assert here_secret("owner") == there_secret("owner") != here_secret(None) == there_secret(None)
    assert here_secret("owner").startswith("whsec_")
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
