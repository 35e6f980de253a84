"""The people of an avatar over real sockets: through HTTP, the client and the command line."""

from __future__ import annotations

import json

import httpx
import pytest
from typer.testing import CliRunner

from cli.main import app
from jobs.messages import PeopleScan
from lipwright_client import Lipwright, WaitTimeoutError
from models.people.report import PeopleReport, SeenPerson, SpeakerTurn, TimeRange
from storage.file_keys import PEOPLE_PART, avatar_folder, person_picture_key
from tests.unit.api_server import MemoryService

REPORT = PeopleReport(
    people=(
        SeenPerson(number=0, seen=(TimeRange(start=0, end=4),), face_pixels=120.5, frontal_share=1),
        SeenPerson(
            number=1, seen=(TimeRange(start=0, end=1), TimeRange(start=3, end=4)), face_pixels=80, frontal_share=0.5
        ),
    ),
    turns=(
        SpeakerTurn(start=0, end=2.5, person=1, confidence=0.97),
        SpeakerTurn(start=3, end=4, person=None, confidence=0.8),
    ),
    audio_offset_ms=-40,
)


@pytest.fixture
def service(service: MemoryService) -> MemoryService:
    service.scans = [PeopleScan(0.25, None), PeopleScan(1, REPORT)]
    return service


@pytest.fixture
def avatar_id(url: str) -> str:
    return Lipwright(url).avatars.create(video=b"film").id


def test_the_search_goes_on_between_two_requests(url: str, avatar_id: str) -> None:
    first = httpx.get(f"{url}/v1/avatars/{avatar_id}/people")
    assert (first.status_code, first.headers["retry-after"]) == (202, "1")
    assert first.json() == {
        "status": "searching",
        "progress": 0.25,
        "people": [],
        "turns": [],
        "audio_offset_ms": None,
    }
    second = httpx.get(f"{url}/v1/avatars/{avatar_id}/people")
    assert second.status_code == 200 and "retry-after" not in second.headers
    found = second.json()
    assert [person["speaking_seconds"] for person in found["people"]] == [0, 2.5]
    assert found["people"][1]["seen"] == [{"start": 0, "end": 1}, {"start": 3, "end": 4}]
    assert found["people"][1]["thumbnail"] == f"/v1/avatars/{avatar_id}/people/1/thumbnail"
    assert found["turns"][0] == {"start": 0, "end": 2.5, "person": 1, "confidence": 0.97}
    assert httpx.get(f"{url}/v1/avatars/nobody/people").status_code == 404


def test_thumbnails_are_those_of_the_search(service: MemoryService, url: str, avatar_id: str) -> None:
    key = service.table.get_avatar(avatar_id).key
    service.files.stored.make_folder(f"{avatar_folder(key)}/{PEOPLE_PART}")
    service.files.stored.put(person_picture_key(key, 1), b"\xff\xd8 a face")
    path = f"{url}/v1/avatars/{avatar_id}/people"
    answer = httpx.get(f"{path}/1/thumbnail")
    assert (answer.content, answer.headers["content-type"]) == (b"\xff\xd8 a face", "image/jpeg")
    again = httpx.get(f"{path}/1/thumbnail", headers={"if-none-match": answer.headers["etag"]})
    assert again.status_code == 304
    assert httpx.get(f"{path}/2/thumbnail").status_code == 404
    assert httpx.get(f"{path}/-1/thumbnail").status_code in (404, 422)


def test_the_client_waits_for_the_people(url: str, avatar_id: str) -> None:
    found = Lipwright(url).avatars.people(avatar_id)
    assert [(person.number, person.speaking_seconds) for person in found.people] == [(0, 0), (1, 2.5)]
    assert found.people[1].seen[1].start == 3 and found.turns[1].person is None


def test_the_client_does_not_wait_for_ever(service: MemoryService, url: str, avatar_id: str) -> None:
    service.scans = [PeopleScan(0.5, None)]
    with pytest.raises(WaitTimeoutError, match="were not found within"):
        Lipwright(url).avatars.people(avatar_id, timeout_s=0.3)


def test_the_command_lists_people_and_turns(url: str, avatar_id: str) -> None:
    def run(*options: str) -> str:
        done = CliRunner().invoke(app, ["avatars", "people", avatar_id, "--server", url, *options])
        assert done.exit_code == 0, done.output
        return done.output

    lines = run().splitlines()
    assert "person:1  0.0-1.0, 3.0-4.0" in lines[2] and "50%" in lines[2]
    turns = run("--turns").splitlines()
    assert "person:1" in turns[1] and "nobody seen" in turns[2]
    assert json.loads(run("--json"))["people"][0]["face_pixels"] == 120.5
