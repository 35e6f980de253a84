"""`lipwright dub`, `jobs turns`, `jobs approve` and `jobs revise` against the API on a real socket."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lipwright.errors import OptionError
from lipwright.jobs.model.edits import Revision, TurnChange, TurnEdit
from lipwright.jobs.model.record import JobRecord, JobStatus
from lipwright.jobs.model.spec import JobSpec
from lipwright.jobs.requests import RequestContext
from tests.unit.api_server import VIDEO_BYTES, MemoryService
from tests.unit.cli.commands import run, succeed
from tests.unit.quality_report import example_report

SRT = "\n".join(
    f"{number}\n00:00:0{start},000 --> 00:00:0{start + 1},000\n{text}\n"
    for number, start, text in ((1, 1, "ANNA: Hallo"), (2, 3, "BOB: Guten Tag"), (3, 5, "ANNA: Am Abend"))
)


class ReviewService(MemoryService):
    """Renders jobs at once; speaks those to be reviewed, the second text too slowly, and renders what is approved."""

    async def submit(self, spec: JobSpec, context: RequestContext) -> JobRecord:
        job = await super().submit(spec, context)
        if not spec.review:
            return self.finish(job.id)
        self.table.update_job(job.id, status=JobStatus.RUNNING, stage="speaking", num_cues=3, num_cues_done=3)
        first, second, third = job.plan.turns
        slow = second.model_copy(update={"speed": 1.35, "cut_seconds": 0.44})
        self.table.update_job(job.id, plan=job.plan.with_turns([first, slow, third]))
        return self.review(job.id)

    async def approve_job(self, job_id: str, owner: str | None) -> JobRecord:
        job = await super().approve_job(job_id, owner)
        return self.finish(job_id) if job.status is JobStatus.QUEUED else job

    async def revise_job(self, job_id: str, new_id: str, revision: Revision, owner: str | None) -> JobRecord:
        await super().revise_job(job_id, new_id, revision, owner)
        return self.finish(new_id)


@pytest.fixture
def service(tmp_path: Path) -> ReviewService:
    return ReviewService(tmp_path / "data")


@pytest.fixture
def dub(tmp_path: Path, url: str) -> list[str]:
    """The command `lipwright dub --review`."""
    (tmp_path / "film.mp4").write_bytes(b"film")
    (tmp_path / "out.srt").write_text(SRT)
    paths = [str(tmp_path / "film.mp4"), "--subtitles", str(tmp_path / "out.srt"), "--out", str(tmp_path / "out.mp4")]
    return ["dub", *paths, "--review", "--server", url]


@pytest.fixture
def draft(dub: list[str]) -> str:
    """What that command prints."""
    return succeed(*dub).output


def _job_id(service: MemoryService) -> str:
    (request,) = service.requests
    return str(request.job_id)


def test_dub_review_writes_an_srt(tmp_path: Path, service: ReviewService, dub: list[str], draft: str) -> None:
    assert service.requests[0].spec.review
    assert (tmp_path / "out.review.srt").read_text() == SRT
    assert (tmp_path / "out.srt").read_text() == SRT, "the subtitles are not overwritten"
    assert not (tmp_path / "out.mp4").exists()
    lines = draft.splitlines()
    assert "Too long: turn 1 at 00:00:03.000 (1.35 x speed, 0.4 s cut): Guten Tag" in lines
    assert "text 3 of 3" in draft
    approve = f"lipwright jobs approve {_job_id(service)} --subtitles {tmp_path / 'out.review.srt'} --out "
    assert approve in lines[-1]
    changed = SRT.replace("Hallo", "Servus")
    (tmp_path / "out.review.srt").write_text(changed)
    again = run(*dub)
    assert (again.exit_code, "out.review.srt exists. Remove it, or choose another --out." in again.output) == (2, True)
    assert (tmp_path / "out.review.srt").read_text() == changed


def test_jobs_turns_shows_a_table_and_json(tmp_path: Path, service: ReviewService, url: str, draft: str) -> None:
    command = ("jobs", "turns", _job_id(service), "--server", url)
    output = succeed(*command, "--srt", str(tmp_path / "again.srt")).output
    rows = [" ".join(line.split()) for line in output.splitlines()]
    assert "1 00:00:03.000 00:00:04.000 BOB 1.35 x speed, 0.4 s cut Guten Tag" in rows
    assert (tmp_path / "again.srt").read_text() == SRT
    turns = json.loads(succeed(*command, "--json").output)["turns"]
    assert [turn["text"] for turn in turns] == ["Hallo", "Guten Tag", "Am Abend"]


def test_approve_applies_changes_and_downloads(tmp_path: Path, service: ReviewService, url: str, draft: str) -> None:
    file = tmp_path / "out.review.srt"
    kept = SRT.replace("Guten Tag", "Tag").replace("05,000 --> 00:00:06", "04,500 --> 00:00:05")
    file.write_text(kept[kept.index("2\n") :] + "\n4\n00:00:07,000 --> 00:00:08,000\nBOB: Tschüss\n")
    where = ("--subtitles", str(file), "--out", str(tmp_path / "out.mp4"), "--server", url)
    assert "changing texts" in succeed("jobs", "approve", _job_id(service), *where).output
    assert (tmp_path / "out.mp4").read_bytes() == VIDEO_BYTES
    turns = service.table.get_job(_job_id(service)).plan.turns
    assert [(turn.start, turn.speaker, turn.text) for turn in turns] == [
        (3.0, "BOB", "Tag"),
        (4.5, "ANNA", "Am Abend"),
        (7.0, "BOB", "Tschüss"),
    ]
    assert len(service.edits) == 4, "unchanged fields and lines are not sent"


def test_approve_twice_renders_once(tmp_path: Path, service: ReviewService, url: str, draft: str) -> None:
    out, approve = tmp_path / "out.mp4", ("jobs", "approve", _job_id(service), "--server", url)
    succeed(*approve, "--no-wait")
    succeed(*approve, "--out", str(out))
    assert out.read_bytes() == VIDEO_BYTES and not service.edits


def test_approve_of_a_changed_job_is_refused(
    tmp_path: Path, service: ReviewService, url: str, draft: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, edit = _job_id(service), service.edit_turns

    async def edit_late(job_id: str, change: TurnEdit, owner: str | None) -> JobRecord:
        other = TurnEdit(number=2, version=change.version, edit=TurnChange(gain_db=-3))
        await edit(job_id, other, owner)  # somebody else is faster
        return await edit(job_id, change, owner)

    monkeypatch.setattr(service, "edit_turns", edit_late)
    (tmp_path / "out.review.srt").write_text(SRT.replace("Hallo", "Servus"))
    where = ("--subtitles", str(tmp_path / "out.review.srt"), "--no-wait", "--server", url)
    refused = run("jobs", "approve", job_id, *where)
    assert (refused.exit_code, "has changed in the meantime" in refused.output) == (1, True), refused.output
    job = service.table.get_job(job_id)
    assert (job.status, job.plan.turns[0].text) == (JobStatus.REVIEW, "Hallo")


def test_approve_with_unusable_options_approves_nothing(
    service: ReviewService, url: str, draft: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases: list[tuple[list[str], str]] = [
        ([], "pass either --out or --no-wait"),
        (["--no-wait", "--subtitles", "missing.srt"], "--subtitles: missing.srt does not exist"),
        (["--out", "out.webm"], "expected a file name that ends in .mp4"),
    ]
    for options, message in cases:
        monkeypatch.chdir(tmp_path)
        refused = run("jobs", "approve", _job_id(service), *options, "--server", url)
        assert refused.exit_code != 0 and message in refused.output
        assert service.table.get_job(_job_id(service)).status is JobStatus.REVIEW


def test_revise_sends_changes_and_saves_video(tmp_path: Path, service: ReviewService, url: str, draft: str) -> None:
    finished = service.finish(_job_id(service)).id
    file, out = tmp_path / "changed.srt", tmp_path / "new.mp4"
    file.write_text(SRT)
    revise = ("jobs", "revise", finished, "--subtitles", str(file), "--server", url)
    refused = run(*revise, "--no-wait")
    assert (refused.exit_code, "nothing changes" in refused.output, service.revisions) == (2, True, [])
    kept = SRT.replace("Guten Tag", "Tag")
    file.write_text(kept[kept.index("2\n") :] + "\n4\n00:00:07,000 --> 00:00:08,000\nBOB: Tschüss\n")
    assert f"revises {finished}" in succeed(*revise, "--loudness", "-16", "--out", str(out)).output
    assert out.read_bytes() == VIDEO_BYTES
    (revision,) = service.revisions
    assert [(each.number, each.text, each.model_fields_set) for each in revision.turns] == [
        (1, "Tag", {"number", "text"})
    ]
    assert revision.removed_turns == (0,) and revision.settings.loudness_lufs == -16
    assert [(each.text, each.start, each.speaker) for each in revision.added_turns] == [("Tschüss", 7.0, "BOB")]


VTT = "WEBVTT\n\n" + "".join(
    f"00:0{start}.000 --> 00:0{start + 1}.000\n<v {name}>{text}\n\n"
    for start, name, text in ((1, "Anna", "Hallo"), (3, "Bob", "Guten Tag"), (5, "Erzähler", "Am Abend"))
)


def _dub(folder: Path, *options: str) -> list[str]:
    """The command `lipwright dub`."""
    (folder / "film.mp4").write_bytes(b"film")
    (folder / "de.vtt").write_text(VTT, encoding="utf-8")
    files = [str(folder / "film.mp4"), "--subtitles", str(folder / "de.vtt"), "--out", str(folder / "out.mp4")]
    return ["dub", *files, *options]


def test_dub_gives_each_speaker_a_face_and_a_voice(tmp_path: Path, service: ReviewService, url: str) -> None:
    report = example_report()
    report["output"]["cut_texts"] = [{"start_seconds": 3.0, "cut_seconds": 0.44, "text": "Guten Tag"}]
    service.report = report
    options = ("--face", "erzähler=offscreen", "--voice", "Anna=nova", "--voice", "echo", "--show", "track")
    output = succeed(*_dub(tmp_path, *options, "--server", url)).output
    assert (tmp_path / "out.mp4").read_bytes() == VIDEO_BYTES
    assert "Cut by 0.4 s at 3.0 s: Guten Tag" in output
    assert "Voices: Anna: nova; Bob: echo; Erzähler: echo" in output
    (request,) = service.requests
    assert [(turn.face, turn.voice, turn.text) for turn in request.options.turns or ()] == [
        (None, "nova", "Hallo"),
        (None, "echo", "Guten Tag"),
        ("offscreen", "echo", "Am Abend"),
    ]
    assert (request.options.subtitles, request.options.background_gain_db) == ("track", -12)
    sent = request.spec
    assert {"background", "expressiveness", "motion"} <= sent.model_fields_set, "the film may be a saved avatar"
    assert (sent.background, sent.expressiveness, sent.motion) == ("source", 1, 1)


def test_dub_of_video_without_sound_keeps_no_ambience(tmp_path: Path, service: ReviewService, url: str) -> None:
    service.refusals.append(OptionError("background_gain_db: the video has no sound."))
    done = succeed(*_dub(tmp_path, "--server", url))
    assert "The video has no sound to keep under the speech." in done.output
    assert service.requests[0].options.background_gain_db is None


def test_dub_options_of_job_are_sent(tmp_path: Path, service: ReviewService, url: str) -> None:
    (tmp_path / "music.mp3").write_bytes(b"music")
    options = ("--background", "blur", "--motion", "0.5", "--quality", "best", "--music", str(tmp_path / "music.mp3"))
    succeed(*_dub(tmp_path, *options, "--no-ambience", "--closed-mouths", "--server", url))
    sent = service.requests[0].spec
    assert (sent.background, sent.expressiveness, sent.motion, sent.quality) == ("blur", 1, 0.5, "best")
    assert (sent.background_gain_db, sent.idle_mouths) == (None, "closed")
    assert sent.music is not None and sent.music.label == "music.mp3"


def test_dub_language_asks_for_a_translation(tmp_path: Path, service: ReviewService, url: str) -> None:
    film, out = tmp_path / "film.mp4", tmp_path / "out.mp4"
    film.write_bytes(b"film")
    succeed("dub", str(film), "--language", "German", "--out", str(out), "--server", url)
    spec = service.requests[0].spec
    assert (spec.translate_to, spec.language, spec.subtitles) == ("deu", "deu", None)
    refused = run("dub", str(film), "--out", str(tmp_path / "other.mp4"), "--server", url)
    assert refused.exit_code != 0 and "pass --subtitles, --language or both" in refused.output


def test_dub_language_of_subtitles_chooses_voices(tmp_path: Path, service: ReviewService, url: str) -> None:
    succeed(*_dub(tmp_path, "--language", "German", "--server", url))
    spec = service.requests[0].spec
    assert (spec.translate_to, spec.language) == (None, "deu") and spec.subtitles is not None


def test_dub_unusable_option_is_explained(tmp_path: Path, service: ReviewService, url: str) -> None:
    cases: list[tuple[list[str], str]] = [
        (["--face", "Anna"], "--face: expected NAME=FACE, found 'Anna'"),
        (["--voice", "=nova"], "--voice: expected VOICE or NAME=VOICE"),
        (["--subtitles", "missing.srt"], "missing.srt does not exist"),
        (["--face", "Eve=person:1"], "--face, --voice: the subtitle file has no speaker 'Eve'. Its"),
    ]
    for options, message in cases:
        refused = run(*_dub(tmp_path, *options, "--server", url))
        assert refused.exit_code != 0 and message in refused.output
        assert not service.requests
