"""An avatar with a clip through the real graph: a job plays both, and a clip of somebody else is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import cv2
import httpx
import numpy as np
import pytest

from storage.file_keys import AVATARS
from tests.graph.test_main_job import DEADLINE_S, submit, wait_until_final
from tests.waiting import wait_until


@pytest.fixture
def stranger(tmp_path: Path, portrait: Path) -> Path:
    """A second of the person of the sample portrait, who is not the sample presenter."""
    bgr = cv2.imread(str(portrait))
    assert bgr is not None
    picture = np.asarray(cv2.resize(bgr, (256, 256), interpolation=cv2.INTER_AREA), np.uint8)
    with av.open(str(tmp_path / "stranger.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 256, 256, "yuv420p"
        for number in range(26):
            shifted = np.roll(picture, number % 3, 0)  # a film, not a still
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shifted, format="bgr24")))
        container.mux(stream.encode())
    return tmp_path / "stranger.mp4"


def test_job_on_avatar_with_clip_plays_both(
    client: httpx.Client, service_data: Path, sample_video: Path, stranger: Path, short_speech: Path
) -> None:
    content = sample_video.read_bytes() + b"\0\0\0\x08free"  # an avatar that other tests do not have
    created = client.post("/v1/avatars", files={"video": ("a.mp4", content)}).raise_for_status().json()
    path = f"/v1/avatars/{created['id']}"
    for name, film in (("nod", sample_video), ("stranger", stranger)):
        files, fields = {"video": (film.name, film.read_bytes())}, {"name": name, "kind": "idle"}
        client.post(f"{path}/clips", files=files, data=fields).raise_for_status()

    def clips() -> dict[str, Any]:
        return {clip["name"]: clip for clip in client.get(f"{path}/clips").json()["clips"]}

    wait_until(lambda: all(clip["status"] != "analysing" for clip in clips().values()), DEADLINE_S, 0.5)
    found = clips()
    assert (found["nod"]["status"], found["stranger"]["status"]) == ("ready", "failed"), found
    assert "does not show the person of the avatar" in found["stranger"]["error"]["message"]
    assert client.get(found["nod"]["thumbnail"]).headers["content-type"] == "image/jpeg"
    job = wait_until_final(client, submit(client, {"audio": short_speech}, avatar_id=created["id"])["id"])
    assert job["status"] == "succeeded", job["error"]
    assert (job["options"]["loop"], job["num_frames_done"]) == ("natural", job["num_frames"])
    assert client.get(job["links"]["source"]).content == content, "what was sent, not the composite"
    before = len(list((service_data / AVATARS).iterdir()))
    assert client.delete(f"{path}").status_code == 204
    assert len(list((service_data / AVATARS).iterdir())) == before - 4, "the avatar, both clips and the composite"
