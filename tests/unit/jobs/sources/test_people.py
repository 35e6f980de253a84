"""People of sources over stages in memory: searched once for each source, and resolved to what the tracker follows."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lipwright.config import JobConfig, PipelineConfig
from lipwright.errors import FaceNotFoundError, MediaError
from lipwright.jobs.messages import PreparedSpeech, SourceVideo, encode_source_info
from lipwright.jobs.single_flight import ignore_progress
from lipwright.jobs.sources.avatars import Avatars
from lipwright.jobs.sources.people import People
from lipwright.media.probe import AudioInfo
from lipwright.storage.file_keys import (
    PEOPLE_IDENTITIES,
    PEOPLE_PART,
    PEOPLE_REPORT,
    avatar_folder,
    person_picture,
    source_key,
)
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from lipwright.storage.row_codec import AvatarRecord
from lipwright.telemetry.log_context import CallContext
from models.avatar.folder import write_whole
from models.engines.protocol import FrameSpan
from models.face.choice import FaceChoice
from models.people.report import PeopleReport, SeenPerson, SpeakerTurn, TimeRange
from models.people.scan import ScanState
from models.speech.level import SpeechLevel
from models.track.tracker import TrackState
from tests.unit.job_records import avatar_record
from tests.unit.jobs.no_stages import NoStages
from tests.unit.jobs.sources.test_avatars import VIDEO
from tests.unit.on_disk import on_disk
from tests.waiting import until

APPEARANCES = [np.eye(240, dtype=np.float16)[[0, 1]], np.eye(240, dtype=np.float16)[[2]]]
PLACES = [np.array([0, 10, 10, 30, 30]), np.array([5, 40, 10, 60, 30])]
TURNS = (
    SpeakerTurn(start=0, end=1, person=0, confidence=0.9),
    SpeakerTurn(start=1, end=3, person=1, confidence=0.9),
    SpeakerTurn(start=3, end=4, person=None, confidence=0.9),
)


class Scanning(NoStages):
    """Finds two people in any source, and counts."""

    def __init__(self, files: FileStore) -> None:
        self.files = files
        self.counts: Counter[str] = Counter()
        self.turns: tuple[SpeakerTurn, ...] = TURNS
        self.fault: Exception | None = None
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.is_waiting = asyncio.Event()
        self.choice: FaceChoice | None = None

    async def track(self, context: CallContext, source: SourceVideo, choice: FaceChoice, *_: Any) -> TrackState:
        self.choice = choice
        raise FaceNotFoundError("not there")

    async def scan_people(self, context: Any, source: Any, start: int, stop: int, state: Any, out: str) -> ScanState:
        assert (self.files.root / out).parent.is_dir()
        self.counts["frames"] += stop - start
        if start:
            self.is_waiting.set()
            await self.may_go_on.wait()
        if self.fault is not None:
            raise self.fault
        return ScanState()

    async def prepare_speech(self, context: CallContext, parts: Any, speech: str, *_: Any) -> PreparedSpeech:
        return PreparedSpeech(speech, AudioInfo(16000, 1, 4.0, "aac"), SpeechLevel(64000, 1.0, -20.0))

    async def predict_source_mouth(self, context: CallContext, speech: Any, span: FrameSpan, out: str) -> None:
        self.counts["rows"] += span.num

    async def find_people(self, context: Any, folder: str, source: SourceVideo, scans: Any, mouths: Any) -> None:
        self.counts["searches"] += 1
        assert len(scans) > 1 and bool(mouths) == source.info.has_audio
        seen = {"seen": (TimeRange(start=0, end=4),), "face_pixels": 80, "frontal_share": 1}
        people = tuple(SeenPerson.model_validate({"number": number, **seen}) for number in range(2))
        report = PeopleReport(people=people, turns=self.turns)
        with self.files.stored.written_folder(folder, PEOPLE_PART, PEOPLE_REPORT) as made:
            with (made / PEOPLE_PART / PEOPLE_IDENTITIES).open("wb") as file:
                arrays: dict[str, Any] = {f"appearances-{number}": each for number, each in enumerate(APPEARANCES)}
                arrays |= {f"first_seen-{number}": each for number, each in enumerate(PLACES)}
                np.savez(file, **arrays)
            for number in range(2):
                (made / PEOPLE_PART / person_picture(number)).write_bytes(b"face %d" % number)
            write_whole(made / PEOPLE_PART / PEOPLE_REPORT, report.model_dump(mode="json"))


class Bench:
    def __init__(self, files: FileStore, table: JobTable) -> None:
        self.files, self.table, self.stages = files, table, Scanning(files)
        self.people = People(PipelineConfig(jobs=JobConfig(max_attempts=2)), self.stages, self.table, self.files)
        self.info = VIDEO

    def avatar(self, face: str = "largest", owner: str | None = None, **fields: Any) -> AvatarRecord:
        """Store another avatar of the same source."""
        sha256 = hashlib.sha256(b"film").hexdigest()
        record = avatar_record(source_sha256=sha256, face=face, owner=owner, **fields)
        on_disk(self.files, source_key(record.key)).write_bytes(b"film")
        return self.table.put_avatar(record)

    def source(self, record: AvatarRecord) -> SourceVideo:
        return SourceVideo(source_key(record.key), self.info)

    async def choice(self, record: AvatarRecord, face: str) -> FaceChoice:
        return await self.people.choice(record, self.source(record), FaceChoice.parse(face))


@pytest.fixture
def bench(files: FileStore, table: JobTable, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(
        "lipwright.jobs.sources.people._POLL_S", 60
    )  # a search that may end does so before the poll returns
    return Bench(files, table)


async def _report(bench: Bench, record: AvatarRecord) -> PeopleReport:
    while (report := (await bench.people.poll(record, bench.source(record))).report) is None:
        pass
    return report


async def test_one_search_serves_all_avatars_of_a_source(bench: Bench) -> None:
    first, second = bench.avatar(), bench.avatar("person:1")
    reports = await asyncio.gather(*(_report(bench, each) for each in (first, second, first)))
    assert reports[0] == reports[1] == reports[2]
    later = bench.avatar("person:0")
    assert await _report(bench, later) == reports[0]
    picture = on_disk(bench.files, avatar_folder(later.key)) / PEOPLE_PART / person_picture(1)
    assert picture.read_bytes() == b"face 1"
    assert not (on_disk(bench.files, avatar_folder(first.key)) / "scan").exists()
    assert bench.stages.counts == {"frames": 100, "rows": 200, "searches": 1}
    bench.info = replace(VIDEO, has_audio=False)
    await _report(bench, bench.avatar(owner="ben"))
    assert bench.stages.counts == {"frames": 200, "rows": 200, "searches": 2}, "of another key, and silent"


async def test_people_become_their_appearance(bench: Bench) -> None:
    record = bench.avatar()
    first, second = await bench.choice(record, "person:0"), await bench.choice(record, "person:1")
    assert first == FaceChoice.like(APPEARANCES[0], APPEARANCES[1], PLACES[0])
    assert second == FaceChoice.like(APPEARANCES[1], APPEARANCES[0], PLACES[1])
    assert await bench.choice(record, "speaking") == second, "who speaks longest"
    assert await bench.choice(record, "index:1") == FaceChoice.parse("index:1")
    with pytest.raises(FaceNotFoundError, match=r"expected person:0 to person:1 \(2 people .*\), found 'person:2'"):
        await bench.choice(record, "person:2")
    bench.stages.turns = TURNS[2:]
    assert await bench.choice(bench.avatar(owner="ben"), "speaking") == FaceChoice(), "nobody is seen to speak"


PERSON_OF = {
    **{"person:1": 1, "speaking": 1, "largest": 0, "0": 0, "point:20,20": 0, "box:12,12,30,30": 0},
    "1": None,  # the other person is seen later
    "point:50,20": None,
}


async def test_resolve_of_a_searched_source_finds_the_person(bench: Bench) -> None:
    record = bench.avatar()

    async def resolve(face: str, sha256: str = record.source_sha256) -> int | None:
        return await bench.people.resolve(sha256, None, FaceChoice.parse(face))

    assert {await resolve(face) for face in PERSON_OF} == {None}, "nobody has searched it"
    await _report(bench, record)
    assert {face: await resolve(face) for face in PERSON_OF} == PERSON_OF
    assert await resolve("largest", "0" * 64) is None
    with pytest.raises(FaceNotFoundError, match="found 'person:2'"):
        await resolve("person:2")


async def test_a_poll_does_not_wait_for_the_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lipwright.jobs.sources.people._POLL_S", 0.05)
    record = bench.avatar()
    bench.stages.may_go_on.clear()
    while (before := await bench.people.poll(record, bench.source(record))).progress == 0:
        pass
    assert before.report is None and 0 < before.progress < 1
    assert bench.people.is_searching(record)
    bench.stages.may_go_on.set()
    assert len((await _report(bench, record)).people) == 2
    assert not bench.people.is_searching(record)
    monkeypatch.setattr("lipwright.jobs.sources.people._POLL_S", 60)
    assert (await bench.people.poll(record, bench.source(record))).progress == 1, "known"


@pytest.mark.parametrize("is_polled", [False, True])
async def test_search_ends_with_the_last_waiter_unless_polled(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, is_polled: bool
) -> None:
    monkeypatch.setattr("lipwright.jobs.sources.people._POLL_S", 0.01)
    record, other = bench.avatar(), bench.avatar("person:1")
    bench.stages.may_go_on.clear()
    jobs = [asyncio.create_task(bench.choice(each, "person:1")) for each in (record, other)]
    if is_polled:
        await bench.people.poll(record, bench.source(record))
    await bench.stages.is_waiting.wait()
    num_before = bench.stages.counts["frames"]
    for job in jobs:
        assert bench.people.is_searching(record)
        job.cancel()
        await asyncio.wait([job])
    assert bench.people.is_searching(record) is is_polled
    bench.stages.may_go_on.set()
    assert len((await _report(bench, record)).people) == 2
    assert bench.stages.counts["frames"] == 100 + (0 if is_polled else num_before)


async def test_failed_search_is_reported_once_and_started_again(bench: Bench) -> None:
    record = bench.avatar()
    bench.stages.fault = MediaError("cannot be decoded")
    with pytest.raises(MediaError):
        await bench.people.poll(record, bench.source(record))
    bench.stages.fault = None
    assert (await _report(bench, record)).people


@pytest.mark.parametrize("fault", [None, MediaError("cannot be decoded")])
async def test_search_without_another_poll_is_forgotten(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, fault: Exception | None
) -> None:
    monkeypatch.setattr("lipwright.jobs.sources.people._POLL_S", 0)
    monkeypatch.setattr("lipwright.jobs.sources.people._KEPT_S", 0)
    bench.stages.fault = fault
    record = bench.avatar()
    assert (await bench.people.poll(record, bench.source(record))).report is None
    await until(lambda: not bench.people._polls and not bench.people.is_searching(record))
    bench.stages.fault = None
    assert (await _report(bench, record)).people


async def test_the_avatar_of_a_person_follows_their_appearance(bench: Bench) -> None:
    avatars = Avatars(PipelineConfig(), bench.stages, bench.table, bench.files)
    record = bench.avatar("person:1", source_info=encode_source_info(VIDEO))
    with pytest.raises(FaceNotFoundError, match="not there"):
        await avatars.ensure(record.key, "warp", ignore_progress)
    report = (await avatars.poll_people(record)).report
    assert report is not None and len(report.people) == 2
    assert bench.stages.choice == FaceChoice.like(APPEARANCES[1], APPEARANCES[0], PLACES[1])
    assert bench.stages.counts["searches"] == 1
