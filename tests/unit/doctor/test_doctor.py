"""`lipwright doctor` as a process of its own."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest

from tests.unit.cli.commands import run

MAX_SECONDS = 45.0


@pytest.fixture(autouse=True)
def _default_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIPWRIGHT_OBJECT_STORE_BYTES", raising=False)


def _found(output: str) -> dict[str, dict[str, str]]:
    return {result["check"]: result for result in json.loads(output)["findings"]}


def test_doctor_json_has_every_check_and_writes_nothing(tmp_path: Path) -> None:
    start = time.monotonic()
    data_dir = tmp_path / "data"
    results = _found(run("doctor", "--json", "--data-dir", str(data_dir)).stdout)
    assert time.monotonic() - start < MAX_SECONDS
    assert {"Python", "Packages", "Weights", "Encoders", "Decoders", "CPU", "Memory", "GPU"} <= results.keys()
    assert {"Shared memory", "Object store", "Data folder", "Disk", "HTTP port", "Ray agent port"} <= results.keys()
    assert all(set(result) == {"check", "status", "found", "expected", "mend"} for result in results.values())
    assert not data_dir.exists()


def test_doctor_problem_is_printed_with_its_fix(repo_root: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run("doctor", "--port", port, "--data-dir", str(tmp_path), "--object-store-memory", "209715200")
    assert done.exit_code == 1, done.stderr
    lines = done.stdout.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("problem  HTTP port")]
    assert lines[at + 1].split() == ["expected:", "a", "free", "port"]
    assert "fix:      Use another port (--port)" in lines[at + 2]
    (store,) = [line for line in lines if " Object store " in line]
    assert store.startswith("warning  Object store")
    assert "200 MiB" in store


def test_doctor_unreadable_config_is_a_problem(repo_root: Path, tmp_path: Path) -> None:
    done = run("doctor", "--json", "--config", str(tmp_path / "none.yaml"))
    assert done.exit_code == 1
    results = _found(done.stdout)
    assert (results["Serve config"]["status"], results["Weights"]["status"]) == ("problem", "ok")
