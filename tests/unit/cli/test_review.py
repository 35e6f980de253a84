"""`lipwright dub --review`, `jobs turns`, `jobs approve` and `jobs revise` against the API on a real socket."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from jobs.model.edits import Revision, TurnChange, TurnEdit
from jobs.model.record import JobRecord, JobStatus
from jobs.model.spec import JobSpec
from jobs.requests import RequestContext
from tests.unit.api_server import VIDEO_BYTES, MemoryService

SRT = """1
00:00:01,000 --> 00:00:02,000
ANNA: Hallo

2
00:00:03,000 --> 00:00:04,000
BOB: Guten Tag

3
00:00:05,000 --> 00:00:06,000
ANNA: Am Abend
"""


class ReviewService(MemoryService):
    """Speaks the texts of jobs at once, the second one too slowly, and renders what is approved."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.edits: list[TurnEdit] = []
        self.revisions: list[Revision] = []

    async def submit(self, spec: JobSpec, context: RequestContext) -> JobRecord:
        job = await super().submit(spec, context)
        self.table.update_job(job.id, status=JobStatus.RUNNING, stage="speaking", num_cues=3, num_cues_done=3)
        first, second, third = job.plan.turns
        slow = second.model_copy(update={"speed": 1.35, "cut_seconds": 0.44})
        self.table.update_job(job.id, plan=job.plan.with_turns([first, slow, third]))
        return self.review(job.id)

    async def edit_turns(self, job_id: str, edit: TurnEdit, owner: str | None) -> JobRecord:
        self.edits.append(edit)
        return await super().edit_turns(job_id, edit, owner)

    async def approve_job(self, job_id: str, owner: str | None) -> JobRecord:
        job = await super().approve_job(job_id, owner)
        return self.finish(job_id) if job.status is JobStatus.QUEUED else job

    async def revise_job(self, job_id: str, new_id: str, revision: Revision, owner: str | None) -> JobRecord:
        self.revisions.append(revision)
        await super().revise_job(job_id, new_id, revision, owner)
        return self.finish(new_id)


@pytest.fixture
def service(tmp_path: Path) -> ReviewService:
    return ReviewService(tmp_path / "data")


def _run(*command: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(command))
    return done.exit_code, done.output


@pytest.fixture
def draft(tmp_path: Path, url: str) -> tuple[int, str]:
    """The result of `lipwright dub --review`."""
    (tmp_path / "film.mp4").write_bytes(b"film")
    (tmp_path / "out.srt").write_text(SRT)
    paths = [str(tmp_path / "film.mp4"), "--subtitles", str(tmp_path / "out.srt"), "--out", str(tmp_path / "out.mp4")]
    return _run("dub", *paths, "--review", "--server", url)


def _job_id(service: MemoryService) -> str:
    (request,) = service.requests
    return str(request.job_id)


def test_dub_with_review_writes_an_srt_and_no_video(
    tmp_path: Path, service: ReviewService, draft: tuple[int, str]
) -> None:
    code, output = draft
    assert code == 0, output
    assert service.requests[0].spec.review
    assert (tmp_path / "out.review.srt").read_text() == SRT
    assert (tmp_path / "out.srt").read_text() == SRT, "the subtitles are not overwritten"
    assert not (tmp_path / "out.mp4").exists()
    lines = output.splitlines()
    assert "Too long: turn 1 at 00:00:03.000 (1.35 x speed, 0.4 s cut): Guten Tag" in lines
    assert "text 3 of 3" in output
    approve = f"lipwright jobs approve {_job_id(service)} --subtitles {tmp_path / 'out.review.srt'} --out "
    assert approve in lines[-1]


def test_dub_with_review_keeps_an_existing_draft(tmp_path: Path, draft: tuple[int, str], url: str) -> None:
    changed = SRT.replace("Hallo", "Servus")
    (tmp_path / "out.review.srt").write_text(changed)
    code, output = _run(
        *("dub", str(tmp_path / "film.mp4"), "--subtitles", str(tmp_path / "out.srt")),
        *("--out", str(tmp_path / "out.mp4"), "--review", "--server", url),
    )
    assert (code, "out.review.srt exists. Remove it, or choose another --out." in output) == (2, True)
    assert (tmp_path / "out.review.srt").read_text() == changed


def test_jobs_turns_shows_a_table_and_json(
    tmp_path: Path, service: ReviewService, url: str, draft: tuple[int, str]
) -> None:
    code, output = _run("jobs", "turns", _job_id(service), "--server", url, "--srt", str(tmp_path / "again.srt"))
    assert code == 0, output
    rows = [" ".join(line.split()) for line in output.splitlines()]
    assert "1 00:00:03.000 00:00:04.000 BOB 1.35 x speed, 0.4 s cut Guten Tag" in rows
    assert (tmp_path / "again.srt").read_text() == SRT
    code, output = _run("jobs", "turns", _job_id(service), "--server", url, "--json")
    assert [turn["text"] for turn in json.loads(output)["turns"]] == ["Hallo", "Guten Tag", "Am Abend"]


def test_approve_applies_the_changed_file_and_downloads(
    tmp_path: Path, service: ReviewService, url: str, draft: tuple[int, str]
) -> None:
    file = tmp_path / "out.review.srt"
    kept = SRT.replace("Guten Tag", "Tag").replace("05,000 --> 00:00:06", "04,500 --> 00:00:05")
    file.write_text(kept[kept.index("2\n") :] + "\n4\n00:00:07,000 --> 00:00:08,000\nBOB: Tschüss\n")
    where = ("--subtitles", str(file), "--out", str(tmp_path / "out.mp4"), "--server", url)
    code, output = _run("jobs", "approve", _job_id(service), *where)
    assert code == 0, output
    assert (tmp_path / "out.mp4").read_bytes() == VIDEO_BYTES
    assert "changing texts" in output
    turns = service.table.get_job(_job_id(service)).plan.turns
    assert [(turn.start, turn.speaker, turn.text) for turn in turns] == [
        (3.0, "BOB", "Tag"),
        (4.5, "ANNA", "Am Abend"),
        (7.0, "BOB", "Tschüss"),
    ]
    assert len(service.edits) == 4, "unchanged fields and lines are not sent"


def test_approve_twice_renders_once(tmp_path: Path, service: ReviewService, url: str, draft: tuple[int, str]) -> None:
    assert _run("jobs", "approve", _job_id(service), "--no-wait", "--server", url)[0] == 0
    out = tmp_path / "out.mp4"
    code, output = _run("jobs", "approve", _job_id(service), "--out", str(out), "--server", url)
    assert (code, out.read_bytes()) == (0, VIDEO_BYTES), output
    assert not service.edits


def test_approve_of_a_changed_job_is_refused(
    tmp_path: Path, service: ReviewService, url: str, draft: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, edit = _job_id(service), MemoryService.edit_turns

    async def edit_late(self: MemoryService, job_id: str, change: TurnEdit, owner: str | None) -> JobRecord:
        other = TurnEdit(number=2, version=change.version, edit=TurnChange(gain_db=-3))
        await edit(self, job_id, other, owner)  # somebody else is faster
        return await edit(self, job_id, change, owner)

    monkeypatch.setattr(ReviewService, "edit_turns", edit_late)
    (tmp_path / "out.review.srt").write_text(SRT.replace("Hallo", "Servus"))
    where = ("--subtitles", str(tmp_path / "out.review.srt"), "--no-wait", "--server", url)
    code, output = _run("jobs", "approve", job_id, *where)
    assert (code, "has changed in the meantime" in output) == (1, True), output
    job = service.table.get_job(job_id)
    assert (job.status, job.plan.turns[0].text) == (JobStatus.REVIEW, "Hallo")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "pass either --out or --no-wait"),
        (["--no-wait", "--subtitles", "missing.srt"], "--subtitles: missing.srt does not exist"),
        (["--out", "out.webm"], "expected a file name that ends in .mp4"),
    ],
)
def test_approve_with_unusable_options_approves_nothing(
    service: ReviewService,
    url: str,
    draft: tuple[int, str],
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output = _run("jobs", "approve", _job_id(service), *options, "--server", url)
    assert code != 0
    assert message in output
    assert service.table.get_job(_job_id(service)).status is JobStatus.REVIEW


@pytest.fixture
def finished(service: ReviewService, draft: tuple[int, str]) -> str:
    """ID of a finished job."""
    return service.finish(_job_id(service)).id


def test_revise_sends_the_changes_and_saves_the_video(
    tmp_path: Path, service: ReviewService, url: str, finished: str
) -> None:
    file, out = tmp_path / "changed.srt", tmp_path / "new.mp4"
    kept = SRT.replace("Guten Tag", "Tag")
    file.write_text(kept[kept.index("2\n") :] + "\n4\n00:00:07,000 --> 00:00:08,000\nBOB: Tschüss\n")
    options = ("--subtitles", str(file), "--loudness", "-16", "--out", str(out))
    code, output = _run("jobs", "revise", finished, *options, "--server", url)
    assert (code, out.read_bytes()) == (0, VIDEO_BYTES), output
    assert f"revises {finished}" in output
    (revision,) = service.revisions
    assert [(each.number, each.text, each.model_fields_set) for each in revision.turns] == [
        (1, "Tag", {"number", "text"})
    ]
    assert revision.removed_turns == (0,) and revision.settings.loudness_lufs == -16
    assert [(each.text, each.start, each.speaker) for each in revision.added_turns] == [("Tschüss", 7.0, "BOB")]


def test_revise_without_changes_is_refused(tmp_path: Path, service: ReviewService, url: str, finished: str) -> None:
    (tmp_path / "same.srt").write_text(SRT)
    code, output = _run(
        *("jobs", "revise", finished, "--subtitles", str(tmp_path / "same.srt"), "--no-wait", "--server", url)
    )
    assert (code, "nothing changes" in output, service.revisions) == (2, True, [])
