"""Turns of several speakers: sent, from subtitles or diarizations, with actions; which frames they show."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lipwright.errors import OptionError
from lipwright.jobs.actions import ClipTimes, planned_actions, speech_rows
from lipwright.jobs.drafts import edited
from lipwright.jobs.face_planner import behaviours_of
from lipwright.jobs.messages import PreparedSpeech
from lipwright.jobs.model.base import utc_now
from lipwright.jobs.model.clip import AvatarClip
from lipwright.jobs.model.edits import NewTurn, TurnChange, TurnSplit
from lipwright.jobs.model.plan import JobOptions, PlannedAction
from lipwright.jobs.model.record import JobRecord
from lipwright.jobs.model.spec import JobSpec
from lipwright.jobs.model.turns import MAX_TURNS, PlannedTurn, SpeakerChoice
from lipwright.jobs.planning import speech_title
from lipwright.jobs.speech_messages import TranslatedCue
from lipwright.jobs.turn_sources import turns_of_diarization, turns_of_subtitles, turns_of_transcript, with_faces
from lipwright.jobs.turns import MAX_FACES, checked_turns, cues_of, cut_texts, faces_of, speaker_of_frames, speech_slots
from lipwright.media.dubbing.slots import SpeechSlot
from lipwright.media.playback import Playback
from lipwright.media.probe import AudioInfo
from lipwright.media.subtitles.cues import Cue
from lipwright.storage.file_store import FileStore
from models.engines.protocol import FrameSpan
from models.people.report import PeopleReport, SpeakerTurn
from models.quality.report import TruncatedText
from models.speech.level import SpeechLevel
from tests.unit.clip_graphs import NOD, WAVE, acting_graph, starts_of
from tests.unit.job_records import job_record
from tests.unit.media.clips import info_of

VIDEO_SECONDS = 10.0
AUDIO = {"audio": 6.0, "audio_2": 4.0}
INFO = info_of(64, 64, Fraction(25))


def _options(*turns: PlannedTurn, **options: Any) -> JobOptions:
    return JobOptions(engine="warp", loop="source", turns=turns, **options)


def _checked(*turns: PlannedTurn, video_seconds: float | None = VIDEO_SECONDS) -> tuple[PlannedTurn, ...]:
    return checked_turns(turns, AUDIO, video_seconds)


A = PlannedTurn(start=0, end=2)
B = PlannedTurn(face="index:1", start=1, end=3, audio="audio_2")


def test_turns_come_back_in_order_of_time_with_their_ends() -> None:
    whole, cut = PlannedTurn(face="1", start=2.5, audio="audio_2"), PlannedTurn(start=7, audio_start=1)
    turns = _checked(cut, whole)
    assert [(turn.start, turn.end, turn.cut_seconds) for turn in turns] == [(2.5, 6.5, None), (7, VIDEO_SECONDS, 2)]
    assert [turn.end for turn in _checked(cut, whole, video_seconds=None)] == [6.5, 12]
    assert _checked(A, B) == (A, B), "faces may speak at the same time"


def test_behaviours_of_turns_have_their_expressions() -> None:
    sad, plain = PlannedTurn(start=2, end=4, expression="sad"), PlannedTurn(start=5, end=6, audio="audio_2")
    (turns,) = faces_of(_checked(sad, plain, video_seconds=None))
    options = _options(sad, plain, expression="happy", head="calm")

    def expressions(first: int, num: int) -> list[tuple[float, str, str]]:
        behaviours = behaviours_of(options, turns, FrameSpan(Fraction(25), first, num, 200))
        return [(start, each.expression, each.head) for start, each in behaviours]

    assert expressions(0, 75) == [(0, "happy", "calm"), (2, "sad", "calm")]
    assert expressions(75, 100) == [(2, "sad", "calm"), (5, "happy", "calm")]
    with pytest.raises(OptionError, match=r"turns\[0\].expression: a video keeps"):
        _checked(sad)


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([A, PlannedTurn(start=1.5, end=3, audio="audio_2")], r"turns\[0\] and turns\[1\] are two turns of the face"),
        ([B, PlannedTurn(face="index:1", start=2, end=4)], "'index:1' and overlap: one starts at 1 s and ends at 3 s"),
        ([A, PlannedTurn(start=11, audio="audio_2")], r"turns\[1\].start: the video ends at 10 s, before 11 s"),
        ([A, PlannedTurn(start=9, end=11, audio="audio_2")], r"turns\[1\].end: the video ends at 10 s, before 11 s"),
        ([PlannedTurn(start=3, end=3), B], r"turns\[0\]: expected start < end, found 3 and 3"),
        ([PlannedTurn(start=3, audio="audio_3"), B], r"\[0\].audio: there is no file 'audio_3'. .*: audio, audio_2"),
        ([PlannedTurn(start=3, audio_start=6), B], r"turns\[0\].audio_start: audio ends at 6 s, before 6 s"),
        ([PlannedTurn(face="left", start=3), B], r"turns\[0\].face: Expected a face"),
        ([PlannedTurn(start=1, end=1e9, text="a")], r"turns\[0\]: a text may last at most 600 s"),
        ([A], "no turn uses the file audio_2"),
        ([], f"expected 1 to {MAX_TURNS} turns, found 0"),
        ([A] * (MAX_TURNS + 1), f"found {MAX_TURNS + 1}"),
        ([PlannedTurn(face=f"index:{face}", start=0, end=1) for face in range(MAX_FACES + 1)], "at most 16 faces"),
    ],
)
def test_invalid_turns_are_refused_with_their_place(turns: list[PlannedTurn], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        _checked(*turns)


@pytest.mark.timeout(20)
def test_speech_title_of_many_commas_takes_no_time() -> None:
    assert speech_title("Hello " + "," * 200_000) == "Hello"


def test_checked_turns_far_out_of_order_are_refused() -> None:
    backwards = [PlannedTurn(start=n / 100, end=(n + 1) / 100, audio_start=3600 - n) for n in range(900)]
    with pytest.raises(OptionError, match="audio out of order too often"):
        checked_turns(backwards, {"audio": 3601.0}, VIDEO_SECONDS)
    forwards = [turn.model_copy(update={"audio_start": turn.start}) for turn in backwards]
    assert len(checked_turns(forwards, {"audio": 3601.0}, VIDEO_SECONDS)) == 900


def test_a_face_is_generated_in_its_turns_and_fades_around_them() -> None:
    turns = (PlannedTurn(start=2, end=3), PlannedTurn(start=3.4, end=4), PlannedTurn(start=8, end=9))
    (face,) = faces_of(turns)
    assert face.weight(_options(*turns, idle_mouths="closed"), INFO, 250) is None
    assert face.weight(_options(*turns), replace(INFO, is_still=True), 250) is None
    weight = face.weight(_options(*turns), INFO, 250)
    assert weight is not None
    assert (weight[50:100] == 1).all(), "a short pause does not show the source's own mouth"
    assert (weight[200:225] == 1).all()
    for edge, step in ((50, -1), (99, 1), (200, -1), (224, 1)):
        ramp = weight[[edge + step * number for number in range(5)]]
        np.testing.assert_allclose(ramp, [1, 0.75, 0.5, 0.25, 0], atol=1e-6)
    assert not weight[:46].any() and not weight[104:196].any()


@pytest.mark.parametrize("fps", [Fraction(24000, 1001), Fraction(25), Fraction(60)])
def test_turn_includes_every_frame_that_it_overlaps(fps: Fraction) -> None:
    turn = PlannedTurn(start=1.01, end=2.03)
    weight = faces_of([turn])[0].weight(_options(turn), info_of(64, 64, fps), round(4 * fps))
    assert weight is not None
    shown = np.flatnonzero(weight == 1)
    assert shown[0] / fps <= 1.01 < (shown[0] + 1) / fps
    assert shown[-1] / fps < 2.03 <= (shown[-1] + 1) / fps


def test_the_speech_of_a_face_is_named_by_its_files() -> None:
    job_id = "0" * 32
    (part,) = faces_of([B])[0].parts(job_id)
    assert (part.file, part.start, part.stop, part.file_start) == (f"jobs/{job_id}/audio_2", 1, 3, 0)
    (softer,) = faces_of([B.model_copy(update={"gain_db": -6.0})])[0].parts(job_id)
    assert softer == part._replace(gain_db=-6.0)


def test_checked_turns_before_texts_are_spoken() -> None:
    def check(*turns: PlannedTurn) -> None:
        checked_turns((*turns, PlannedTurn(face="2", start=0, end=1)), {"audio": 6.0}, VIDEO_SECONDS)

    check(PlannedTurn(start=1, text="a"), PlannedTurn(start=1.2, text="b"), PlannedTurn(start=9, end=12, text="c"))
    with pytest.raises(OptionError, match=r"turns\[1\].start: the video ends at 10 s, before 10.5 s"):
        check(PlannedTurn(start=1, text="a"), PlannedTurn(start=10.5, text="b"))
    for end, start in ((3, 2), (None, 1)):
        with pytest.raises(OptionError, match=r"turns\[0\] and turns\[1\] are two turns of the face of the job"):
            check(PlannedTurn(start=1, end=end, text="a"), PlannedTurn(start=start, text="b"))


def test_cues_of_texts_and_cut_texts_of_turns() -> None:
    anna, cut = PlannedTurn(start=1, end=2, text="a", speaker="Anna"), PlannedTurn(start=4, end=5, text="b")
    options = _options(anna, PlannedTurn(start=2, end=3), cut.model_copy(update={"cut_seconds": 0.5}))
    assert cues_of(options) == [Cue(1, 2, "a", "Anna"), Cue(4, 5, "b")]
    assert cut_texts(options) == (TruncatedText(start_seconds=4, cut_seconds=0.5, text="b"),)


def test_offscreen_speaker_has_audio_but_no_face() -> None:
    turns = (PlannedTurn(face="offscreen", start=0, end=1), PlannedTurn(face="1", start=1, end=2, audio="audio_2"))
    checked = checked_turns(turns, AUDIO, VIDEO_SECONDS)
    assert [each.face for each in faces_of(checked)] == ["1"]
    with pytest.raises(OptionError, match="at least one needs a face"):
        checked_turns((turns[0],), {"audio": 6.0}, VIDEO_SECONDS)
    with pytest.raises(OptionError, match="face 'offscreen' and overlap"):
        checked_turns((turns[0], turns[0], turns[1]), AUDIO, VIDEO_SECONDS)


def test_speaker_of_frames_changes_before_the_next_turn() -> None:
    own = [PlannedTurn(start=start, end=end) for start, end in ((1, 2), (5.4, 6))]
    others = [PlannedTurn(face="1", start=start, end=start + 1, audio="audio_2") for start in (4, 6)]
    turns = _checked(*own, *others)
    speaker = speaker_of_frames(faces_of(turns), 250, Fraction(25))
    changes = np.flatnonzero(np.diff(speaker)) + 1
    assert changes.tolist() == [90, 130, 150], "half a pan before; in the middle of a short pause; where none is"
    assert speaker_of_frames([None], 5, Fraction(25)).tolist() == [0] * 5


def _srt(*cues: tuple[str, str, str]) -> bytes:
    return "\n".join(f"{n}\n00:00:{a},000 --> 00:00:{b}\n{text}\n" for n, (a, b, text) in enumerate(cues, 1)).encode()


def _rttm(*segments: tuple[float, float, str]) -> bytes:
    return "\n".join(f"SPEAKER f 1 {a} {b - a} <NA> <NA> {name} <NA> <NA>" for a, b, name in segments).encode()


@pytest.mark.parametrize("end", ["03,500", "09,000"])
def test_overlapping_cues_of_one_face(end: str) -> None:
    with pytest.raises(OptionError, match=r"00:00:01.000 and 00:00:03.000 overlap .* 'speaking'"):
        with_faces(turns_of_subtitles(_srt(("01", end, "a"), ("03", "04,000", "b")), {}, None), None)
    content = _srt(("01", end, "ANNA: a"), ("03", "04,000", "BOB: b"))
    speakers = {"ANNA": SpeakerChoice(face="1"), "BOB": SpeakerChoice(face="2")}
    assert len(with_faces(turns_of_subtitles(content, speakers, None), None)) == 2, "different faces may overlap"
    turns = with_faces(turns_of_subtitles(_srt(("01", "03,200", "a"), ("03", "04,000", "b")), {}, None), None)
    assert [(turn.start, turn.end) for turn in turns] == [(1, 3), (3, 4)], "a small overlap shortens the first"


def test_transcript_turns_are_cut_at_next_turn_and_video_end() -> None:
    lines = [(5.0, 9.0, "C", None), (1.0, 3.5, "A", "S1"), (3.0, 4.0, "B", "S2"), (8.5, 9.0, "D", None)]
    cues = [TranslatedCue(start, end, text, name, original_text=text.lower()) for start, end, text, name in lines]
    turns = with_faces(turns_of_transcript(cues, {"s1": SpeakerChoice(voice="v")}, None, 8.0), None)
    found = [(turn.start, turn.end, turn.text, turn.original_text, turn.voice) for turn in turns]
    assert found == [(1, 3, "A", "a", "v"), (3, 4, "B", "b", None), (5, 8, "C", "c", None)]
    with pytest.raises(OptionError, match="no sentence within the length of the video"):
        turns_of_transcript([TranslatedCue(9.0, 9.5, "A", original_text="a")], {}, None, 8.0)


def test_segments_of_one_face_that_are_close_are_one_turn() -> None:
    content = _rttm((0, 1, "A"), (0.5, 0.7, "A"), (1.4, 2, "B"), (1.2, 1.3, "C"), (2.6, 3, "A"))
    faces = {name: SpeakerChoice(face="1" if name == "C" else "0") for name in "ABC"}
    turns = with_faces(turns_of_diarization(content, faces), None)
    found = [(turn.face, turn.speaker, turn.start, turn.end) for turn in turns]
    assert found == [("0", "A", 0, 2), ("1", "C", 1.2, 1.3), ("0", "A", 2.6, 3)]


def test_with_faces_for_speakers_without_face_uses_the_report() -> None:
    spoken = ((0, 2.2, 1), (2.8, 4, 0), (5, 9, None), (10.5, 11, 1))
    known = tuple(SpeakerTurn(start=start, end=end, person=person, confidence=1) for start, end, person in spoken)
    report = PeopleReport(people=(), turns=known)
    spoken_texts = ((1, "ANNA: a"), (3, "b"), (5, "c"), (10, "ANNA: d"), (20, "BOB: e"), (30, "EVE: f"))
    content = _srt(*((f"{start:02}", f"{start + 1:02},000", text) for start, text in spoken_texts))
    turns = with_faces(turns_of_subtitles(content, {"EVE": SpeakerChoice(face="2")}, None), report)
    assert [turn.face for turn in turns] == ["person:1", "person:0", "offscreen", "person:1", "speaking", "2"]


def test_slots_end_with_the_next_turn_of_the_face() -> None:
    turns = [PlannedTurn(face="1", start=5, end=6, text="late"), PlannedTurn(face="1", start=1, text="early")]
    turns += [PlannedTurn(face="2", start=2, end=3, text="other"), PlannedTurn(face="2", start=4, end=5)]
    assert speech_slots(turns, None) == {1: SpeechSlot(1, None, 5), 0: SpeechSlot(5, 6, inf), 2: SpeechSlot(2, 3, 4)}
    turns = [PlannedTurn(start=1, end=2, text="a"), PlannedTurn(start=3, end=12, text="b")]
    turns += [PlannedTurn(face="1", start=4, text="c")]
    assert speech_slots(turns, 10.0) == {0: SpeechSlot(1, 2, 3), 1: SpeechSlot(3, 10, 10), 2: SpeechSlot(4, None, 10)}


NAMES = ["nod", "wave"]
CLIPS = {name: AvatarClip(kind="action" if name else None, key=name, created_at=utc_now()) for name in ("", *NAMES)}


def acting_job(*turns: PlannedTurn, text: str | None = None, action: str | None = None) -> JobRecord:
    job = job_record()
    plan = job.plan.with_options(turns=turns or None, action=action).model_copy(update={"clips": CLIPS})
    spec = job.spec if text is None else JobSpec(text=text, avatar_id="a")
    return job.model_copy(update={"plan": plan, "spec": spec})


def rows(*seconds: tuple[float, float], total: float = 8.0) -> np.ndarray:
    speaks = np.zeros(round(total * 50), bool)
    for start, stop in seconds:
        speaks[round(start * 50) : round(stop * 50)] = True
    return speaks


def test_planned_actions_of_a_text_are_at_their_words() -> None:
    job = acting_job(text="Hello! [wave] Welcome. [nod]", action="nod")
    found = planned_actions(job, rows((0.5, 1), (2, 4), total=4))
    assert [(each.name, round(each.seconds, 1)) for each in found] == [("nod", 0), ("wave", 2), ("nod", 4)]


def test_planned_actions_of_turns_are_in_their_time() -> None:
    text = PlannedTurn(start=4, end=7, text="Hi! [nod] You.", action="wave").with_actions(["nod", "wave"])
    job = acting_job(PlannedTurn(start=1, end=2, action="nod"), text)
    plan = job.plan.model_copy(update={"cue_actions": (PlannedAction(seconds=3, name="wave"),)})
    found = planned_actions(job.model_copy(update={"plan": plan}), rows((1, 2), (4, 4.5), (6, 7)))
    expected = [("nod", 1), ("wave", 3), ("wave", 4), ("nod", 6)]
    assert [(each.name, round(each.seconds, 1)) for each in found] == expected
    turn = PlannedTurn(start=0, end=2, cut_seconds=2, text="One two three [nod] four").with_actions(["nod"])
    (cut,) = planned_actions(acting_job(turn), rows((0, 2)))
    assert cut.seconds == 2, "the end of the turn"


def playback(actions: list[tuple[float, str]], num_frames: int = 200, speed: float = 1.0) -> Playback:
    planned = tuple(PlannedAction(seconds=seconds, name=name) for seconds, name in actions)
    return ClipTimes(acting_graph(), rows((0, 8)), planned, 7).playback(Playback(speed=speed), num_frames, 25.0)


@pytest.mark.parametrize("speed", [0.5, 1.0])
def test_playback_shows_an_action_at_its_time(speed: float) -> None:
    found = playback([(3.0, "wave")], speed=speed)
    (start,) = starts_of(found.path, WAVE)
    assert start == pytest.approx(75, abs=5)
    shown = found.source_frames(range(round(start / speed), round((start + 50) / speed)), 170)
    assert set(shown.tolist()) == set(WAVE)
    found = playback([(1.0, "wave")], num_frames=40)
    assert len(starts_of(found.path, WAVE)) == 1
    assert found.source_frames(range(40), 170)[-1] in WAVE, "it ends with the speech"


def test_playback_ten_actions_in_a_second_show_whole_clips() -> None:
    actions = tuple(PlannedAction(seconds=3 + number / 10, name="nod") for number in range(10))
    times = ClipTimes(acting_graph(), rows((0, 8)), (*actions, PlannedAction(seconds=5, name="bow")), 7)
    found = times.playback(Playback(), 200, 25.0)
    starts = starts_of(found.path, NOD)
    assert 1 <= len(starts) < 10
    assert all(np.diff(starts) >= len(NOD))
    missing = times.missing(found)
    assert len(missing) == 11 - len(starts) and missing[-1].name == "bow", "those without room, and without a clip"
    assert times._replace(actions=actions[:1]).missing(found) == ()
    assert playback([(3.0, "bow")]) == playback([])


def test_part_of_a_playback_shows_the_same_frames() -> None:
    found = playback([(1.0, "wave"), (5.0, "nod")], speed=0.8)
    for first in range(0, 200, 25):
        frames = range(first, first + 25)
        part = found.part(frames)
        assert len(part.path) < len(found.path)
        assert part.source_frames(frames, 170).tolist() == found.source_frames(frames, 170).tolist()


def test_speech_rows_are_true_where_somebody_is_heard(tmp_path: Path) -> None:
    files = FileStore(tmp_path)
    samples = np.zeros(32000, np.int16)
    samples[16000:] = 6000 * np.sin(np.arange(16000) / 5)
    with files.stored.written("speech.npy") as path, path.open("wb") as file:
        np.save(file, samples)
    speech = PreparedSpeech("speech.npy", AudioInfo(16000, 1, 2.0, "pcm_s16le"), SpeechLevel(32000, 1.0, -15.0))
    found = speech_rows(files.stored, speech)
    assert not found[:48].any()
    assert found[52:98].all()


def test_produce_id_with_clips_depends_on_the_seed() -> None:
    def with_seed(seed: int, clips: dict[str, AvatarClip]) -> str:
        job = job_record(avatar_key="a")
        return job.model_copy(update={"plan": job.plan.model_copy(update={"clips": clips, "seed": seed})}).produce_id

    assert with_seed(1, CLIPS) != with_seed(2, CLIPS)
    assert with_seed(1, {}) == with_seed(2, {})


SPOKEN = {"natural_seconds": 1.0, "cue": "c"}
TURN = PlannedTurn(start=0, text="Hi [wave] you", voice="v", action="nod").with_actions(NAMES)


def edit(change: Any) -> list[PlannedTurn]:
    return edited([TURN.model_copy(update=SPOKEN)], 0, change, NAMES)


@pytest.mark.parametrize(
    ("fields", "text", "actions", "is_spoken"),
    [
        ({"text": "[nod] Hi you"}, "Hi you", ((0, "nod"),), True),
        ({"text": "Hi you"}, "Hi you", (), True),
        ({"text": "Hi [wave] all"}, "Hi all", ((3, "wave"),), False),
        ({"voice": "w"}, "Hi you", ((3, "wave"),), False),
        ({"action": None, "start": 2}, "Hi you", ((3, "wave"),), True),
    ],
)
def test_edited_text_has_its_actions(fields: dict[str, Any], text: str, actions: Any, is_spoken: bool) -> None:
    (turn,) = edit(TurnChange(**fields))
    assert (turn.text, turn.actions, turn.cue is not None) == (text, actions, is_spoken)
    assert turn.action == fields.get("action", "nod")


def test_edited_split_keeps_the_action_at_the_start() -> None:
    first, second = edit(TurnSplit(start=1, text="Hi [wave] you", next_text=r"\[ok] [nod] bye"))
    assert [(turn.text, turn.action) for turn in (first, second)] == [("Hi you", "nod"), ("[ok] bye", None)]
    assert (first.actions, second.marked_text) == (((3, "wave"),), r"\[ok] [nod] bye")


@pytest.mark.parametrize("change", [TurnChange(action="bow"), TurnChange(text="[bow]"), NewTurn(text="[bow]", start=1)])
def test_edited_unknown_action_is_refused(change: Any) -> None:
    with pytest.raises(OptionError, match="Actions of this avatar: nod, wave"):
        edit(change)
