"""The `lipwright` command against the API on a real socket."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from config import NetworkConfig
from errors import FaceNotFoundError
from jobs.model.record import JobQuery, JobStatus
from launch.data_folder import locked_folder
from storage.file_keys import upload_key
from storage.local.api_keys import FileKeyRing
from tests.unit.api_server import VIDEO_BYTES, MemoryService, serving
from tests.unit.cli.commands import error_line, run
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


def test_speak_with_options_writes_the_result(
    tmp_path: Path, service: MemoryService, url: str, inputs: list[str]
) -> None:
    service.outcome, picture = "video", tmp_path / "who.jpg"
    command = ("speak", *inputs, "--server", url, "--loop", "hold", "--json", "--face-image", str(picture))
    assert "--face-image: " in error_line(run(*command))
    picture.write_bytes(b"picture")
    done = run(*command)
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "out.mp4").read_bytes() == VIDEO_BYTES
    result = json.loads(done.stdout)
    assert (result["status"], result["num_frames"], result["num_bytes"]) == ("succeeded", 50, len(VIDEO_BYTES))
    (request,) = service.requests
    assert request.options.loop == "hold" and request.face_image is not None
    assert on_disk(service.files, upload_key(request.face_image.key)).read_bytes() == b"picture"
    assert not list(tmp_path.glob(".*.part"))
    report = run("jobs", "report", result["id"], "--server", url)
    assert (report.exit_code, error_line(report).split(": ")[1]) == (1, "not_found"), "it has none"


def test_speak_text_option_is_sent_with_its_options(tmp_path: Path, service: MemoryService) -> None:
    service.outcome, video, out = "video", tmp_path / "v.mp4", str(tmp_path / "out.mp4")
    video.write_bytes(b"video")
    with serving(service) as url:
        inputs = ("--video", str(video), "--out", out, "--server", url)
        assert "pass either --audio or --text" in error_line(run("speak", *inputs))
        options = ["--visible-label", "--quality", "best", "--expressiveness", "1.4", "--motion", "0.3"]
        done = run("speak", *inputs, "--text", "Hello.", "--voice", "kim", *options)
    assert done.exit_code == 0, done.stderr
    (request,) = service.requests
    assert (request.spec.text, request.spec.voice) == ("Hello.", "kim")
    assert (request.options.visible_label, request.options.expressiveness, request.options.motion) == (True, 1.4, 0.3)
    assert request.options.quality == "best"


def test_speak_urls_are_fetched_by_the_service(tmp_path: Path, service: MemoryService) -> None:
    service.outcome = "video"
    out = str(tmp_path / "out.mp4")
    (tmp_path / "a.wav").write_bytes(b"sound")
    loopback = NetworkConfig(allowed_networks=("127.0.0.1/32",))
    with web.serving(lambda path, send: send(web.answer(path.encode()))) as films, serving(service, loopback) as url:
        for audio in (films.url("/a.wav"), str(tmp_path / "a.wav")):
            inputs = ("--video", films.url("/v.mp4"), "--audio", audio, "--out", out, "--server", url)
            done = run("speak", *inputs)
            assert done.exit_code == 0, done.stderr
        refused = run("speak", *inputs, "--face-image", "http://10.0.0.1/who.jpg")
    assert error_line(refused).startswith("error: url_refused: --face-image: http://10.0.0.1/who.jpg: expected")
    for request, sound in zip(service.requests, (b"/a.wav", b"sound"), strict=True):
        assert request.video is not None
        assert (request.video.sha256, request.video.label) == (hashlib.sha256(b"/v.mp4").hexdigest(), "v.mp4")
        assert (request.audio.sha256, request.audio.label) == (hashlib.sha256(sound).hexdigest(), "a.wav")


def test_help_closed_stdout_prints_no_error(repo_root: Path) -> None:
    command = [sys.executable, "-m", "cli", "live", "--help"]
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
    done = run("speak", *inputs, "--server", url, LIPWRIGHT_API_KEY=key)
    assert done.exit_code == 0, done.stderr


def test_speak_report_option_prints_the_quality_report(service: MemoryService, url: str, inputs: list[str]) -> None:
    service.outcome, service.report = "video", example_report()
    plain = run("speak", *inputs, "--server", url)
    assert len(plain.stdout.splitlines()) == 1, "only when it is asked for"
    warnings = [line for line in plain.stderr.splitlines() if line.startswith("warning: ")]
    assert warnings == [f"warning: {sentence}" for sentence in service.report["warnings"]] != []
    done = run("speak", *inputs, "--server", url, "--report")
    assert done.exit_code == 0, done.stderr
    assert "warning: " not in done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == plain.stdout.strip()
    assert "source sound offset +120 ms positive: the sound is late; confidence 0.93" in lines
    assert "exemplars 40 of 400 mouth images of the source that are shown" in lines
    assert "left unchanged 3 frames no face" in lines
    assert "The source's sound is 120 ms late; this was corrected." in lines
    assert "3 frames left unchanged: no face found." in lines
    as_json = run("speak", *inputs, "--server", url, "--report", "--json")
    job = json.loads(as_json.stdout)
    assert job["report"]["warnings"] == service.report["warnings"]
    again = run("jobs", "report", job["id"], "--server", url)
    assert again.stdout.splitlines() == done.stdout.splitlines()[1:]


def test_speak_failed_job_ends_with_one_line(
    tmp_path: Path, service: MemoryService, url: str, inputs: list[str]
) -> None:
    service.outcome = FaceNotFoundError("v.mp4: expected a face,\nfound none.")
    done = run("speak", *inputs, "--server", url)
    assert done.exit_code == 1
    assert error_line(done) == "error: face_not_found: v.mp4: expected a face, found none."
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [("--video", "missing.mp4"), ("--audio", "missing.wav"), ("--out", "no/such/folder/out.mp4"), ("--out", "out.avi")],
)
def test_speak_unusable_path_names_the_option(inputs: list[str], option: str, value: str) -> None:
    inputs[inputs.index(option) + 1] = value
    done = run("speak", *inputs)
    assert done.exit_code == 2
    assert option in error_line(done)


def test_speak_unreadable_video_starts_no_service(inputs: list[str], tmp_path: Path) -> None:
    done = run("speak", *inputs, "--data-dir", str(tmp_path / "data"))
    assert (done.exit_code, error_line(done).split(": ")[1]) == (1, "media_invalid")
    assert "v.mp4" in error_line(done)
    assert not (tmp_path / "data").exists()


def test_speak_uses_the_service_of_the_data_folder(
    service: MemoryService, url: str, samples: Path, sample_portrait: Path, tmp_path: Path
) -> None:
    service.outcome = "video"
    with locked_folder(tmp_path / "data") as lock:
        lock.publish_url(url)
        files = ("--video", str(sample_portrait), "--audio", str(samples / "speech_short.wav"))
        out = str(tmp_path / "out.mp4")
        done = run("speak", *files, "--out", out, "--data-dir", str(tmp_path / "data"))
    assert done.exit_code == 0, done.stderr
    assert f"Using the service at {url}." in done.stderr


def test_version_option_prints_the_installed_version() -> None:
    assert run("--version").stdout == f"lipwright {version('lipwright')}\n"


def test_speak_unreachable_server_is_connection_failed(inputs: list[str]) -> None:
    done = run("speak", *inputs, "--server", "http://127.0.0.1:9")
    assert (done.exit_code, error_line(done).split(": ")[1]) == (1, "connection_failed")
    assert "`lipwright serve` starts one" in error_line(done)


def _restore_sigint() -> None:
    """What runs in the background of a shell is started deaf to SIGINT, and so are its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


_INTERRUPTED_IMPORT = """
import os, signal, sys
from cli.__main__ import main

module, sys.argv = sys.argv[1], ["lipwright", "serve", "--data-dir", sys.argv[2]]

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
main()
"""


@pytest.mark.parametrize("module", ["cli.main", "config", "launch.service"])
def test_interrupt_during_imports_prints_no_traceback(repo_root: Path, tmp_path: Path, module: str) -> None:
    command = [sys.executable, "-c", _INTERRUPTED_IMPORT, module, str(tmp_path / "data")]
    done = subprocess.run(
        command, cwd=repo_root, capture_output=True, text=True, timeout=60, preexec_fn=_restore_sigint
    )
    assert done.returncode in (-signal.SIGINT, 130)
    assert done.stderr in ("", "error: interrupted: Stopped.\n")
    assert not (tmp_path / "data").exists()


def test_speak_interrupted_cancels_the_job(service: MemoryService, url: str, inputs: list[str]) -> None:
    command = [sys.executable, "-m", "cli", "speak", *inputs, "--server", url]
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


def test_jobs_commands_show_cancel_download_and_delete(
    tmp_path: Path, service: MemoryService, url: str, inputs: list[str]
) -> None:
    service.outcome = "video"
    job = json.loads(run("speak", *inputs, "--server", url, "--json").stdout)["id"]

    def jobs(command: str, *options: str) -> str:
        return run("jobs", command, *options, "--server", url).stdout

    assert job in jobs("list")
    assert json.loads(jobs("show", job))["id"] == job
    assert jobs("cancel", job) == "succeeded\n"
    jobs("download", job, "--out", str(tmp_path / "copy.mp4"))
    assert (tmp_path / "copy.mp4").read_bytes() == VIDEO_BYTES
    assert jobs("delete", job) == "removed\n"
    assert job not in jobs("list")
    missing = run("jobs", "show", job, "--server", url)
    assert (missing.exit_code, error_line(missing).split(": ")[1]) == (1, "not_found")


def test_serve_heygem_options_enable_heygem(tmp_path: Path) -> None:
    from cli.serve import _heygem
    from cli.terminal import UsageError
    from launch.serve_config import read_serve_config

    known = read_serve_config()
    assert not known.on_this_machine("127.0.0.1", 0, heygem=_heygem(False, None, False)).pipeline.heygem.enabled
    opened = known.on_this_machine("127.0.0.1", 0, heygem=_heygem(True, None, False)).pipeline.heygem
    assert (opened.enabled, opened.root, opened.strict) == (True, None, False)
    implied = known.on_this_machine("127.0.0.1", 0, heygem=_heygem(False, tmp_path, True)).pipeline.heygem
    assert (implied.enabled, implied.root, implied.strict) == (True, tmp_path, True)
    with pytest.raises(UsageError):
        _heygem(True, tmp_path / "nowhere", False)
