"""The page by Gradio on the service itself: behind its sign-in, with the rights of each caller."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file

from api.session_token import COOKIE
from storage.local.api_keys import FileKeyRing
from tests.unit.api_server import VIDEO_BYTES, MemoryService, serving

pytestmark = pytest.mark.usefixtures("own_temp_folder")


def _inputs(folder: Path) -> dict[str, Any]:
    for name in ("a.wav", "v.mp4"):
        (folder / name).write_bytes(name.encode())
    files = {"audio": handle_file(str(folder / "a.wav")), "video": handle_file(str(folder / "v.mp4"))}
    return files | {"text": "", "portrait": None, "avatar": "", "engine": None, "face": "largest", "loop": "hold"}


def test_it_acts_with_the_key_of_the_caller(tmp_path: Path) -> None:
    service = MemoryService(tmp_path / "data")
    service.outcome = "video"
    key, secret = FileKeyRing(service.files.root).add("anna")
    bearer = {"Authorization": f"Bearer {secret}"}
    with (
        serving(service, has_gradio=True) as url,
        httpx.Client(base_url=url, timeout=60, trust_env=False) as browser,
    ):
        assert browser.get("/gradio/").status_code == 401
        assert browser.post("/gradio/gradio_api/upload").status_code == 401
        browser.post("/v1/session", headers={**bearer, "Origin": url}).raise_for_status()
        assert "Lipwright" in browser.get("/gradio/").text
        cookie = {"Cookie": f"{COOKIE}={browser.cookies[COOKIE]}", "Origin": url}
        for headers in (bearer, cookie):
            options: dict[str, Any] = {"headers": headers, "verbose": False, "analytics_enabled": False}
            page = Client(f"{url}/gradio/", download_files=tmp_path / "results", **options)
            state, video = page.predict(**_inputs(tmp_path), api_name="/speak")
            assert (state, Path(video).read_bytes()) == ("succeeded", VIDEO_BYTES)
            assert service.requests[-1].owner == key.id


def test_it_is_off_unless_asked_for(tmp_path: Path) -> None:
    with serving(MemoryService(tmp_path / "data")) as url:
        assert httpx.get(f"{url}/gradio/", timeout=60, trust_env=False).status_code == 404


@pytest.mark.parametrize("name", ["serve_config.yaml", "serve_config.cpu.yaml"])
def test_serve_shows_it_from_one_replica(repo_root: Path, name: str) -> None:
    from launch.serve_config import read_serve_config

    known = read_serve_config(repo_root / name)
    assert not known.on_this_machine("127.0.0.1", 8123).pipeline.gradio.enabled
    shown = known.on_this_machine("0.0.0.0", 8123, gradio=True)
    assert (shown.pipeline.gradio.enabled, shown.pipeline.gradio.service_url) == (True, "http://127.0.0.1:8123")
    (replicas,) = [each["num_replicas"] for each in shown.deployments if each["name"] == "Ingress"]
    assert replicas == 1
