"""The `lipwright` command as a process of its own, against the API on a real socket."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from config import NetworkConfig
from errors import FaceNotFoundError
from jobs.model.record import JobQuery, JobStatus
from launch.folder_lock import locked_folder
from storage.file_keys import upload_key
from storage.local.api_keys import FileKeyRing
from tests.unit.api_server import VIDEO_BYTES, MemoryService, serving
from tests.unit.net import web
from tests.unit.on_disk import on_disk
from tests.unit.quality_report import example_report


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    (tmp_path / "v.mp4").write_bytes(b"video")
    (tmp_path / "a.wav").write_bytes(b"sound")
    paths = {"video": "v.mp4", "audio": "a.wav", "out": "out.mp4"}
    return [text for name, file in paths.items() for text in (f"--{name}", str(tmp_path / file))]


def _run(repo_root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli", *arguments]
    env = os.environ | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)


def _error_line(done: subprocess.CompletedProcess[str]) -> str:
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.stderr.rstrip().endswith(line)
    assert "Traceback" not in done.stderr
    return line


def test_speak_writes_the_result(
    repo_root: Path, tmp_path: Path, service: MemoryService, url: str, inputs: list[str]
) -> None:
    service.outcome = "video"
    done = _run(repo_root, "speak", *inputs, "--server", url, "--loop", "hold", "--json")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.mp4").read_bytes() == VIDEO_BYTES
    result = json.loads(done.stdout)
    assert (result["status"], result["num_frames"], result["num_bytes"]) == ("succeeded", 50, len(VIDEO_BYTES))
    assert service.requests[0].options.loop == "hold"
    assert not list(tmp_path.glob(".*.part"))


def test_speak_sends_a_reference_picture(
    repo_root: Path, tmp_path: Path, service: MemoryService, url: str, inputs: list[str]
) -> None:
    service.outcome, picture = "video", tmp_path / "who.jpg"
    missing = _run(repo_root, "speak", *inputs, "--server", url, "--face-image", str(picture))
    assert "--face-image: " in _error_line(missing)
    picture.write_bytes(b"picture")
    done = _run(repo_root, "speak", *inputs, "--server", url, "--face-image", str(picture))
    assert done.returncode == 0, done.stderr
    sent = service.requests[0].face_image
    assert sent is not None
    assert on_disk(service.files, upload_key(sent.key)).read_bytes() == b"picture"


def test_speak_says_a_text_and_marks_the_video(repo_root: Path, tmp_path: Path, service: MemoryService) -> None:
    service.outcome, video, out = "video", tmp_path / "v.mp4", str(tmp_path / "out.mp4")
    video.write_bytes(b"video")
    with serving(service) as server:
        inputs = ("--video", str(video), "--out", out, "--server", server)
        assert "pass either --audio or --text" in _error_line(_run(repo_root, "speak", *inputs))
        done = _run(
            repo_root,
            "speak",
            *inputs,
            "--text",
            "Hello.",
            "--voice",
            "kim",
            "--visible-label",
            "--quality",
            "best",
            "--expressiveness",
            "1.4",
            "--motion",
            "0.3",
        )
    assert done.returncode == 0, done.stderr
    (request,) = service.requests
    assert (request.spec.text, request.spec.voice) == ("Hello.", "kim")
    assert (request.options.visible_label, request.options.expressiveness, request.options.motion) == (True, 1.4, 0.3)
    assert request.options.quality == "best"


def test_speak_passes_urls_on(repo_root: Path, tmp_path: Path, service: MemoryService) -> None:
    service.outcome = "video"
    out = str(tmp_path / "out.mp4")
    (tmp_path / "a.wav").write_bytes(b"sound")
    loopback = NetworkConfig(allowed_networks=("127.0.0.1/32",))
    with web.serving(lambda path, send: send(web.answer(path.encode()))) as films, serving(service, loopback) as url:
        for audio in (films.url("/a.wav"), str(tmp_path / "a.wav")):
            inputs = ("--video", films.url("/v.mp4"), "--audio", audio, "--out", out, "--server", url)
            done = _run(repo_root, "speak", *inputs)
            assert done.returncode == 0, done.stderr
        refused = _run(repo_root, "speak", *inputs, "--face-image", "http://10.0.0.1/who.jpg")
    assert _error_line(refused).startswith("error: url_refused: --face-image: http://10.0.0.1/who.jpg: expected")
    for request, sound in zip(service.requests, (b"/a.wav", b"sound"), strict=True):
        assert request.video is not None
        assert (request.video.sha256, request.video.label) == (hashlib.sha256(b"/v.mp4").hexdigest(), "v.mp4")
        assert (request.audio.sha256, request.audio.label) == (hashlib.sha256(sound).hexdigest(), "a.wav")


def test_a_reader_that_ends_early_gets_no_error(repo_root: Path) -> None:
    command = [sys.executable, "-m", "cli", "live", "--help"]
    with subprocess.Popen(command, cwd=repo_root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 1


def test_the_key_of_the_environment_is_sent(
    repo_root: Path, service: MemoryService, url: str, inputs: list[str]
) -> None:
    service.outcome = "video"
    _, key = FileKeyRing(service.files.root).add("me")
    without = _run(repo_root, "speak", *inputs, "--server", url)
    assert _error_line(without).startswith("error: unauthorized: An API key is required")
    assert "sends the key in LIPWRIGHT_API_KEY; `lipwright keys add NAME` creates one." in _error_line(without)
    done = _run(repo_root, "speak", *inputs, "--server", url, LIPWRIGHT_API_KEY=key)
    assert done.returncode == 0, done.stderr


def test_speak_prints_the_quality_report(repo_root: Path, service: MemoryService, url: str, inputs: list[str]) -> None:
    service.outcome, service.report = "video", example_report()
    plain = _run(repo_root, "speak", *inputs, "--server", url)
    assert len(plain.stdout.splitlines()) == 1, "only when it is asked for"
    warnings = [line for line in plain.stderr.splitlines() if line.startswith("warning: ")]
    assert warnings == [f"warning: {sentence}" for sentence in service.report["warnings"]] != []
    done = _run(repo_root, "speak", *inputs, "--server", url, "--report")
    assert done.returncode == 0, done.stderr
    assert "warning: " not in done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == plain.stdout.strip()
    assert "source sound offset +120 ms positive: the sound is late; confidence 0.93" in lines
    assert "exemplars 40 of 400 mouth images of the source that are shown" in lines
    assert "left unchanged 3 frames no face" in lines
    assert "The source's sound is 120 ms late; this was corrected." in lines
    assert "3 frames left unchanged: no face found." in lines
    as_json = _run(repo_root, "speak", *inputs, "--server", url, "--report", "--json")
    job = json.loads(as_json.stdout)
    assert job["report"]["warnings"] == service.report["warnings"]
    again = _run(repo_root, "jobs", "report", job["id"], "--server", url)
    assert again.stdout.splitlines() == done.stdout.splitlines()[1:]


def test_a_job_without_a_report_says_so(repo_root: Path, service: MemoryService, url: str, inputs: list[str]) -> None:
    service.outcome = "video"
    job = json.loads(_run(repo_root, "speak", *inputs, "--server", url, "--json").stdout)
    done = _run(repo_root, "jobs", "report", job["id"], "--server", url)
    assert (done.returncode, _error_line(done).split(": ")[1]) == (1, "not_found")


def test_speak_fails_in_one_line(
    repo_root: Path, tmp_path: Path, service: MemoryService, url: str, inputs: list[str]
) -> None:
    service.outcome = FaceNotFoundError("v.mp4: expected a face,\nfound none.")
    done = _run(repo_root, "speak", *inputs, "--server", url)
    assert done.returncode == 1
    assert _error_line(done) == "error: face_not_found: v.mp4: expected a face, found none."
    assert not (tmp_path / "out.mp4").exists()
    refused = _run(repo_root, "speak", *inputs, "--server", url, "--engine", "nonesuch")
    assert (refused.returncode, _error_line(refused).split(": ")[1]) == (1, "option_invalid")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--video", "missing.mp4"),
        ("--audio", "missing.wav"),
        ("--out", "no/such/folder/out.mp4"),
        ("--out", "out.avi"),
    ],
)
def test_speak_refuses_unusable_paths(repo_root: Path, inputs: list[str], option: str, value: str) -> None:
    inputs[inputs.index(option) + 1] = value
    done = _run(repo_root, "speak", *inputs)
    assert done.returncode == 2
    assert option in _error_line(done)


def test_files_are_opened_before_a_service_is_started_for_them(
    repo_root: Path, inputs: list[str], tmp_path: Path
) -> None:
    done = _run(repo_root, "speak", *inputs, "--data-dir", str(tmp_path / "data"))
    assert (done.returncode, _error_line(done).split(": ")[1]) == (1, "media_invalid")
    assert "v.mp4" in _error_line(done)
    assert not (tmp_path / "data").exists()


def test_text_sent_as_audio_is_one_line(repo_root: Path, sample_portrait: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Hello.")
    paths = ("--video", str(sample_portrait), "--audio", str(tmp_path / "a.txt"), "--out", str(tmp_path / "out.mp4"))
    done = _run(repo_root, "speak", *paths, "--data-dir", str(tmp_path / "data"))
    assert done.stderr.startswith("error: media_invalid: a.txt: expected an audio, video or picture file, found ")
    assert done.stderr.count("\n") == 1


def test_the_service_of_the_data_folder_is_used(
    repo_root: Path, service: MemoryService, url: str, samples: Path, sample_portrait: Path, tmp_path: Path
) -> None:
    service.outcome = "video"
    with locked_folder(tmp_path / "data") as lock:
        lock.publish_url(url)
        files = ("--video", str(sample_portrait), "--audio", str(samples / "speech_short.wav"))
        out = str(tmp_path / "out.mp4")
        done = _run(repo_root, "speak", *files, "--out", out, "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 0, done.stderr
    assert f"Using the service at {url}." in done.stderr


def test_the_version(repo_root: Path) -> None:
    assert _run(repo_root, "--version").stdout == f"lipwright {version('lipwright')}\n"


def test_speak_without_the_service(repo_root: Path, inputs: list[str]) -> None:
    done = _run(repo_root, "speak", *inputs, "--server", "http://127.0.0.1:9")
    assert (done.returncode, _error_line(done).split(": ")[1]) == (1, "connection_failed")
    assert "`lipwright serve` starts one" in _error_line(done)


def _heeds_interrupts() -> None:
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
        command, cwd=repo_root, capture_output=True, text=True, timeout=60, preexec_fn=_heeds_interrupts
    )
    assert done.returncode in (-signal.SIGINT, 130)
    assert done.stderr in ("", "error: interrupted: Stopped.\n")
    assert not (tmp_path / "data").exists()


def test_interrupt_cancels_the_job(repo_root: Path, service: MemoryService, url: str, inputs: list[str]) -> None:
    command = [sys.executable, "-m", "cli", "speak", *inputs, "--server", url]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_heeds_interrupts
    )
    try:
        deadline = time.monotonic() + 120
        while not service.num_waits and time.monotonic() < deadline:  # until it follows its job
            time.sleep(0.05)
        os.kill(running.pid, signal.SIGINT)
        _, stderr = running.communicate(timeout=120)
    finally:
        running.kill()
    assert running.returncode == 130
    assert stderr.rstrip().splitlines()[-1] == "error: interrupted: Stopped."
    assert [job.status for job in service.table.list_jobs(JobQuery(limit=9)).jobs] == [JobStatus.CANCELLED]


def test_jobs_commands(repo_root: Path, tmp_path: Path, service: MemoryService, url: str, inputs: list[str]) -> None:
    service.outcome = "video"
    job = json.loads(_run(repo_root, "speak", *inputs, "--server", url, "--json").stdout)
    assert job["id"] in _run(repo_root, "jobs", "list", "--server", url).stdout
    assert json.loads(_run(repo_root, "jobs", "show", job["id"], "--server", url).stdout)["id"] == job["id"]
    assert _run(repo_root, "jobs", "cancel", job["id"], "--server", url).stdout == "succeeded\n"
    copy = tmp_path / "copy.mp4"
    assert _run(repo_root, "jobs", "download", job["id"], "--out", str(copy), "--server", url).returncode == 0
    assert copy.read_bytes() == VIDEO_BYTES
    assert _run(repo_root, "jobs", "delete", job["id"], "--server", url).stdout == "removed\n"
    assert job["id"] not in _run(repo_root, "jobs", "list", "--server", url).stdout
    missing = _run(repo_root, "jobs", "show", "0" * 32, "--server", url)
    assert (missing.returncode, _error_line(missing).split(": ")[1]) == (1, "not_found")


def test_a_full_service_is_asked_again_with_the_same_key(
    repo_root: Path, service: MemoryService, url: str, inputs: list[str]
) -> None:
    service.outcome = "video"
    service.num_refusals = 2
    done = _run(repo_root, "speak", *inputs, "--server", url)
    assert done.returncode == 0, done.stderr
    keys = [request.idempotency_key for request in service.asked]
    assert len(keys) == 3 and len(set(keys)) == 1 and keys[0]


def test_serve_enables_heygem(tmp_path: Path) -> None:
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
