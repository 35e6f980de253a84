"""What the commands list of a running service, for people and for programs."""

from __future__ import annotations

import json
import re
from pathlib import Path

from lipwright_client import Lipwright
from tests.unit.api_server import MemoryService
from tests.unit.cli.commands import run
from tests.unit.quality_report import example_report


def _run(*arguments: str, **environment: str) -> str:
    done = run(*arguments, **environment)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_jobs_list_shows_file_names_and_dates(url: str) -> None:
    job = Lipwright(url).jobs.create(audio=("你好 [1].wav", b"sound"), video=("anna.mp4", b"film"))
    line = next(line for line in _run("jobs", "list", "--server", url).splitlines() if job.id in line)
    assert f"{job.inputs.audio}  anna.mp4" in line and "你好" in line
    assert re.search(r"\b20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\+00:00\b", line)
    (listed,) = json.loads(_run("jobs", "list", "--json", LIPWRIGHT_URL=url))
    shown = json.loads(_run("jobs", "show", job.id, LIPWRIGHT_SERVER=url))
    assert shown["options"]["format"] == "mp4" and "options" not in listed, "a list has summaries"
    assert all(listed[name] == shown[name] for name in listed.keys() - {"links"})


def test_json_option_prints_records(service: MemoryService, url: str, tmp_path: Path) -> None:
    (tmp_path / "anna.mp4").write_bytes(b"film")
    avatar = json.loads(_run("avatars", "add", str(tmp_path / "anna.mp4"), "--json", "--server", url))
    assert json.loads(_run("avatars", "list", "--json", "--server", url)) == [avatar]
    line = next(line for line in _run("avatars", "list", "--server", url).splitlines() if avatar["id"] in line)
    assert "anna.mp4" in line and avatar["created_at"][:10] in line
    service.outcome, service.report = "video", example_report()
    job = Lipwright(url).speak(audio=b"sound", video=b"film")
    assert json.loads(_run("jobs", "report", job.id, "--json", "--server", url)) == job.report
