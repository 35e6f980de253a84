"""Options of `lipwright speak` that are made from the fields of a job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from cli.main import app
from jobs.model.spec import JobSpec
from tests.unit.api_server import MemoryService


@pytest.fixture
def service(service: MemoryService) -> MemoryService:
    service.outcome = "video"
    return service


def _speak(folder: Path, url: str, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["speak", "--out", str(folder / "out.mp4"), "--server", url, *options])
    return done.exit_code, done.output


def test_speak_sends_options_that_are_zero(tmp_path: Path, service: MemoryService, url: str) -> None:
    (tmp_path / "v.mp4").write_bytes(b"video")
    options = {"--motion": "0", "--background-gain": "0", "--loudness": "-16", "--priority": "-1", "--matte": "chroma"}
    files = ("--video", str(tmp_path / "v.mp4"), "--text", "Hi", "--background", "white", "--visible-label-top")
    code, output = _speak(tmp_path, url, *files, *(part for option in options.items() for part in option))
    assert code == 0, output
    spec = service.requests[0].spec
    assert (spec.motion, spec.background_gain_db, spec.loudness_lufs, spec.priority) == (0, 0, -16, -1)
    assert (spec.matte, spec.visible_label_top, spec.visible_label) == ("chroma", True, False)
    assert not {"face", "loop", "expressiveness", "visible_label"} & spec.model_fields_set


def test_speak_takes_an_avatar(tmp_path: Path, service: MemoryService, url: str) -> None:
    code, output = _speak(tmp_path, url, "--avatar-id", "a" * 32, "--text", "Hi")
    assert code == 0, output
    assert service.requests[0].spec.avatar_id == "a" * 32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--text", "Hi"], "pass either --video or --avatar-id"),
        (["--avatar-id", "a", "--text", "Hi", "--music", "missing.mp3"], "--music: missing.mp3 does not exist"),
        (["--avatar-id", "a", "--text", "Hi", "--fps", "0"], "0 is not in the range"),
        (["--avatar-id", "a", "--text", "Hi", "--loop", "twice"], "--loop: must be 'pingpong'"),
    ],
)
def test_speak_with_unusable_option_names_it(
    tmp_path: Path, service: MemoryService, url: str, options: list[str], message: str
) -> None:
    code, output = _speak(tmp_path, url, *options)
    assert code != 0
    assert message in " ".join(output.split())
    assert not service.requests


def _option(name: str) -> Any:
    commands: Any = typer.main.get_command(app)
    return next(each for each in commands.commands["speak"].params if each.name == name)


def test_options_have_bounds_and_help_of_the_field() -> None:
    gain = _option("music_gain_db")
    assert (gain.opts, gain.type.min, gain.type.max) == (["--music-gain"], -60, 12)
    assert gain.help == "Gain of --music in dB. Default: -12."
    assert _option("crop").help == str(JobSpec.model_fields["crop"].description).replace("`", "")
