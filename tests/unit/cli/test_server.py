"""Where `lipwright serve` listens, which service a command talks to, and what the commands in its messages reach."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from lipwright.cli import local_service
from lipwright.cli.serve import _heygem
from lipwright.cli.terminal import UsageError
from lipwright.errors import ConfigError
from lipwright.jobs.model.record import JobRecord
from lipwright.jobs.model.spec import JobSpec
from lipwright.jobs.requests import RequestContext
from lipwright.launch.data_folder import locked_folder
from lipwright.launch.serve_config import ServeConfig, read_serve_config
from lipwright_client import Lipwright
from tests.ports import quiet_port
from tests.unit.api_server import VIDEO_BYTES, MemoryService, serving
from tests.unit.cli.commands import run, succeed


@pytest.fixture(autouse=True)
def data_dir(monkeypatch: pytest.MonkeyPatch, repo_root: Path, tmp_path: Path) -> Path:
    """The data folder of the shipped config, and nothing at the default address."""
    config = yaml.safe_load((repo_root / "serve_config.cpu.yaml").read_text())
    config["applications"][0]["args"]["data_dir"] = str(tmp_path / "data")
    path = tmp_path / "shipped.yaml"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setattr("lipwright.launch.serve_config.default_config_path", lambda has_gpu: path)
    monkeypatch.setattr(local_service, "DEFAULT_SERVER", "http://127.0.0.1:9")
    for variable in ("LIPWRIGHT_SERVER", "LIPWRIGHT_URL", "LIPWRIGHT_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "data"


@pytest.fixture
def other_url(tmp_path: Path) -> Iterator[str]:
    with serving(MemoryService(tmp_path / "other service")) as url:
        yield url


@pytest.fixture
def running(url: str, data_dir: Path) -> Iterator[str]:
    """A service that uses the data folder."""
    with locked_folder(data_dir) as lock:
        lock.publish_url(url)
        yield url


def _said(url: str) -> str:
    return f"Using the service at {url}.\n"


@pytest.mark.parametrize("command", ["jobs", "avatars", "voices"])
def test_list_without_server_uses_the_data_folders_service(running: str, other_url: str, command: str) -> None:
    assert succeed(command, "list").stderr == _said(running)
    assert succeed(command, "list", LIPWRIGHT_SERVER=other_url).stderr == _said(other_url)
    assert succeed(command, "list", "--server", running, LIPWRIGHT_SERVER=other_url).stderr == ""


def test_jobs_list_data_folder_beats_default_url(
    url: str, data_dir: Path, other_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_service, "DEFAULT_SERVER", other_url)
    job = Lipwright(url).jobs.create(audio=b"sound", video=b"film")
    at_default = succeed("jobs", "list", "--json")
    assert (json.loads(at_default.stdout), at_default.stderr) == ([], "")
    with locked_folder(data_dir) as lock:
        lock.publish_url(url)
        assert [each["id"] for each in json.loads(succeed("jobs", "list", "--json").stdout)] == [job.id]


def test_integration_uses_data_folder(running: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("integrations.mcp_server.run", lambda server, other: asked.append(server))
    assert _said(running) in succeed("mcp").stderr
    assert asked == [running]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--audio", "gone.wav", "--out", "-", "a"), "--audio: gone.wav does not exist or is not a file."),
        (("--text", "a", "--out", "/gone/a.mp4", "a"), "--out: the folder of /gone/a.mp4 does not exist."),
        (("--text", "a", "--out", "-"), "Pass either AVATAR_ID or --video."),
        (("--text", "a", "--out", "-", "a", "--server", "127.0.0.1:1"), "--server: expected a URL such as http://"),
    ],
)
def test_live_unusable_option_is_named(options: tuple[str, ...], message: str) -> None:
    done = run("live", *options)
    assert (done.exit_code, message in done.stderr) == (2, True), done.stderr


@pytest.fixture
def speak(samples: Path, sample_portrait: Path) -> tuple[str, ...]:
    """A command that lacks the name of its result."""
    return ("speak", "--video", str(sample_portrait), "--audio", str(samples / "speech_short.wav"), "--out")


def test_speak_uses_the_service_of_the_data_folder(
    service: MemoryService, url: str, speak: tuple[str, ...], tmp_path: Path
) -> None:
    service.outcome = "video"
    with locked_folder(tmp_path / "mine") as lock:
        lock.publish_url(url)
        command = (*speak, str(tmp_path / "out.mp4"), "--data-dir", str(tmp_path / "mine"))
        assert _said(url) in succeed(*command).stderr


def test_speak_foreign_default_address_starts_a_service(
    service: MemoryService,
    url: str,
    other_url: str,
    data_dir: Path,
    speak: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[ServeConfig] = []

    @contextmanager
    def start(config: ServeConfig) -> Iterator[str]:
        started.append(config)
        yield url

    service.outcome = "video"
    monkeypatch.setattr("lipwright.launch.service.running_service", start)
    monkeypatch.setattr(local_service, "DEFAULT_SERVER", other_url)
    assert "Using the service at" not in succeed(*speak, str(tmp_path / "out.mp4")).stderr
    assert [(config.http_options["port"], config.pipeline.data_dir) for config in started] == [(0, data_dir)]


def test_speak_unwritable_out_prints_a_download_command(
    service: MemoryService, running: str, speak: tuple[str, ...], tmp_path: Path
) -> None:
    out, submit = tmp_path / "out.mp4", service.submit
    service.outcome = "video"

    async def submit_and_block(spec: JobSpec, context: RequestContext) -> JobRecord:
        out.mkdir()  # after `speak` has checked that it can write there
        return await submit(spec, context)

    service.submit = submit_and_block  # type: ignore[method-assign]
    failed = run(*speak, str(out))
    assert failed.exit_code == 1 and f"cannot write {out}" in failed.stderr
    (hint,) = re.findall("run `lipwright (.*?)`", failed.stderr)
    done = succeed(*shlex.split(hint))
    copy = Path(done.stdout.partition(": ")[0])
    assert copy.read_bytes() == VIDEO_BYTES
    copy.unlink()


def test_speak_long_name_is_refused(service: MemoryService, url: str, speak: tuple[str, ...], tmp_path: Path) -> None:
    out = tmp_path / f"{'x' * 250}.mp4"  # a name that the system takes, and no longer one
    done = run(*speak, str(out), "--server", url)
    assert done.exit_code == 2
    assert f"--out: cannot write {out}: File name too long." in done.stderr
    assert not service.requests


@pytest.mark.parametrize("is_option", [False, True])
def test_serve_listens_where_options_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_option: bool) -> None:
    asked: list[ServeConfig] = []

    def end(config: ServeConfig, *_: object) -> None:
        asked.append(config)
        raise ConfigError("the end of this test")

    monkeypatch.setattr("lipwright.launch.service._run_front", end)
    port, other_port, path = quiet_port(), quiet_port(), tmp_path / "my.yaml"
    path.write_text(f"http_options: {{port: {port}, host: 127.0.0.2}}\ndata_dir: {tmp_path / 'data'}")
    options = ("--host", "127.0.0.3", "--port", str(other_port)) if is_option else ()
    done = run("serve", "--config", str(path), *options)
    assert done.stderr.endswith("error: config_invalid: the end of this test\n"), done.output
    (config,) = asked
    found = config.http_options["host"], config.http_options["port"]
    assert found == (("127.0.0.3", other_port) if is_option else ("127.0.0.2", port))
    assert config.pipeline.data_dir == tmp_path / "data"


def test_serve_heygem_options_enable_heygem(tmp_path: Path) -> None:
    known = read_serve_config()
    assert not known.on_this_machine("127.0.0.1", 0, heygem=_heygem(False, None, False)).pipeline.heygem.enabled
    opened = known.on_this_machine("127.0.0.1", 0, heygem=_heygem(True, None, False)).pipeline.heygem
    assert (opened.enabled, opened.root, opened.strict) == (True, None, False)
    implied = known.on_this_machine("127.0.0.1", 0, heygem=_heygem(False, tmp_path, True)).pipeline.heygem
    assert (implied.enabled, implied.root, implied.strict) == (True, tmp_path, True)
    with pytest.raises(UsageError):
        _heygem(True, tmp_path / "nowhere", False)
