"""`lipwright keys`, and the refusal to listen on public addresses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import Result

from lipwright.config import AccessConfig, PipelineConfig
from lipwright.errors import ConfigError
from lipwright.jobs.model.record import JobStatus
from lipwright.launch.preflight import check_access
from lipwright.storage.file_store import FileStore
from lipwright.storage.key_ring import KeyLimits, webhook_secret
from lipwright.storage.local.api_keys import FileKeyRing
from lipwright.storage.state import open_keys, open_table, webhook_secrets
from tests.postgres import PostgresServer
from tests.unit.cli.commands import run, succeed
from tests.unit.job_records import job_record


def test_keys_commands_add_list_and_revoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def keys(*arguments: str) -> Result:
        return run("keys", *arguments, "--data-dir", str(tmp_path))

    added = keys("add", "a studio", "--max-priority", "1")
    key = added.stdout.strip()
    assert "not shown again" in added.stderr and "This is the first key" in added.stderr
    assert f"services with the data folder {tmp_path}" in added.stderr and "LIPWRIGHT_SERVER" not in added.stderr
    made = FileKeyRing(tmp_path).find(key)
    assert (made.name, made.max_priority) == ("a studio", 1)
    listed = keys("list").stdout
    assert made.id in listed and "a studio" in listed
    assert key.removeprefix(f"lw_{made.id}_") not in listed
    (as_json,) = json.loads(keys("list", "--json").stdout)
    assert (as_json["id"], as_json["name"], as_json["max_priority"]) == (made.id, "a studio", 1)
    assert made.hash not in str(as_json) and key.removeprefix(f"lw_{made.id}_") not in str(as_json)
    assert keys("webhook-secret", made.id).stdout.strip() == webhook_secret(tmp_path, made.id)
    assert keys("webhook-secret").stdout.strip() == webhook_secret(tmp_path, None)
    monkeypatch.setenv("LIPWRIGHT_SERVER", "http://127.0.0.1:8123")
    second = keys("add", "another")
    assert "LIPWRIGHT_SERVER names http://127.0.0.1:8123, which does not use this folder" in second.stderr
    assert "not shown again" in second.stderr and "first key" not in second.stderr
    (other,) = [key.id for key in FileKeyRing(tmp_path).list() if key.id != made.id]
    assert "last key" not in keys("revoke", other).stderr
    last = keys("revoke", made.id)
    assert made.id in last.stdout and "This was the last key: from now on, requests need none." in last.stderr
    assert FileKeyRing(tmp_path).list() == []
    for command in ("revoke", "webhook-secret"):
        gone = keys(command, made.id)
        assert gone.exit_code == 1
        assert gone.stderr.strip() == (
            f"error: not_found: There is no API key with the ID {made.id!r}. "
            f"`lipwright keys list --data-dir {tmp_path}` shows the IDs."
        )


def test_keys_limit_sets_and_removes_limits(tmp_path: Path) -> None:
    folder = ("--data-dir", str(tmp_path))
    run("keys", "add", "a studio", "--weight", "3", *folder)
    (made,) = FileKeyRing(tmp_path).list()
    assert made.weight == 3
    limits = ("--concurrent-jobs", "2", "--stored-bytes", "0", "--live-sessions", "1")
    expected = {"weight": 3, "concurrent_jobs": 2, "stored_bytes": 0, "live_sessions": 1}
    assert json.loads(run("keys", "limit", made.id, *limits, *folder).stdout) == expected
    run("keys", "limit", made.id, "--live-sessions", "none", "--weight", "100", *folder)
    listed = " ".join(run("keys", "list", *folder).stdout.split())
    assert "100 concurrent_jobs 2" in listed and "stored_bytes 0" in listed and "live_sessions" not in listed
    (as_json,) = json.loads(run("keys", "list", "--json", *folder).stdout)
    limits_in_json = as_json["limits"]
    assert (as_json["weight"], limits_in_json["concurrent_jobs"], limits_in_json["live_sessions"]) == (100, 2, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "input_invalid: pass at least one limit or --weight."),
        (("--jobs-per-day", "-1"), "input_invalid: --jobs-per-day: expected a number or none, found '-1'."),
        (("--stored-bytes", "1G"), "input_invalid: --stored-bytes: expected a number or none, found '1G'."),
        (("--jobs-per-day", "1"), "not_found: There is no API key with the ID 'nobody'."),
    ],
)
def test_keys_limit_with_invalid_options_is_refused(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    done = run("keys", "limit", "nobody", *options, "--data-dir", str(tmp_path))
    assert done.exit_code != 0 and done.stderr.startswith(f"error: {message}")


def test_keys_usage_shows_all_keys_also_revoked_ones(tmp_path: Path) -> None:
    folder = ("--data-dir", str(tmp_path))
    run("keys", "add", "a studio", *folder)
    (made,) = FileKeyRing(tmp_path).list()
    files = FileStore(tmp_path)
    table = open_table(None, files)
    for owner in (made.id, "revoked"):
        job = table.insert_job(job_record(owner=owner))
        table.update_job(job.id, status=JobStatus.SUCCEEDED, stored_bytes=123)
    table.close()
    shown = run("keys", "usage", *folder).stdout
    assert "a studio" in shown and "revoked" in shown
    as_json = json.loads(run("keys", "usage", "--json", *folder).stdout)
    assert {(row["key"], row["jobs_succeeded"], row["stored_bytes"]) for row in as_json} == {
        (made.id, 1, 123),
        ("revoked", 1, 123),
    }
    rows = list(csv.DictReader(run("keys", "usage", "--csv", *folder).stdout.splitlines()))
    assert [row["key"] for row in rows] == sorted((made.id, "revoked")) and rows[0]["jobs_submitted"] == "1"
    assert run("keys", "usage", "--from", "2020-01-01", "--to", "2020-01-31", "--json", *folder).stdout.strip() == "[]"


def test_keys_commands_with_config_use_its_data_folder(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"data_dir: {tmp_path / 'data'}")
    config = ("--config", str(tmp_path / "config.yaml"))
    key = succeed("keys", "add", "a studio", *config).stdout.strip()
    made = FileKeyRing(tmp_path / "data").find(key)
    assert made.id in succeed("keys", "list", *config).stdout
    succeed("keys", "revoke", made.id, *config)
    assert not FileKeyRing(tmp_path / "data").list()


def test_keys_commands_with_state_use_postgresql(tmp_path: Path, postgres: PostgresServer) -> None:
    """The folder of `--data-dir` holds none then: if both it and the database are given, the database is used."""
    url, folder = postgres.new_database(), ("--data-dir", str(tmp_path))
    ring = open_keys(url, tmp_path)
    added = succeed("keys", "add", "a studio", *folder, LIPWRIGHT_STATE=url)
    (made,) = ring.list()
    ring.find(added.stdout.strip())
    succeed("keys", "limit", made.id, "--jobs-per-day", "7", "--weight", "9", "--state", url, *folder)
    assert "jobs_per_day 7" in succeed("keys", "list", "--state", url, *folder).stdout
    assert open_keys(url, tmp_path).list() == [
        made.model_copy(update={"weight": 9, "limits": KeyLimits(jobs_per_day=7)})
    ]
    secret = run("keys", "webhook-secret", made.id, "--state", url, *folder)
    assert secret.stdout.strip() == webhook_secrets(url, tmp_path)(made.id)
    # What is asked for comes before the environment.
    succeed("keys", "revoke", made.id, "--state", url, LIPWRIGHT_STATE="postgresql://127.0.0.1:1/x")
    assert open_keys(url, tmp_path).list() == [] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "variables", "message"),
    [
        (("--state", "sqlite:///secret"), {}, "error: input_invalid: --state: expected a URL such as postgresql://"),
        ((), {"LIPWRIGHT_STATE": "secret"}, "error: config_invalid: LIPWRIGHT_STATE: expected postgresql://"),
        (("--state", "postgresql://127.0.0.1:1/x"), {}, "error: job_table_unreachable: "),
    ],
)
def test_keys_list_wrong_state_is_one_line(options: tuple[str, ...], variables: dict[str, str], message: str) -> None:
    done = run("keys", "list", *options, **variables)
    assert done.exit_code in (1, 2)
    assert done.stderr.startswith(message) and done.stderr.count("\n") == 1 and "secret" not in done.stderr


def test_serve_public_host_without_keys_is_refused(tmp_path: Path) -> None:
    done = run("serve", "--host", "0.0.0.0", "--port", "0", "--data-dir", str(tmp_path))
    assert done.exit_code == 1
    assert done.stderr.startswith("error: config_invalid: --host 0.0.0.0: ")
    assert "lipwright keys add" in done.stderr and "--allow-without-keys" in done.stderr


def test_check_access_public_host_needs_a_key_or_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = PipelineConfig(data_dir=tmp_path)
    public, loopback = ("0.0.0.0", "", "::", "192.168.1.5", "box.example"), ("127.0.0.1", "::1", "[::1]", "127.1.2.3")
    for host in (*loopback, "localhost"):
        check_access(host, settings)
    for host in public:
        with pytest.raises(ConfigError):
            check_access(host, settings)
        check_access(host, settings.model_copy(update={"access": AccessConfig(allow_without_keys=True)}))
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")
    with pytest.raises(ConfigError):
        check_access("127.0.0.1", settings)
    FileKeyRing(tmp_path).add("a studio")
    for host in public:
        check_access(host, settings)
