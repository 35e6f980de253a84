"""The Gradio page, used by Gradio's own client: in a process of its own, and on the service itself."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from gradio_client import Client, handle_file

from lipwright.api.session_token import COOKIE
from lipwright.errors import FaceNotFoundError
from lipwright.jobs.model.record import JobStatus
from lipwright.launch.serve_config import read_serve_config
from lipwright.storage.file_keys import job_file_key
from lipwright.storage.local.api_keys import FileKeyRing
from lipwright_client import Lipwright
from tests.browser import BOUND_S, chromium
from tests.ports import quiet_port
from tests.unit.api_server import VIDEO_BYTES, MemoryService, api_client, serving
from tests.unit.on_disk import on_disk
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("own_temp_folder")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> MemoryService:
    return MemoryService(tmp_path_factory.mktemp("page") / "data")


@pytest.fixture(scope="module")
def service_url(service: MemoryService) -> Iterator[str]:
    with serving(service) as url:
        yield url


Running = tuple[str, subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def running(service_url: str, repo_root: Path) -> Iterator[Running]:
    """The URL of the page, and its process."""
    port = str(quiet_port())
    page = subprocess.Popen(
        [sys.executable, "-m", "lipwright.cli", "gradio", "--server", service_url, "--port", port], cwd=repo_root
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: page.poll() is not None or _answers(url))
        assert page.poll() is None, "the page did not start"
        yield url, page
    finally:
        page.terminate()
        try:
            page.wait(60)
        except subprocess.TimeoutExpired:
            page.kill()
            page.wait()
            raise


@pytest.fixture(scope="module")
def page(running: Running, tmp_path_factory: pytest.TempPathFactory) -> Client:
    folder = tmp_path_factory.mktemp("results")
    return Client(running[0], verbose=False, download_files=folder, analytics_enabled=False)


@pytest.fixture(autouse=True)
def _plain(service: MemoryService) -> None:
    service.outcome = None


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _inputs(folder: Path, **options: Any) -> dict[str, Any]:
    (folder / "a.wav").write_bytes(b"sound")
    (folder / "v.mp4").write_bytes(b"film")
    files = {"audio": handle_file(str(folder / "a.wav")), "video": handle_file(str(folder / "v.mp4"))}
    known = {**files, "text": "", "portrait": None, "avatar": "", "engine": None, "face": "largest", "loop": "hold"}
    return known | {"api_name": "/speak"} | options


def test_speak_returns_the_video(page: Client, service: MemoryService, tmp_path: Path) -> None:
    service.outcome = "video"
    state, video = page.predict(**_inputs(tmp_path))
    assert state == "succeeded"
    assert Path(video).read_bytes() == VIDEO_BYTES
    sent = service.requests[-1]
    assert (sent.options.loop, sent.audio.label, sent.video and sent.video.label) == ("hold", "a.wav", "v.mp4")
    assert on_disk(service.files, job_file_key(sent.job_id)).read_bytes() == b"sound"


def test_speak_with_a_kept_avatar(page: Client, service: MemoryService, service_url: str, tmp_path: Path) -> None:
    service.outcome = "video"
    avatar = Lipwright(service_url).avatars.create(video=("anna.mp4", b"film"))
    avatars, engines = page.predict(api_name="/choices")
    assert ["anna.mp4", avatar.id] in [list(choice) for choice in avatars["choices"]]
    assert engines["value"] == "warp"
    assert page.predict(**_inputs(tmp_path, video=None, avatar=avatar.id, engine="warp"))[0] == "succeeded"
    assert service.requests[-1].avatar_id == avatar.id


def test_speak_sends_background_crop_and_format(page: Client, service: MemoryService, tmp_path: Path) -> None:
    service.outcome = "video"
    _, video = page.predict(**_inputs(tmp_path, background="transparent", crop="9:16", format="webm", quality="fast"))
    assert (Path(video).suffix, Path(video).read_bytes()) == (".webm", VIDEO_BYTES)
    options = service.requests[-1].options
    assert (options.background, options.crop, options.format) == ("transparent", "9:16", "webm")
    assert options.quality == "fast"
    page.predict(**_inputs(tmp_path, background_file=handle_file(str(tmp_path / "v.mp4"))))
    sent = service.requests[-1]
    assert sent.background_file is not None and sent.background_file.label == "v.mp4"
    assert (sent.options.background, sent.options.crop, sent.options.format) == (None, None, "mp4")


def test_speak_errors_are_shown(page: Client, service: MemoryService, tmp_path: Path) -> None:
    service.outcome = FaceNotFoundError("v.mp4: expected a face, found none.")
    with pytest.raises(Exception, match=r"Face not found: v\.mp4: expected a face, found none\."):
        page.predict(**_inputs(tmp_path))
    for words, wrong in (
        ("Face: provide one", {"video": None}),
        ("Face: provide one", {"avatar": "0" * 32}),
        ("Speech: provide either", {"audio": None}),
    ):
        with pytest.raises(Exception, match=words):
            page.predict(**_inputs(tmp_path, **wrong))


def test_speak_shows_progress_and_cancels_when_left(page: Client, service: MemoryService, tmp_path: Path) -> None:
    job_id, making = _begin(page, service, tmp_path)
    service.table.update_job(job_id, status=JobStatus.RUNNING, progress=0.5, num_frames=50, num_frames_done=25)
    wait_until(lambda: any("50%, frame 25 of 50" in str(output) for output in making.outputs()))
    making.cancel()
    wait_until(lambda: service.table.get_job(job_id).status is JobStatus.CANCELLED)


def test_page_loads_nothing_from_other_hosts(running: Running) -> None:
    page_url, _ = running
    html = httpx.get(page_url, timeout=60, trust_env=False).text
    assert "fonts.googleapis.com" not in html and "cdn" not in html.lower()
    assert '"analytics_enabled":false' in html.replace(" ", "")
    other_host = httpx.get(page_url, headers={"host": "evil.example"}, timeout=60, trust_env=False)
    assert other_host.status_code == 400
    with chromium() as browser:
        asked: set[str] = set()
        visit = browser.new_page()
        visit.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
        visit.goto(page_url)
        visit.get_by_role("button", name="Create video").wait_for(timeout=BOUND_S * 1000)
        visit.wait_for_load_state("networkidle")
    assert asked - {""} == {urlsplit(page_url).netloc}


def _begin(page: Client, service: MemoryService, folder: Path) -> tuple[str, Any]:
    """A job that the page has just sent, by its id, and Gradio's call that follows it."""
    number = len(service.requests)
    making = page.submit(**_inputs(folder))
    wait_until(lambda: len(service.requests) > number)
    return service.requests[-1].job_id, making


def test_page_that_ends_cancels_jobs(page: Client, running: Running, service: MemoryService, tmp_path: Path) -> None:
    """Stays behind the other tests of this page."""
    job_id, _ = _begin(page, service, tmp_path)
    running[1].terminate()
    running[1].wait(60)
    assert service.table.get_job(job_id).status is JobStatus.CANCELLED


def test_gradio_port_in_use_is_one_error_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        command = [sys.executable, "-m", "lipwright.cli", "gradio", "--server", "http://127.0.0.1:9", "--port", port]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: input_invalid: --port {port}: Address already in use. Choose another port.\n"


def test_mounted_page_acts_with_the_key_of_the_caller(tmp_path: Path) -> None:
    service = MemoryService(tmp_path / "data")
    service.outcome = "video"
    key, secret = FileKeyRing(service.files.root).add("anna")
    bearer = {"Authorization": f"Bearer {secret}"}
    with api_client(service, has_gradio=True) as browser:
        url = str(browser.base_url).rstrip("/")
        assert browser.get("/gradio/").status_code == 401
        assert browser.post("/gradio/gradio_api/upload").status_code == 401
        browser.post("/v1/session", headers={**bearer, "Origin": url}).raise_for_status()
        assert "Lipwright" in browser.get("/gradio/").text
        cookie = {"Cookie": f"{COOKIE}={browser.cookies[COOKIE]}", "Origin": url}
        for headers in (bearer, cookie):
            options: dict[str, Any] = {"headers": headers, "verbose": False, "analytics_enabled": False}
            page = Client(f"{url}/gradio/", download_files=tmp_path / "results", **options)
            state, video = page.predict(**_inputs(tmp_path))
            assert (state, Path(video).read_bytes()) == ("succeeded", VIDEO_BYTES)
            assert service.requests[-1].owner == key.id
    with api_client(MemoryService(tmp_path / "other")) as without:
        assert without.get("/gradio/").status_code == 404, "it is off by default"


@pytest.mark.parametrize("name", ["serve_config.yaml", "serve_config.cpu.yaml"])
def test_serve_with_gradio_has_one_ingress(repo_root: Path, name: str) -> None:
    known = read_serve_config(repo_root / name)
    assert not known.on_this_machine("127.0.0.1", 8123).pipeline.gradio.enabled
    shown = known.on_this_machine("0.0.0.0", 8123, gradio=True)
    assert (shown.pipeline.gradio.enabled, shown.pipeline.gradio.service_url) == (True, "http://127.0.0.1:8123")
    (replicas,) = [each["num_replicas"] for each in shown.deployments if each["name"] == "Ingress"]
    assert replicas == 1
