"""Submissions of avatars, and of jobs that animate them: settings, backgrounds and clips that jobs take over."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, Final

import pytest

from lipwright.errors import NotFoundError, OptionError, StageTimeoutError, StateError
from lipwright.jobs.model.avatar_settings import AvatarSettings
from lipwright.jobs.model.base import ErrorRecord, new_id
from lipwright.jobs.model.clip import AvatarClip
from lipwright.jobs.model.face_points import FacePoints
from lipwright.jobs.model.record import JobQuery, JobRecord, JobStatus
from lipwright.jobs.model.turns import Turn
from lipwright.jobs.sources.clips import composite_key
from lipwright.media.probe import VideoInfo
from lipwright.storage.file_keys import job_file_key, source_key
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from lipwright.storage.row_codec import AvatarRecord, AvatarStatus
from models.clips.graph import OWN
from models.face.choice import FaceChoice
from models.track.marked_face import MARKS
from tests.unit.job_records import avatar_record
from tests.unit.jobs.test_run import VIDEO
from tests.unit.jobs.test_submission import Bench
from tests.unit.on_disk import on_disk


@pytest.fixture
def bench(files: FileStore, table: JobTable) -> Bench:
    return Bench(files, table)


async def test_create_job_copies_the_background_of_its_avatar(bench: Bench) -> None:
    avatar = await bench.avatar(background_loop="hold", background_file=b"beach")
    assert avatar.settings.background_loop == "hold"
    job = await bench.job_of(avatar)
    assert (await bench.change(avatar, background="blur", matte="chroma")).version > avatar.version
    await bench.backgrounds.delete(avatar.settings.background_id or "", None)
    job = bench.table.get_job(job.id)
    assert job.options.background_id == avatar.settings.background_id and job.options.background_loop == "hold"
    assert job.plan.background_file is not None and job.plan.background_file.label == "f"
    assert on_disk(bench.files, job_file_key(job.id, "background")).read_bytes() == b"beach"
    blurred = await bench.job_of(avatar)
    assert (blurred.options.background, blurred.options.matte) == ("blur", "chroma")
    assert blurred.plan.background_file is None
    other = await bench.job_of(avatar, background="white")
    assert (other.options.background, other.options.matte) == ("#ffffff", "auto")
    assert not (await bench.job_of(avatar, background="source")).plan.has_background
    with pytest.raises(NotFoundError, match="no background"):
        await bench.job_of(avatar, background_id=avatar.settings.background_id)


async def test_create_with_an_expression_of_a_video_is_refused(bench: Bench) -> None:
    with pytest.raises(OptionError, match="head: a video keeps"):
        await bench.create(face_image=None, head="calm")
    with pytest.raises(OptionError, match="expression: a video keeps"):
        await bench.avatar(expression="sad")
    with pytest.raises(OptionError, match="gaze: a video keeps"):
        await bench.change(await bench.avatar(), gaze="camera")


FACE_POINTS: Final = FacePoints(
    left_eye=(20, 20), right_eye=(44, 20), mouth_left=(24, 44), mouth_right=(40, 44), chin=(32.5, 60)
)


async def test_create_with_face_points_records_them_as_the_face(bench: Bench) -> None:
    with pytest.raises(OptionError, match="face_points: only for still pictures"):
        await bench.create(face_image=None, face_points=FACE_POINTS)
    bench.stages.video = replace(VIDEO, is_still=True, num_frames=1)
    outside = FACE_POINTS.model_copy(update={"chin": (32.0, 64.0)})
    with pytest.raises(OptionError, match="face_points.chin: expected a point in the picture of 64 x 64 pixels"):
        await bench.create(face_image=None, face_points=outside)
    with pytest.raises(OptionError, match="face_points or face_image, not both"):
        await bench.create(face_points=FACE_POINTS)
    with pytest.raises(OptionError, match="face: expected no value together with face_points"):
        await bench.create(face_image=None, face_points=FACE_POINTS, face="1")
    job = await bench.create(face_image=None, face_points=FACE_POINTS)
    assert job.options.face == "points:20,20,44,20,24,44,40,44,32.5,60"
    assert FaceChoice.of_record(job.options.face) == FaceChoice("points", FACE_POINTS.numbers)
    assert tuple(FacePoints.model_fields) == MARKS
    avatar = await bench.avatar(face_points=FACE_POINTS)
    assert avatar.key == job.avatar_key
    turns = (Turn(start=0, end=1, audio="audio"),)
    two = await bench.create(face_image=None, face_points=FACE_POINTS, turns=turns)
    assert two.avatar_key == job.avatar_key


async def test_create_job_copies_avatar_motion_unless_it_is_set(bench: Bench) -> None:
    avatar = await bench.avatar(expressiveness=0.6, motion=0.2, background="blur")
    options = (await bench.job_of(avatar)).options
    assert (options.expressiveness, options.motion, options.background) == (0.6, 0.2, "blur")
    options = (await bench.job_of(avatar, expressiveness=1, background="source")).options
    assert (options.expressiveness, options.motion, options.background) == (1, 0.2, None)
    sea = bench.upload(b"sea")
    job = await bench.job_of(avatar, background_file=sea)
    assert (job.options.expressiveness, job.options.background) == (0.6, None)
    assert job.plan.background_file == sea
    again = (await bench.create(face_image=None)).options
    assert (again.expressiveness, again.background) == (1, None), "it sent the video itself"


async def test_create_avatar_again_keeps_or_replaces_its_background(bench: Bench) -> None:
    first = await bench.avatar(background="blur")
    assert (await bench.avatar()).settings == first.settings
    other = await bench.avatar(background="#00b140")
    assert (other.id, other.settings) == (first.id, AvatarSettings(background="#00b140"))
    with pytest.raises(OptionError, match="transparent"):
        await bench.avatar(background="transparent")
    await asyncio.to_thread(bench.files.stored.remove, source_key(first.key))
    assert (await bench.avatar()).settings == other.settings, "its source was lost"


async def test_create_job_with_background_of_another_key_is_refused(bench: Bench) -> None:
    beach = (await bench.backgrounds.create(bench.upload(b"beach"), "a")).id
    with pytest.raises(NotFoundError, match="no background"):
        await bench.avatar(owner="b", background_id=beach)
    assert bench.table.list_avatars(pinned_only=False) == []
    avatar = await bench.avatar(owner="b")
    with pytest.raises(NotFoundError, match="no avatar"):
        await bench.change(avatar, "a", background_id=beach)
    with pytest.raises(NotFoundError, match="no background"):
        await bench.change(avatar, "b", background_id=beach)
    with pytest.raises(NotFoundError, match="no background"):
        await bench.job_of(avatar, "b", background_id=beach)
    # Without API keys, a caller may use both.
    await bench.change(avatar, background_id=beach)
    assert (await bench.job_of(avatar, "b")).plan.background_file is not None


async def test_create_avatar_after_crash_succeeds(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    put_avatar = bench.table.put_avatar

    def die(avatar: AvatarRecord) -> AvatarRecord:
        monkeypatch.undo()
        put_avatar(avatar)
        raise SystemExit

    monkeypatch.setattr(bench.table, "put_avatar", die)
    form, submissions = bench.avatar_form(face_image=b"picture"), bench.avatar_submissions
    with pytest.raises(SystemExit):
        await submissions.create(form, None)
    avatar = await submissions.create(form, None)
    assert bench.table.list_avatars() == [avatar]
    assert on_disk(bench.files, source_key(avatar.key)).read_bytes() == b"film"


async def test_create_avatar_after_failure_analyses_it_again(bench: Bench) -> None:
    avatar = await bench.avatar()
    error = ErrorRecord.of(StageTimeoutError("too slow"))
    bench.table.update_avatar(avatar.key, status=AvatarStatus.FAILED, error=error)
    again = await bench.avatar()
    assert (again.id, again.status, again.error) == (avatar.id, AvatarStatus.ANALYSING, None)


async def test_create_avatar_with_keep_false_is_not_listed(bench: Bench) -> None:
    await bench.create()
    sent = await bench.avatar(b"another film", keep=False)
    assert bench.table.list_avatars() == []
    assert bench.table.analysing_avatars() == [sent], "a job waits for its own, and nobody for it"
    kept = await bench.avatar(b"another film")
    assert (kept.id, bench.table.list_avatars()) == (sent.id, [kept])
    assert (await bench.avatar(b"another film", keep=False)).pinned, "what was kept once stays kept"


async def _avatar_with_clip(bench: Bench) -> AvatarRecord:
    """An avatar with a clip that is ready, and one whose analysis has failed."""
    avatar = await bench.avatar(b"film of an avatar")
    clips = {}
    for name, status in (("wave", AvatarStatus.READY), ("nod", AvatarStatus.FAILED)):
        row = avatar_record(belongs_to=avatar.key, status=status)
        on_disk(bench.files, source_key(bench.table.put_avatar(row).key)).write_bytes(b"clip")
        clips[name] = AvatarClip(kind="action", key=row.key, created_at=row.created_at)
    return bench.table.update_avatar(avatar.key, clips=clips)


async def test_create_job_on_avatar_with_clips_plays_them(bench: Bench) -> None:
    avatar = await _avatar_with_clip(bench)
    job = await bench.job_of(avatar)
    assert list(job.plan.clips) == [OWN, "wave"]
    assert (job.options.loop, job.avatar_key) == ("natural", composite_key(job.plan.clips))
    composite = bench.table.find_avatar(job.avatar_key)
    assert composite is not None
    assert (composite.parts, composite.belongs_to) == (job.plan.clips, avatar.key)
    assert job.uploaded_avatar_keys == [avatar.key, avatar.clips["wave"].key]
    bench.table.update_job(job.id, status=JobStatus.FAILED)
    bench.table.delete_avatar(job.avatar_key)  # composites are a cache
    again = await bench.submissions.retry_job(bench.table.get_job(job.id), new_id())
    assert again.avatar_key == job.avatar_key and bench.table.find_avatar(job.avatar_key) is not None
    source_info = bench.avatar_submissions.source_info

    async def delete_clip(avatar: AvatarRecord) -> VideoInfo:
        bench.table.delete_avatar(job.plan.clips["wave"].key)  # after the parts of the job are chosen
        return await source_info(avatar)

    bench.avatar_submissions.source_info = delete_clip  # type: ignore[method-assign]
    with pytest.raises(StateError, match="was deleted meanwhile"):
        await bench.job_of(avatar)


async def test_create_job_bound_to_the_video_plays_no_clips(bench: Bench) -> None:
    bench.stages.video = replace(VIDEO, has_audio=True)
    avatar = await _avatar_with_clip(bench)
    bound: list[dict[str, Any]] = [{"loop": "hold"}, {"background_gain_db": -6.0}, {"turns": [Turn(start=0, face="0")]}]
    for options in bound:
        job = await bench.job_of(avatar, **options)
        assert (job.avatar_key, job.plan.clips) == (avatar.key, {})


async def test_create_job_with_turns_of_one_face_plays_clips(bench: Bench) -> None:
    avatar = await _avatar_with_clip(bench)
    turns = (Turn(start=5, text="Hi [wave] you"), Turn(start=9, text="No.", face="offscreen", action="wave"))
    job = await bench.job_of(avatar, audio=None, turns=turns)
    first, second = job.plan.turns
    assert (job.options.loop, job.options.idle_mouths, first.end) == ("natural", "closed", None)
    assert (first.text, first.actions, first.marked_text) == ("Hi you", ((3, "wave"),), "Hi [wave] you")
    assert second.action == "wave"
    assert job.result_seconds > 9, "as long as the turns, not as the video"


ACTED = (
    b"1\n00:00:00,500 --> 00:00:01,000\nANNA: Hi [wave] you [applause]\n\n"
    b"2\n00:00:00,900 --> 00:00:01,200\n[laughs] No.\n\n"
    b"3\n00:00:01,300 --> 00:00:01,400\n[wave] ...\n\n"
    b"4\n00:00:01,500 --> 00:00:01,900\nBOB: [door slams] Bye!\n"
)


async def test_create_job_with_subtitles_on_clips_reads_actions(bench: Bench) -> None:
    avatar = await _avatar_with_clip(bench)

    async def create(**speakers: dict[str, str]) -> JobRecord:
        return await bench.job_of(avatar, audio=None, subtitles=ACTED, speakers=speakers)

    job = await create(Bob={"face": "offscreen"})
    assert (job.avatar_key, job.options.loop) == (composite_key(job.plan.clips), "natural")
    turns = [(turn.face, turn.text, turn.end) for turn in job.plan.turns]
    assert turns == [(None, "Hi you", 0.9), (None, "No.", 1.2), ("offscreen", "Bye!", 1.9)]
    assert job.plan.turns[0].actions == ((3, "wave"),) and not job.plan.turns[2].actions
    assert [(action.seconds, action.name) for action in job.plan.cue_actions] == [(1.3, "wave")]
    dub = await create(Anna={"face": "0"})
    assert dub.plan.clips == {} and [turn.text for turn in dub.plan.turns] == ["Hi you", "No.", "Bye!"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": "Hi [wawe] you"}, "no action 'wawe'. Actions of this avatar: wave"),
        ({"text": "Hi", "action": "bow"}, "no action 'bow'"),
        ({"turns": (Turn(start=0, text="Hi"), Turn(start=1, text="[bow] Hi"))}, r"turns\[1\].action: .* 'bow'"),
        ({"turns": (Turn(start=0, text="[wave] Hi", face="person:1"),)}, r"turns\[0\].action: actions need"),
        ({"text": "Hi [wave] you", "loop": "hold"}, "actions need an avatar with clips"),
    ],
)
async def test_create_job_with_impossible_action_is_refused(bench: Bench, fields: dict[str, Any], message: str) -> None:
    avatar = await _avatar_with_clip(bench)
    with pytest.raises(OptionError, match=message):
        await bench.job_of(avatar, audio=None, **fields)
    assert bench.table.list_jobs(JobQuery(limit=9)).jobs == []
