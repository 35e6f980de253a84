"""`lipwright keys` as a process of its own, and the refusal to listen on public addresses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from config import AccessConfig, PipelineConfig
from errors import ConfigError
from launch.preflight import check_access
from launch.serve_config import read_serve_config
from storage.local.api_keys import FileKeyRing
from storage.state import open_keys, webhook_secrets
from storage.webhook_secrets import webhook_secret
from tests.postgres import PostgresServer


def _run(repo_root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli", *arguments]
    variables = os.environ | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=variables)


def _keys(repo_root: Path, data_dir: Path, *arguments: str) -> str:
    done = _run(repo_root, "keys", *arguments, "--data-dir", str(data_dir))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_key_from_its_making_to_its_end(repo_root: Path, tmp_path: Path) -> None:
    added = _run(repo_root, "keys", "add", "a studio", "--max-priority", "1", "--data-dir", str(tmp_path))
    key = added.stdout.strip()
    assert "not shown again" in added.stderr and "This is the first key" in added.stderr
    made = FileKeyRing(tmp_path).find(key)
    assert (made.name, made.max_priority) == ("a studio", 1)
    listed = _keys(repo_root, tmp_path, "list")
    assert made.id in listed and "a studio" in listed
    assert key.removeprefix(f"lw_{made.id}_") not in listed
    assert _keys(repo_root, tmp_path, "webhook-secret", made.id) == webhook_secret(tmp_path, made.id)
    assert _keys(repo_root, tmp_path, "webhook-secret") == webhook_secret(tmp_path, None)
    second = _run(repo_root, "keys", "add", "another", "--data-dir", str(tmp_path))
    assert "not shown again" in second.stderr and "first key" not in second.stderr
    (other,) = [key.id for key in FileKeyRing(tmp_path).list() if key.id != made.id]
    assert "last key" not in _run(repo_root, "keys", "revoke", other, "--data-dir", str(tmp_path)).stderr
    last = _run(repo_root, "keys", "revoke", made.id, "--data-dir", str(tmp_path))
    assert made.id in last.stdout and "This was the last key: from now on, requests need none." in last.stderr
    assert FileKeyRing(tmp_path).list() == []
    for command in ("revoke", "webhook-secret"):
        gone = _run(repo_root, "keys", command, made.id, "--data-dir", str(tmp_path))
        assert gone.returncode == 1
        assert gone.stderr.strip() == (
            f"error: not_found: There is no API key with the ID {made.id!r}. "
            f"`lipwright keys list --data-dir {tmp_path}` shows the IDs."
        )


def test_keys_in_a_postgresql(repo_root: Path, tmp_path: Path, postgres: PostgresServer) -> None:
    """The folder of `--data-dir` holds none then: if both it and the database are given, the database is used."""
    url, folder = postgres.new_database(), ("--data-dir", str(tmp_path))
    ring = open_keys(url, tmp_path)
    added = _run(repo_root, "keys", "add", "a studio", *folder, LIPWRIGHT_STATE=url)
    assert added.returncode == 0, added.stderr
    (made,) = ring.list()
    ring.find(added.stdout.strip())
    listed = _run(repo_root, "keys", "list", "--state", url, *folder)
    assert listed.returncode == 0 and made.id in listed.stdout
    secret = _run(repo_root, "keys", "webhook-secret", made.id, "--state", url, *folder)
    assert secret.stdout.strip() == webhook_secrets(url, tmp_path)(made.id)
    revoked = _run(repo_root, "keys", "revoke", made.id, "--state", url, LIPWRIGHT_STATE="postgresql://127.0.0.1:1/x")
    assert revoked.returncode == 0, "what is asked for comes before the environment"
    assert open_keys(url, tmp_path).list() == [] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "variables", "message"),
    [
        (("--state", "sqlite:///secret"), {}, "error: input_invalid: --state: expected a URL such as postgresql://"),
        ((), {"LIPWRIGHT_STATE": "secret"}, "error: config_invalid: LIPWRIGHT_STATE: expected postgresql://"),
        (("--state", "postgresql://127.0.0.1:1/x"), {}, "error: job_table_unreachable: "),
    ],
)
def test_a_state_that_cannot_be_used_is_one_line(
    repo_root: Path, options: tuple[str, ...], variables: dict[str, str], message: str
) -> None:
    done = _run(repo_root, "keys", "list", *options, **variables)
    assert done.returncode in (1, 2)
    assert done.stderr.startswith(message) and done.stderr.count("\n") == 1 and "secret" not in done.stderr


def test_serve_refuses_public_addresses_without_keys(repo_root: Path, tmp_path: Path) -> None:
    done = _run(repo_root, "serve", "--host", "0.0.0.0", "--port", "0", "--data-dir", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("error: config_invalid: --host 0.0.0.0: ")
    assert "lipwright keys add" in done.stderr and "--allow-without-keys" in done.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "192.168.1.5", "box.example"])
def test_what_opens_a_host_to_others(tmp_path: Path, host: str) -> None:
    settings = PipelineConfig(data_dir=tmp_path)
    with pytest.raises(ConfigError):
        check_access(host, settings)
    check_access(host, settings.model_copy(update={"access": AccessConfig(allow_without_keys=True)}))
    FileKeyRing(tmp_path).add("a studio")
    check_access(host, settings)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.1.2.3"])
def test_loopback_needs_nothing(tmp_path: Path, host: str) -> None:
    check_access(host, PipelineConfig(data_dir=tmp_path))


def test_haproxy_listens_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")
    with pytest.raises(ConfigError):
        check_access("127.0.0.1", PipelineConfig(data_dir=tmp_path))


def test_the_data_folder_is_that_of_the_config(tmp_path: Path) -> None:
    config = read_serve_config()
    assert config.pipeline.data_dir == PipelineConfig().data_dir
    assert config.on_this_machine("127.0.0.1", 0, tmp_path).pipeline.data_dir == tmp_path
    path = tmp_path / "config.yaml"
    path.write_text("applications: [{args: {jobs: {max_queued_jobs: 0}}}]")
    with pytest.raises(ConfigError, match="max_queued_jobs"):
        read_serve_config(path)
