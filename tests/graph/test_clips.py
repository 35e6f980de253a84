"""An avatar with a clip through the real graph: a job plays both, and a clip of somebody else is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import cv2
import httpx
import numpy as np

from benchmarks.media_files import write_film
from lipwright.storage.file_keys import AVATARS
from tests.graph.test_main_job import DEADLINE_S, submit, wait_until_final
from tests.waiting import wait_until


def _film(picture: Path, out: Path) -> Path:
    """A second of the person in a picture."""
    bgr = cv2.imread(str(picture))
    assert bgr is not None
    small = np.asarray(cv2.resize(bgr, (256, 256), interpolation=cv2.INTER_AREA), np.uint8)
    moved = (av.VideoFrame.from_ndarray(np.roll(small, number % 3, 0), format="bgr24") for number in range(26))
    write_film(out, moved, 25, {"preset": "veryfast"})
    return out


def test_job_on_avatar_with_clip_plays_both(
    client: httpx.Client, service_data: Path, samples: Path, sample_video: Path, short_speech: Path, tmp_path: Path
) -> None:
    content = sample_video.read_bytes() + b"\0\0\0\x08free"  # an avatar that other tests do not have
    created = client.post("/v1/avatars", files={"video": ("a.mp4", content)}).raise_for_status().json()
    path = f"/v1/avatars/{created['id']}"
    for name, picture in (("smile", "portrait.jpg"), ("stranger", "portrait_closed.jpg")):
        film = _film(samples / picture, tmp_path / f"{name}.mp4")  # the sample presenter is the person of the first
        files, fields = {"video": (film.name, film.read_bytes())}, {"name": name, "kind": "idle"}
        client.post(f"{path}/clips", files=files, data=fields).raise_for_status()

    def clips() -> dict[str, Any]:
        return {clip["name"]: clip for clip in client.get(f"{path}/clips").json()["clips"]}

    wait_until(lambda: all(clip["status"] != "analysing" for clip in clips().values()), DEADLINE_S, 0.5)
    found = clips()
    assert (found["smile"]["status"], found["stranger"]["status"]) == ("ready", "failed"), found
    assert "does not show the person of the avatar" in found["stranger"]["error"]["message"]
    assert client.get(found["smile"]["thumbnail"]).headers["content-type"] == "image/jpeg"
    job = submit(client, {"audio": short_speech}, avatar_id=created["id"])
    assert client.delete(path).status_code == 409, "the job needs the composite"
    job = wait_until_final(client, job["id"])
    assert job["status"] == "succeeded", job["error"]
    assert (job["options"]["loop"], job["num_frames_done"]) == ("natural", job["num_frames"])
    assert client.get(job["links"]["source"]).content == content, "what was sent, not the composite"
    before = len(list((service_data / AVATARS).iterdir()))
    assert client.delete(path).status_code == 204
    assert len(list((service_data / AVATARS).iterdir())) == before - 4, "the avatar, both clips and the composite"
