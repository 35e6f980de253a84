"""The options of the picture: backgrounds, framing and file formats."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from cli.main import app
from jobs.model.avatar_settings import AvatarSettings
from lipwright_client import Lipwright, NotFoundError, OptionError, UploadError
from storage.file_keys import UPLOADS
from storage.local.api_keys import FileKeyRing
from tests.unit.api_server import MemoryService, serving

FILES = {"video": ("me.mp4", b"film"), "audio": ("a.wav", b"sound")}


def test_picture_options_reach_the_job(http: httpx.Client, service: MemoryService) -> None:
    sent = {"size": "1080x1920", "fps": "30", "format": "webm", "matte": "chroma", "background_loop": "hold"}
    sent["quality"] = "best"
    answer = http.post("/v1/jobs", files={**FILES, "background_file": ("beach.mp4", b"beach")}, data=sent)
    assert answer.status_code == 202, answer.text
    options = answer.json()["options"]
    assert {name: options[name] for name in sent} == {**sent, "fps": 30.0}
    (request,) = service.requests
    assert request.background_file is not None and request.background_file.label == "beach.mp4"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"background": "blur"}, "background or background_file, not both"),
        ({"background_id": "0" * 32}, "background_id or background_file, not both"),
        ({"size": "12x12"}, "at least 64 pixels"),
        ({"crop": "16/9"}, "WIDTH:HEIGHT"),
        ({"fps": "0"}, "fps"),
        ({"format": "gif"}, "format"),
    ],
)
def test_invalid_picture_options_store_no_upload(
    http: httpx.Client, service: MemoryService, fields: dict[str, str], message: str
) -> None:
    answer = http.post("/v1/jobs", files={**FILES, "background_file": ("b.png", b"beach")}, data=fields)
    assert (answer.status_code, answer.json()["code"]) == (422, "option_invalid")
    assert message in answer.json()["detail"]
    assert not service.requests and not service.files.stored.entries(UPLOADS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"background": "transparent"}, "format webm or mov"),
        ({"background_loop": "hold"}, "needs background_file"),
        ({"matte": "person"}, "needs background, background_file or background_id"),
        ({"background_file": "http://127.0.0.1:1/beach.png"}, "background_file"),
    ],
)
def test_picture_option_without_its_requirement_is_refused(
    http: httpx.Client, fields: dict[str, str], message: str
) -> None:
    answer = http.post("/v1/jobs", files=FILES, data=fields)
    assert 400 <= answer.status_code < 500 and message in answer.json()["detail"]


@pytest.mark.parametrize(
    ("name", "media_type"), [("mp4", "video/mp4"), ("webm", "video/webm"), ("mov", "video/quicktime")]
)
def test_result_has_media_type_and_name_of_its_format(
    http: httpx.Client, service: MemoryService, name: str, media_type: str
) -> None:
    job: dict[str, Any] = http.post("/v1/jobs", files=FILES, data={"format": name}).json()
    preview = http.get(f"/v1/jobs/{job['id']}").json()["links"]["preview"]
    assert (preview is not None) == (name == "mp4")
    service.finish(job["id"])
    answer = http.get(f"/v1/jobs/{job['id']}/video", params={"download": "true"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert answer.headers["content-disposition"].endswith(f'a.{name}"')
    if name != "mp4":
        refused = http.get(f"/v1/jobs/{job['id']}/preview")
        assert (refused.status_code, refused.json()["code"]) == (409, "state_conflict")


FILM, BEACH = ("me.mp4", b"film"), ("beach.jpg", b"beach")


def test_avatar_keeps_its_background_until_it_is_removed(url: str, service: MemoryService) -> None:
    with Lipwright(url) as client:
        avatar = client.avatars.create(video=FILM, background_file=BEACH, background_loop="hold")
        sent = client.create_background(BEACH)
        shown = (avatar.background, avatar.background_id, avatar.background_loop, avatar.matte)
        assert shown == (None, sent.id, "hold", "auto")
        avatar = client.avatars.update(avatar.id, background="white", matte="person")
        assert (avatar.background, avatar.background_id) == ("#ffffff", None)
        assert client.avatars.list() == (avatar,) == (client.avatars.get(avatar.id),)
        assert client.avatars.update(avatar.id, background_file=("street.jpg", b"street")).background_id != sent.id
        assert client.avatars.update(avatar.id, background_id=sent.id).background_id == sent.id
        avatar = client.avatars.update(avatar.id, background="source")
        assert (avatar.background, avatar.background_id, avatar.matte) == (None, None, "auto")
        assert not service.uploads()


def test_avatar_keeps_its_motion_until_it_is_changed(url: str, service: MemoryService) -> None:
    with Lipwright(url) as client:
        avatar = client.avatars.create(video=FILM, expressiveness=1.4)
        assert (avatar.expressiveness, avatar.motion) == (1.4, 1.0)
        avatar = client.avatars.update(avatar.id, motion=0)
        assert client.avatars.get(avatar.id) == avatar and (avatar.expressiveness, avatar.motion) == (1.4, 0)
        avatar = client.avatars.update(avatar.id, background="blur", expressiveness=1)
        assert (avatar.expressiveness, avatar.motion, avatar.background) == (1, 0, "blur")


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/videos"])
def test_create_job_with_avatar_overrides_only_fields_set(url: str, service: MemoryService, path: str) -> None:
    with Lipwright(url) as client, httpx.Client(base_url=url, trust_env=False) as http:
        avatar_id = client.avatars.create(video=FILM, expressiveness=1.4).id
        for fields in ({}, {"motion": "1"}, {"expressiveness": "1", "background": "source"}):
            files = {"audio": ("a.wav", b"RIFF" + bytes(90))}
            assert http.post(path, files=files, data={"avatar_id": avatar_id, **fields}).is_success
            request = pickle.loads(pickle.dumps(service.requests[-1]))  # as it reaches the Director
            assert request.spec.model_fields_set & AvatarSettings.model_fields.keys() == fields.keys()


def test_invalid_avatar_settings_are_refused(url: str, service: MemoryService) -> None:
    with Lipwright(url) as client:
        avatar = client.avatars.create(video=FILM)
        for fields, message in (
            ({"background": "transparent"}, "transparent"),
            ({"background": "beach"}, "expected a colour"),
            ({"background": "blur", "background_id": "0" * 32}, "not both"),
            ({"background": "blur", "background_file": BEACH}, "background or background_file, not both"),
            ({"matte": "person"}, "matte needs"),
            ({"expressiveness": 2.5}, "expressiveness"),
            ({"motion": -0.5}, "motion"),
            ({"face": "0"}, "Unknown field 'face'"),
        ):
            with pytest.raises(OptionError, match=message):
                client.avatars.update(avatar.id, **fields)
        with pytest.raises(UploadError):
            client.avatars.update(avatar.id)
        with pytest.raises(NotFoundError):
            client.avatars.update("0" * 32, background="blur")
        assert client.avatars.get(avatar.id) == avatar and not service.uploads()


def test_change_avatar_of_another_api_key_is_refused(service: MemoryService) -> None:
    keys = [FileKeyRing(service.files.root).add(name)[1] for name in ("a", "b")]
    with serving(service) as url, Lipwright(url, keys[0]) as first, Lipwright(url, keys[1]) as second:
        avatar = first.avatars.create(video=FILM)
        with pytest.raises(NotFoundError):
            second.avatars.update(avatar.id, background_file=BEACH)
        assert first.avatars.update(avatar.id, background="blur").background == "blur"
        assert not service.uploads()


def test_avatar_command_sets_settings(url: str, tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["avatars", *arguments, "--server", url])
        assert done.exit_code == 0, done.output
        return done.output

    film, beach = tmp_path / "me.mp4", tmp_path / "beach.jpg"
    film.write_bytes(b"film")
    beach.write_bytes(b"beach")
    avatar_id = run("add", str(film), "--background", "blur").strip()
    assert "blur" in run("list")
    shown = json.loads(run("update", avatar_id, "--background", str(beach), "--background-loop", "hold", "--json"))
    assert shown["background"] is None and shown["background_id"] and shown["background_loop"] == "hold"
    shown = json.loads(run("update", avatar_id, "--expressiveness", "1.4", "--motion", "0", "--json"))
    assert (shown["expressiveness"], shown["motion"], shown["background_loop"]) == (1.4, 0, "hold")
    other = run("add", str(film), "--background-id", shown["background_id"], "--motion", "0.5", "--json")
    assert (json.loads(other)["background_id"], json.loads(other)["motion"]) == (shown["background_id"], 0.5)
