"""What the commands list of a running service, for people and for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from lipwright_client import Lipwright
from storage.local.api_keys import FileKeyRing
from tests.unit.api_server import MemoryService, serving
from tests.unit.quality_report import example_report


@pytest.fixture
def service(tmp_path: Path) -> MemoryService:
    return MemoryService(tmp_path / "data")


@pytest.fixture
def url(service: MemoryService) -> Iterator[str]:
    with serving(service) as url:
        yield url


def _run(*arguments: str, **environment: str) -> str:
    done = CliRunner().invoke(app, arguments, env=environment)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_jobs_have_names_and_whole_dates(url: str) -> None:
    job = Lipwright(url).jobs.create(audio=("你好 [1].wav", b"sound"), video=("anna.mp4", b"film"))
    line = next(line for line in _run("jobs", "list", "--server", url).splitlines() if job.id in line)
    assert f"{job.inputs.audio}  anna.mp4" in line and "你好" in line
    assert re.search(r"\b20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\+00:00\b", line)
    (listed,) = json.loads(_run("jobs", "list", "--json", LIPWRIGHT_URL=url))
    shown = json.loads(_run("jobs", "show", job.id, LIPWRIGHT_SERVER=url))
    assert shown["options"]["format"] == "mp4" and "options" not in listed, "a list has summaries"
    assert all(listed[name] == shown[name] for name in listed.keys() - {"links"})


def test_lists_are_json_for_programs(service: MemoryService, url: str, tmp_path: Path) -> None:
    (tmp_path / "anna.mp4").write_bytes(b"film")
    avatar = json.loads(_run("avatars", "add", str(tmp_path / "anna.mp4"), "--json", "--server", url))
    assert json.loads(_run("avatars", "list", "--json", "--server", url)) == [avatar]
    line = next(line for line in _run("avatars", "list", "--server", url).splitlines() if avatar["id"] in line)
    assert "anna.mp4" in line and avatar["created_at"][:10] in line
    service.outcome, service.report = "video", example_report()
    job = Lipwright(url).speak(audio=b"sound", video=b"film")
    assert json.loads(_run("jobs", "report", job.id, "--json", "--server", url)) == job.report


def test_keys_as_json_have_no_secret(tmp_path: Path) -> None:
    key, secret = FileKeyRing(tmp_path).add("a studio", 1)
    said = _run("keys", "list", "--json", "--data-dir", str(tmp_path))
    (listed,) = json.loads(said)
    assert (listed["id"], listed["name"], listed["max_priority"]) == (key.id, "a studio", 1)
    assert key.hash not in said and secret not in said
