"""Backgrounds and clips, settings of avatars, and options of the picture: through HTTP, client and commands."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from lipwright.errors import FaceNotFoundError, MediaLimitError
from lipwright.jobs.model.avatar_settings import AvatarSettings
from lipwright.storage.file_keys import avatar_picture_key
from lipwright.storage.local.api_keys import FileKeyRing
from lipwright.storage.protocols import Row
from lipwright_client import Lipwright, NotFoundError, OptionError, StateError, UploadError
from tests.unit.api.edge_client import problem
from tests.unit.api_server import MAX_UPLOAD_BYTES, MemoryService, serving
from tests.unit.cli.commands import run, succeed
from tests.unit.on_disk import on_disk

FILE = {"background_file": ("office.jpg", b"office")}


def test_background_is_sent_within_limits_and_deleted(http: httpx.Client, service: MemoryService) -> None:
    sent = http.post("/v1/backgrounds", files=FILE)
    assert sent.status_code == 201, sent.text
    assert sent.json().items() >= {"file": "office.jpg", "width": 64, "is_still": True}.items()
    in_json = http.post("/v1/backgrounds", json={"background_file": "data:image/jpeg;base64,b2ZmaWNl"})
    assert in_json.json()["id"] == sent.json()["id"], "the same content"
    path = f"/v1/backgrounds/{sent.json()['id']}"
    assert [http.delete(path).status_code for _ in range(2)] == [204, 404]
    large = http.post("/v1/backgrounds", files={"background_file": ("b.mp4", bytes(2 * MAX_UPLOAD_BYTES))})
    problem(large, 413, "media_too_large")
    service.looked_at = MediaLimitError("office.jpg: too long")
    assert problem(http.post("/v1/backgrounds", files=FILE), 413, "media_too_large")["detail"] == "office.jpg: too long"
    service.is_full = True
    assert http.post("/v1/backgrounds", files=FILE).status_code == 429
    assert not service.uploads()


def test_background_invalid_field_is_refused(http: httpx.Client, service: MemoryService) -> None:
    cases: list[Any] = [
        ({}, "option_invalid"),
        ({"background_file_url": "http://127.0.0.1:1/office.jpg"}, "url_refused"),
        ({"background_file_url": "file:///etc/passwd"}, "url_refused"),
        ({"background_file": "b2ZmaWNl" * 20, "matte": "person"}, "option_invalid"),
    ]
    for fields, code in cases:
        problem(http.post("/v1/backgrounds", json=fields), 422, code)
        assert not service.uploads()


def _avatar(http: httpx.Client, **headers: str) -> str:
    """Create an avatar; return its path."""
    sent = http.post("/v1/avatars", files={"video": ("a.mp4", b"face")}, headers=headers)
    return f"/v1/avatars/{sent.json()['id']}"


def _add(http: httpx.Client, avatar: str, name: str = "wave", kind: str = "action", **headers: str) -> httpx.Response:
    files = {"video": (f"{name}.mp4", name.encode())}
    return http.post(f"{avatar}/clips", files=files, data={"name": name, "kind": kind}, headers=headers)


def test_clip_is_added_listed_shown_and_deleted(http: httpx.Client, service: MemoryService) -> None:
    avatar, service.looked_at = _avatar(http), "face"
    sent = _add(http, avatar)
    assert sent.status_code == 202, sent.text
    service.looked_at = FaceNotFoundError("The clip does not show the person of the avatar.")
    _add(http, avatar, "nod", "idle")
    listed = http.get(f"{avatar}/clips").json()["clips"]
    found = [(clip["name"], clip["kind"], clip["status"]) for clip in listed]
    assert found == [("wave", "action", "ready"), ("nod", "idle", "failed")]
    assert (listed[0]["label"], listed[1]["error"]["code"]) == ("wave.mp4", "face_not_found")
    assert http.get(avatar).json()["clips"] == http.get("/v1/avatars").json()["avatars"][0]["clips"] == listed
    own = service.table.list_avatars()[0]
    on_disk(service.files, avatar_picture_key(own.clips["wave"].key)).write_bytes(b"jpeg")
    picture = http.get(listed[0]["thumbnail"])
    assert picture.content == b"jpeg"
    assert picture.headers["cache-control"] == "private, no-cache", "another clip can get the same name"
    assert http.get(f"{avatar}/clips/wave/source").content == b"wave"
    assert listed[1]["thumbnail"] is None and http.get(f"{avatar}/clips/nod/thumbnail").status_code == 404
    assert [http.delete(f"{avatar}/clips/wave").status_code for _ in range(2)] == [204, 404]
    assert [clip["name"] for clip in http.get(f"{avatar}/clips").json()["clips"]] == ["nod"]
    assert not service.uploads()


def test_list_avatars_queries_once(http: httpx.Client, service: MemoryService, monkeypatch: pytest.MonkeyPatch) -> None:
    database, queries = service.table.database, list[str]()
    query = database.query

    def counted(sql: str, *values: object) -> Sequence[Row]:
        queries.append(sql)
        return query(sql, *values)

    monkeypatch.setattr(database, "query", counted)
    counts = []
    for number in range(3):
        avatar = http.post("/v1/avatars", files={"video": ("a.mp4", b"face%d" % number)}).json()["id"]
        _add(http, f"/v1/avatars/{avatar}", f"wave{number}")
        queries.clear()
        listed = http.get("/v1/avatars").json()["avatars"]
        assert [len(each["clips"]) for each in listed] == [1] * (number + 1)
        counts.append(len(queries))
    assert len(set(counts)) == 1


def test_add_clip_invalid_fields_is_refused(http: httpx.Client, service: MemoryService) -> None:
    for name, kind in (("Wave", "action"), ("a" * 33, "idle"), ("a b", "talk"), ("wave", "jump")):
        problem(_add(http, _avatar(http), name, kind), 422, "option_invalid")
        assert not service.uploads()


def test_client_and_command_line_manage_clips(http: httpx.Client, url: str, tmp_path: Path) -> None:
    video = tmp_path / "wave.mp4"
    video.write_bytes(b"wave")
    avatar_id = _avatar(http).rpartition("/")[2]
    arguments = ("avatars", "clips", "add", avatar_id, "wave", str(video), "--kind", "talk", "--server", url)
    assert run(*arguments).stdout == "added wave\n"
    with Lipwright(url) as client:
        assert [(clip.name, clip.kind) for clip in client.avatars.get(avatar_id).clips] == [("wave", "talk")]
        with pytest.raises(StateError):
            client.avatars.add_clip(avatar_id, "wave", "action", video)
        assert client.avatars.list_clips(avatar_id)[0].status == "analysing"
        listed = run("avatars", "clips", "list", avatar_id, "--server", url)
        assert "wave" in listed.stdout and "talk" in listed.stdout
        client.avatars.delete_clip(avatar_id, "wave")
        assert client.avatars.list_clips(avatar_id) == ()
        with pytest.raises(NotFoundError):
            client.avatars.list_clips("0" * 32)


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


BEACH_FILE = {"background_file": ("b.png", b"beach")}


def test_invalid_picture_options_store_no_upload(http: httpx.Client, service: MemoryService) -> None:
    cases: list[Any] = [
        (BEACH_FILE, {"background": "blur"}, "background or background_file, not both"),
        (BEACH_FILE, {"background_id": "0" * 32}, "background_id or background_file, not both"),
        (BEACH_FILE, {"size": "12x12"}, "at least 64 pixels"),
        (BEACH_FILE, {"crop": "16/9"}, "WIDTH:HEIGHT"),
        (BEACH_FILE, {"fps": "0"}, "fps"),
        (BEACH_FILE, {"format": "gif"}, "format"),
        ({}, {"background": "transparent"}, "format webm or mov"),
        ({}, {"background_loop": "hold"}, "needs background_file"),
        ({}, {"matte": "person"}, "needs background, background_file or background_id"),
    ]
    for files, fields, message in cases:
        refused = problem(http.post("/v1/jobs", files=FILES | files, data=fields), 422, "option_invalid")
        assert message in refused["detail"]
        assert not service.requests and not service.uploads()


def test_result_has_type_of_its_format(http: httpx.Client, service: MemoryService) -> None:
    for name, media_type in (("mp4", "video/mp4"), ("webm", "video/webm"), ("mov", "video/quicktime")):
        job: dict[str, Any] = http.post("/v1/jobs", files=FILES, data={"format": name}).json()
        preview = http.get(f"/v1/jobs/{job['id']}").json()["links"]["preview"]
        assert (preview is not None) == (name == "mp4")
        service.finish(job["id"])
        answer = http.get(f"/v1/jobs/{job['id']}/video", params={"download": "true"})
        assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
        assert answer.headers["content-disposition"].endswith(f'a.{name}"')
        if name != "mp4":
            problem(http.get(f"/v1/jobs/{job['id']}/preview"), 409, "state_conflict")


FILM, BEACH = ("me.mp4", b"film"), ("beach.jpg", b"beach")


def test_avatar_keeps_its_settings_until_they_are_changed(url: str, service: MemoryService) -> None:
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
        avatar = client.avatars.update(avatar.id, background="source", expressiveness=1.4)
        assert (avatar.background, avatar.background_id, avatar.matte) == (None, None, "auto")
        assert not service.uploads()
        avatar = client.avatars.update(avatar.id, motion=0)
        assert client.avatars.get(avatar.id) == avatar and (avatar.expressiveness, avatar.motion) == (1.4, 0)


def test_create_job_with_avatar_overrides_only_fields_set(http: httpx.Client, service: MemoryService) -> None:
    avatar = http.post("/v1/avatars", files={"video": FILM}, data={"expressiveness": "1.4"}).json()
    files = {"audio": ("a.wav", b"RIFF" + bytes(90))}
    for path in ("/v1/jobs", "/v1/videos"):
        for fields in ({}, {"motion": "1"}, {"expressiveness": "1", "background": "source"}):
            assert http.post(path, files=files, data={"avatar_id": avatar["id"], **fields}).is_success
            request = pickle.loads(pickle.dumps(service.requests[-1]))  # as it reaches the Director
            assert request.spec.model_fields_set & AvatarSettings.model_fields.keys() == fields.keys()


def test_invalid_avatar_settings_are_refused(url: str, service: MemoryService) -> None:
    with Lipwright(url) as client:
        avatar = client.avatars.create(video=FILM)
        for fields, message in (
            ({"background": "transparent"}, "transparent"),
            ({"background": "beach"}, "expected a colour"),
            ({"background": "blur", "background_id": "0" * 32}, "not both"),
            ({"matte": "person"}, "matte needs"),
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


def test_avatars_of_another_api_key_are_not_found(service: MemoryService) -> None:
    keys = [FileKeyRing(service.files.root).add(name)[1] for name in ("a", "b")]
    with (
        serving(service) as url,
        httpx.Client(base_url=url, headers={"X-API-Key": keys[1]}, trust_env=False) as http,
        Lipwright(url, keys[0]) as first,
    ):
        avatar, background = first.avatars.create(video=FILM), first.create_background(BEACH)
        first.avatars.add_clip(avatar.id, "wave", "action", BEACH)
        path = f"/v1/avatars/{avatar.id}"
        answers = [
            http.patch(path, files={"background_file": BEACH}),
            http.post(f"{path}/clips", files={"video": FILM}, data={"name": "nod", "kind": "idle"}),
            *(http.get(path + part) for part in ("/clips", "/clips/wave/thumbnail", "/clips/wave/source")),
            *(http.delete(each) for each in (f"{path}/clips/wave", f"/v1/backgrounds/{background.id}")),
        ]
        assert [answer.status_code for answer in answers] == [404] * len(answers)
        assert [clip.name for clip in first.avatars.list_clips(avatar.id)] == ["wave"]
        assert first.avatars.update(avatar.id, background="blur").background == "blur"
        first.delete_background(background.id)
        assert not service.uploads()


def test_avatar_command_sets_settings(url: str, tmp_path: Path) -> None:
    def avatars(*arguments: str) -> str:
        return succeed("avatars", *arguments, "--server", url).output

    film, beach = tmp_path / "me.mp4", tmp_path / "beach.jpg"
    film.write_bytes(b"film")
    beach.write_bytes(b"beach")
    avatar_id = avatars("add", str(film), "--background", "blur").strip()
    assert "blur" in avatars("list")
    shown = json.loads(avatars("update", avatar_id, "--background", str(beach), "--background-loop", "hold", "--json"))
    assert shown["background"] is None and shown["background_id"] and shown["background_loop"] == "hold"
    shown = json.loads(avatars("update", avatar_id, "--expressiveness", "1.4", "--motion", "0", "--json"))
    assert (shown["expressiveness"], shown["motion"], shown["background_loop"]) == (1.4, 0, "hold")
    other = avatars("add", str(film), "--background-id", shown["background_id"], "--motion", "0.5", "--json")
    assert (json.loads(other)["background_id"], json.loads(other)["motion"]) == (shown["background_id"], 0.5)
