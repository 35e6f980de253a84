"""The routes of clips on a real server, and what the client and the command line make of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from cli.main import app
from errors import FaceNotFoundError
from lipwright_client import Lipwright, NotFoundError, StateError
from storage.file_keys import avatar_picture_key
from storage.local.api_keys import FileKeyRing
from storage.protocols import Row
from tests.unit.api_server import MemoryService, api_client
from tests.unit.on_disk import on_disk


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
    assert [(clip["name"], clip["kind"], clip["status"]) for clip in listed] == [
        ("wave", "action", "ready"),
        ("nod", "idle", "failed"),
    ]
    assert (listed[0]["label"], listed[1]["error"]["code"]) == ("wave.mp4", "face_not_found")
    assert http.get(avatar).json()["clips"] == http.get("/v1/avatars").json()["avatars"][0]["clips"] == listed
    own = service.table.list_avatars()[0]
    on_disk(service.files, avatar_picture_key(own.clips["wave"].key)).write_bytes(b"jpeg")
    assert http.get(listed[0]["thumbnail"]).content == b"jpeg"
    assert http.get(f"{avatar}/clips/wave/source").content == b"wave"
    assert listed[1]["thumbnail"] is None and http.get(f"{avatar}/clips/nod/thumbnail").status_code == 404
    assert [http.delete(f"{avatar}/clips/wave").status_code for _ in range(2)] == [204, 404]
    assert [clip["name"] for clip in http.get(f"{avatar}/clips").json()["clips"]] == ["nod"]
    assert not service.uploads()


def test_list_avatars_reads_all_clips_at_once(
    http: httpx.Client, service: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
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


@pytest.mark.parametrize(("name", "kind"), [("Wave", "action"), ("a" * 33, "idle"), ("a b", "talk"), ("wave", "jump")])
def test_add_clip_with_invalid_name_or_kind_is_refused(
    http: httpx.Client, service: MemoryService, name: str, kind: str
) -> None:
    answer = _add(http, _avatar(http), name, kind)
    assert (answer.status_code, answer.json()["code"]) == (422, "option_invalid")
    assert not service.uploads()


def test_clips_of_another_key_are_unknown(service: MemoryService) -> None:
    keys = [FileKeyRing(service.files.root).add(name)[1] for name in ("a", "b")]
    with api_client(service) as http:
        first, second = ({"Authorization": f"Bearer {key}"} for key in keys)
        avatar = _avatar(http, **first)
        assert _add(http, avatar, **first).status_code == 202
        answers = [
            _add(http, avatar, "nod", **second),
            http.get(f"{avatar}/clips", headers=second),
            http.get(f"{avatar}/clips/wave/thumbnail", headers=second),
            http.get(f"{avatar}/clips/wave/source", headers=second),
            http.delete(f"{avatar}/clips/wave", headers=second),
        ]
        assert [answer.status_code for answer in answers] == [404] * 5
        assert len(http.get(f"{avatar}/clips", headers=first).json()["clips"]) == 1


def test_client_and_command_line_manage_clips(http: httpx.Client, url: str, tmp_path: Path) -> None:
    video = tmp_path / "wave.mp4"
    video.write_bytes(b"wave")
    avatar_id = _avatar(http).rpartition("/")[2]
    arguments = ["avatars", "clips", "add", avatar_id, "wave", str(video), "--kind", "talk", "--server", url]
    assert CliRunner().invoke(app, arguments).stdout == "added wave\n"
    with Lipwright(url) as client:
        assert [(clip.name, clip.kind) for clip in client.avatars.get(avatar_id).clips] == [("wave", "talk")]
        with pytest.raises(StateError):
            client.avatars.add_clip(avatar_id, "wave", "action", video)
        assert client.avatars.list_clips(avatar_id)[0].status == "analysing"
        listed = CliRunner().invoke(app, ["avatars", "clips", "list", avatar_id, "--server", url])
        assert "wave" in listed.stdout and "talk" in listed.stdout
        client.avatars.delete_clip(avatar_id, "wave")
        assert client.avatars.list_clips(avatar_id) == ()
        with pytest.raises(NotFoundError):
            client.avatars.list_clips("0" * 32)
