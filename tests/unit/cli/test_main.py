"""`lipwright speak` and `lipwright jobs` against the API on a real socket."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import Result

from lipwright.cli.main import app
from lipwright.config import NetworkConfig
from lipwright.errors import FaceNotFoundError
from lipwright.jobs.model.record import JobQuery, JobStatus
from lipwright.jobs.model.spec import JobSpec
from lipwright.storage.file_keys import upload_key
from lipwright.storage.local.api_keys import FileKeyRing
from lipwright_client import Lipwright
from tests.unit.api_server import VIDEO_BYTES, MemoryService, serving
from tests.unit.cli.commands import error_line, run, succeed
from tests.unit.net import web
from tests.unit.on_disk import on_disk
from tests.unit.quality_report import example_report
from tests.waiting import wait_until


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    (tmp_path / "v.mp4").write_bytes(b"video")
    (tmp_path / "a.wav").write_bytes(b"sound")
    paths = {"video": "v.mp4", "audio": "a.wav", "out": "out.mp4"}
    return [text for name, file in paths.items() for text in (f"--{name}", str(tmp_path / file))]


def test_speak_with_options_writes_result(tmp_path: Path, service: MemoryService, url: str, inputs: list[str]) -> None:
    service.outcome, picture = "video", tmp_path / "who.jpg"
    command = ("speak", *inputs, "--server", url, "--loop", "hold", "--json", "--face-image", str(picture))
    assert "--face-image: " in error_line(run(*command))
    picture.write_bytes(b"picture")
    done = succeed(*command)
    assert (tmp_path / "out.mp4").read_bytes() == VIDEO_BYTES
    result = json.loads(done.stdout)
    assert (result["status"], result["num_frames"], result["num_bytes"]) == ("succeeded", 50, len(VIDEO_BYTES))
    (request,) = service.requests
    assert request.options.loop == "hold" and request.face_image is not None
    assert on_disk(service.files, upload_key(request.face_image.key)).read_bytes() == b"picture"
    assert not list(tmp_path.glob(".*.part"))
    report = run("jobs", "report", result["id"], "--server", url)
    assert (report.exit_code, error_line(report).split(": ")[1]) == (1, "not_found"), "it has none"


def test_speak_urls_are_fetched_by_the_service(tmp_path: Path, service: MemoryService) -> None:
    service.outcome = "video"
    out = str(tmp_path / "out.mp4")
    (tmp_path / "a.wav").write_bytes(b"sound")
    loopback = NetworkConfig(allowed_networks=("127.0.0.1/32",))
    with web.serving(lambda path, send: send(web.answer(path.encode()))) as films, serving(service, loopback) as url:
        for audio in (films.url("/a.wav"), str(tmp_path / "a.wav")):
            inputs = ("--video", films.url("/v.mp4"), "--audio", audio, "--out", out, "--server", url)
            succeed("speak", *inputs)
        refused = run("speak", *inputs, "--face-image", "http://10.0.0.1/who.jpg")
    assert error_line(refused).startswith("error: url_refused: --face-image: http://10.0.0.1/who.jpg: expected")
    for request, sound in zip(service.requests, (b"/a.wav", b"sound"), strict=True):
        assert request.video is not None
        assert (request.video.sha256, request.video.label) == (hashlib.sha256(b"/v.mp4").hexdigest(), "v.mp4")
        assert (request.audio.sha256, request.audio.label) == (hashlib.sha256(sound).hexdigest(), "a.wav")


def test_version_and_help_are_printed_without_errors(repo_root: Path) -> None:
    assert run("--version").stdout == f"lipwright {version('lipwright')}\n"
    command = [sys.executable, "-m", "lipwright.cli", "live", "--help"]
    with subprocess.Popen(command, cwd=repo_root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 1


def test_speak_api_key_variable_is_sent(service: MemoryService, url: str, inputs: list[str]) -> None:
    service.outcome = "video"
    _, key = FileKeyRing(service.files.root).add("me")
    without = run("speak", *inputs, "--server", url)
    assert error_line(without).startswith("error: unauthorized: An API key is required")
    assert "sends the key in LIPWRIGHT_API_KEY; `lipwright keys add NAME` creates one." in error_line(without)
    succeed("speak", *inputs, "--server", url, LIPWRIGHT_API_KEY=key)


def test_speak_report_option_prints_the_quality_report(service: MemoryService, url: str, inputs: list[str]) -> None:
    service.outcome, service.report = "video", example_report()
    plain = run("speak", *inputs, "--server", url)
    assert len(plain.stdout.splitlines()) == 1, "only when it is asked for"
    warnings = [line for line in plain.stderr.splitlines() if line.startswith("warning: ")]
    assert warnings == [f"warning: {sentence}" for sentence in service.report["warnings"]] != []
    done = succeed("speak", *inputs, "--server", url, "--report")
    assert "warning: " not in done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == plain.stdout.strip()
    assert "source sound offset +120 ms positive: the sound is late; confidence 0.93" in lines
    assert "exemplars 40 of 400 mouth images of the source that are shown" in lines
    assert "left unchanged 3 frames no face" in lines
    assert "The source's sound is 120 ms late; this was corrected." in lines
    assert "3 frames left unchanged: no face found." in lines
    job = json.loads(run("speak", *inputs, "--server", url, "--report", "--json").stdout)
    assert job["report"]["warnings"] == service.report["warnings"]
    again = run("jobs", "report", job["id"], "--server", url)
    assert again.stdout.splitlines() == done.stdout.splitlines()[1:]


def test_speak_failed_job_is_one_line(tmp_path: Path, service: MemoryService, url: str, inputs: list[str]) -> None:
    service.outcome = FaceNotFoundError("v.mp4: expected a face,\nfound none.")
    done = run("speak", *inputs, "--server", url)
    assert done.exit_code == 1
    assert error_line(done) == "error: face_not_found: v.mp4: expected a face, found none."
    assert not (tmp_path / "out.mp4").exists()


def test_speak_without_a_usable_video_or_server_fails(inputs: list[str], tmp_path: Path) -> None:
    done = run("speak", *inputs, "--data-dir", str(tmp_path / "data"))
    assert (done.exit_code, error_line(done).split(": ")[1]) == (1, "media_invalid")
    assert "v.mp4" in error_line(done)
    assert not (tmp_path / "data").exists(), "no service is started for it"
    done = run("speak", *inputs, "--server", "http://127.0.0.1:9")
    assert (done.exit_code, error_line(done).split(": ")[1]) == (1, "connection_failed")
    assert "`lipwright serve` starts one" in error_line(done)


def _restore_sigint() -> None:
    """What runs in the background of a shell is started deaf to SIGINT, and so are its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


_INTERRUPTED_IMPORT = """
import os, signal, sys
from lipwright.cli.__main__ import main

module, sys.argv = sys.argv[1], ["lipwright", "serve", "--data-dir", sys.argv[2]]

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
main()
"""


@pytest.mark.parametrize("module", ["lipwright.cli.main", "lipwright.config", "lipwright.launch.service"])
def test_interrupt_during_imports_prints_no_traceback(repo_root: Path, tmp_path: Path, module: str) -> None:
    command = [sys.executable, "-c", _INTERRUPTED_IMPORT, module, str(tmp_path / "data")]
    done = subprocess.run(
        command, cwd=repo_root, capture_output=True, text=True, timeout=60, preexec_fn=_restore_sigint
    )
    assert done.returncode in (-signal.SIGINT, 130)
    assert done.stderr in ("", "error: interrupted: Stopped.\n")
    assert not (tmp_path / "data").exists()


def test_speak_interrupted_cancels_the_job(service: MemoryService, url: str, inputs: list[str]) -> None:
    command = [sys.executable, "-m", "lipwright.cli", "speak", *inputs, "--server", url]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_restore_sigint
    )
    try:
        wait_until(lambda: service.num_waits)  # until it follows its job
        os.kill(running.pid, signal.SIGINT)
        _, stderr = running.communicate(timeout=120)
    finally:
        running.kill()
    assert running.returncode == 130
    assert stderr.rstrip().splitlines()[-1] == "error: interrupted: Stopped."
    assert [job.status for job in service.table.list_jobs(JobQuery(limit=9)).jobs] == [JobStatus.CANCELLED]


def test_jobs_commands_show_cancel_download_and_delete(tmp_path: Path, service: MemoryService, url: str) -> None:
    job = Lipwright(url).jobs.create(audio=("你好 [1].wav", b"sound"), video=("anna.mp4", b"film"))

    def jobs(command: str, *options: str) -> str:
        return run("jobs", command, *options, "--server", url).stdout

    line = next(line for line in jobs("list").splitlines() if job.id in line)
    assert f"{job.inputs.audio}  anna.mp4" in line and "你好" in line
    assert re.search(r"\b20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\+00:00\b", line)
    (listed,) = json.loads(run("jobs", "list", "--json", LIPWRIGHT_URL=url).stdout)
    shown = json.loads(run("jobs", "show", job.id, LIPWRIGHT_SERVER=url).stdout)
    assert shown["options"]["format"] == "mp4" and "options" not in listed, "a list has summaries"
    assert all(listed[name] == shown[name] for name in listed.keys() - {"links"})
    service.report = example_report()
    service.finish(job.id)
    assert jobs("cancel", job.id) == "succeeded\n"
    assert json.loads(jobs("report", job.id, "--json")) == service.report
    jobs("download", job.id, "--out", str(tmp_path / "copy.mp4"))
    assert (tmp_path / "copy.mp4").read_bytes() == VIDEO_BYTES
    assert jobs("delete", job.id) == "removed\n"
    assert job.id not in jobs("list")
    missing = run("jobs", "show", job.id, "--server", url)
    assert (missing.exit_code, error_line(missing).split(": ")[1]) == (1, "not_found")


def _speak(folder: Path, url: str, *options: str) -> Result:
    return run("speak", "--out", str(folder / "out.mp4"), "--server", url, *options)


def test_speak_sends_text_and_options_that_are_zero(tmp_path: Path, service: MemoryService, url: str) -> None:
    service.outcome = "video"
    (tmp_path / "v.mp4").write_bytes(b"video")
    options = {"--motion": "0", "--background-gain": "0", "--loudness": "-16", "--priority": "-1", "--matte": "chroma"}
    options |= {"--text": "Hi", "--voice": "kim", "--background": "white", "--quality": "best"}
    files = ("--video", str(tmp_path / "v.mp4"), "--visible-label-top")
    done = _speak(tmp_path, url, *files, *(part for option in options.items() for part in option))
    assert done.exit_code == 0, done.output
    spec = service.requests[0].spec
    assert (spec.motion, spec.background_gain_db, spec.loudness_lufs, spec.priority) == (0, 0, -16, -1)
    assert (spec.matte, spec.visible_label_top, spec.visible_label) == ("chroma", True, False)
    assert (spec.text, spec.voice, spec.quality) == ("Hi", "kim", "best")
    assert not {"face", "loop", "expressiveness", "visible_label"} & spec.model_fields_set
    assert _speak(tmp_path, url, "--avatar-id", "a" * 32, "--text", "Hi", "--expressiveness", "1.4").exit_code == 0
    assert (service.requests[1].spec.avatar_id, service.requests[1].spec.expressiveness) == ("a" * 32, 1.4)


def test_speak_with_unusable_option_names_it(tmp_path: Path, service: MemoryService, url: str) -> None:
    cases: list[tuple[list[str], str]] = [
        (["--text", "Hi"], "pass either --video or --avatar-id"),
        (["--avatar-id", "a"], "pass either --audio or --text"),
        (["--avatar-id", "a", "--text", "Hi", "--music", "missing.mp3"], "--music: missing.mp3 does not exist"),
        (["--avatar-id", "a", "--text", "Hi", "--fps", "0"], "0 is not in the range"),
        (["--video", "missing.mp4", "--text", "Hi"], "error: input_invalid: --video"),
        (["--avatar-id", "a", "--audio", "missing.wav"], "error: input_invalid: --audio"),
        (["--avatar-id", "a", "--text", "Hi", "--out", "no/such/folder/out.mp4"], "error: input_invalid: --out"),
        (["--avatar-id", "a", "--text", "Hi", "--out", "out.avi"], "error: input_invalid: --out"),
        (["--avatar-id", "a", "--text", "Hi", "--loop", "twice"], "--loop: must be 'pingpong'"),
    ]
    for options, message in cases:
        done = _speak(tmp_path, url, *options)
        assert done.exit_code != 0
        assert message in " ".join(done.output.split())
        assert not service.requests


def test_speak_options_have_bounds_and_help_of_the_field() -> None:
    commands: Any = typer.main.get_command(app)
    options = {each.name: each for each in commands.commands["speak"].params}
    gain = options["music_gain_db"]
    assert (gain.opts, gain.type.min, gain.type.max) == (["--music-gain"], -60, 12)
    assert gain.help == "Gain of --music in dB. Default: -12."
    assert options["crop"].help == str(JobSpec.model_fields["crop"].description).replace("`", "")


def test_avatars_json_option_prints_records(url: str, tmp_path: Path) -> None:
    (tmp_path / "anna.mp4").write_bytes(b"film")
    avatar = json.loads(run("avatars", "add", str(tmp_path / "anna.mp4"), "--json", "--server", url).stdout)
    assert json.loads(run("avatars", "list", "--json", "--server", url).stdout) == [avatar]
    listed = run("avatars", "list", "--server", url).stdout
    line = next(line for line in listed.splitlines() if avatar["id"] in line)
    assert "anna.mp4" in line and avatar["created_at"][:10] in line
