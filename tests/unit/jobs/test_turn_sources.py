"""Turns made of subtitles and of diarizations, and the slots of their texts."""

from __future__ import annotations

from math import inf

import pytest

from errors import OptionError
from jobs.model.turns import PlannedTurn, SpeakerChoice
from jobs.speech_messages import TranslatedCue
from jobs.turn_sources import turns_of_diarization, turns_of_subtitles, turns_of_transcript, with_faces
from jobs.turns import speech_slots
from media.dubbing.slots import SpeechSlot
from models.people.report import PeopleReport, SpeakerTurn


def _srt(*cues: tuple[str, str, str]) -> bytes:
    return "\n".join(f"{n}\n00:00:{a},000 --> 00:00:{b}\n{text}\n" for n, (a, b, text) in enumerate(cues, 1)).encode()


def _rttm(*segments: tuple[float, float, str]) -> bytes:
    return "\n".join(f"SPEAKER f 1 {a} {b - a} <NA> <NA> {name} <NA> <NA>" for a, b, name in segments).encode()


def test_cues_are_turns_of_their_speakers() -> None:
    content = _srt(("01", "02,500", "ANNA: Hello"), ("03", "04,000", "Bob: Hi"), ("05", "06,000", "Who?"))
    speakers = {"Anna": SpeakerChoice(face="person:1", voice="heart"), "bob": SpeakerChoice(face="person:2")}
    assert with_faces(turns_of_subtitles(content, speakers, "alloy"), None) == [
        PlannedTurn(face="person:1", start=1, end=2.5, text="Hello", voice="heart", speaker="ANNA"),
        PlannedTurn(face="person:2", start=3, end=4, text="Hi", voice="alloy", speaker="Bob"),
        PlannedTurn(face="speaking", start=5, end=6, text="Who?", voice="alloy"),
    ]


def test_a_small_overlap_of_cues_shortens_the_first() -> None:
    turns = with_faces(turns_of_subtitles(_srt(("01", "03,200", "a"), ("03", "04,000", "b")), {}, None), None)
    assert [(turn.start, turn.end) for turn in turns] == [(1, 3), (3, 4)]


@pytest.mark.parametrize("end", ["03,500", "09,000"])
def test_overlapping_cues_of_one_face(end: str) -> None:
    with pytest.raises(OptionError, match=r"00:00:01.000 and 00:00:03.000 overlap .* 'speaking'"):
        with_faces(turns_of_subtitles(_srt(("01", end, "a"), ("03", "04,000", "b")), {}, None), None)
    content = _srt(("01", end, "ANNA: a"), ("03", "04,000", "BOB: b"))
    speakers = {"ANNA": SpeakerChoice(face="1"), "BOB": SpeakerChoice(face="2")}
    assert len(with_faces(turns_of_subtitles(content, speakers, None), None)) == 2, "different faces may overlap"


def test_transcript_turns_are_cut_at_next_turn_and_video_end() -> None:
    lines = [(5.0, 9.0, "C", None), (1.0, 3.5, "A", "S1"), (3.0, 4.0, "B", "S2"), (8.5, 9.0, "D", None)]
    cues = [TranslatedCue(start, end, text, name, original_text=text.lower()) for start, end, text, name in lines]
    turns = with_faces(turns_of_transcript(cues, {"s1": SpeakerChoice(voice="v")}, None, 8.0), None)
    assert [(turn.start, turn.end, turn.text, turn.original_text, turn.voice) for turn in turns] == [
        (1, 3, "A", "a", "v"),
        (3, 4, "B", "b", None),
        (5, 8, "C", "c", None),
    ]
    with pytest.raises(OptionError, match="no sentence within the length of the video"):
        turns_of_transcript([TranslatedCue(9.0, 9.5, "A", original_text="a")], {}, None, 8.0)


def test_a_diarization_plays_the_audio_at_the_same_times() -> None:
    content = _rttm((0.5, 2, "S0"), (2, 3, "S1"), (2.25, 4, "S2"), (10, 11, "S3"))
    speakers = {name: SpeakerChoice(face=face) for name, face in (("S0", "0"), ("S1", "1"), ("S2", "0"))}
    assert with_faces(turns_of_diarization(content, speakers), None) == [
        PlannedTurn(face="0", start=0.5, end=4, audio_start=0.5, speaker="S0"),
        PlannedTurn(face="1", start=2, end=3, audio_start=2, speaker="S1"),
        PlannedTurn(face="speaking", start=10, end=11, audio_start=10, speaker="S3"),
    ]


def test_segments_of_one_face_that_are_close_are_one_turn() -> None:
    content = _rttm((0, 1, "A"), (0.5, 0.7, "A"), (1.4, 2, "B"), (1.2, 1.3, "C"), (2.6, 3, "A"))
    faces = {name: SpeakerChoice(face="1" if name == "C" else "0") for name in "ABC"}
    turns = with_faces(turns_of_diarization(content, faces), None)
    assert [(turn.face, turn.start, turn.end) for turn in turns] == [("0", 0, 2), ("1", 1.2, 1.3), ("0", 2.6, 3)]


def test_with_faces_for_speakers_without_face_uses_the_report() -> None:
    spoken = ((0, 2.2, 1), (2.8, 4, 0), (5, 9, None), (10.5, 11, 1))
    known = tuple(SpeakerTurn(start=start, end=end, person=person, confidence=1) for start, end, person in spoken)
    report = PeopleReport(people=(), turns=known)
    content = _srt(
        ("01", "02,000", "ANNA: a"), ("03", "04,000", "b"), ("05", "06,000", "c"), ("10", "11,000", "ANNA: d"),
        ("20", "21,000", "BOB: e"), ("30", "31,000", "EVE: f"),
    )  # fmt: skip
    turns = with_faces(turns_of_subtitles(content, {"EVE": SpeakerChoice(face="2")}, None), report)
    assert [turn.face for turn in turns] == ["person:1", "person:0", "offscreen", "person:1", "speaking", "2"]


@pytest.mark.parametrize(
    ("speakers", "message"),
    [
        ({"S7": SpeakerChoice()}, "the diarization file has no speaker 'S7'. Its speakers: S0"),
        ({"S0": SpeakerChoice(voice="heart")}, "voices are for subtitles"),
        ({"s0": SpeakerChoice(), "S0": SpeakerChoice()}, "'s0' and 'S0' are the same name"),
    ],
)
def test_impossible_speakers_are_refused(speakers: dict[str, SpeakerChoice], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        turns_of_diarization(_rttm((0, 1, "S0")), speakers)


def test_slots_end_with_the_next_turn_of_the_face() -> None:
    turns = [
        PlannedTurn(face="1", start=5, end=6, text="late"),
        PlannedTurn(face="1", start=1, text="early"),
        PlannedTurn(face="2", start=2, end=3, text="other"),
        PlannedTurn(face="2", start=4, end=5),
    ]
    assert speech_slots(turns, None) == {1: SpeechSlot(1, None, 5), 0: SpeechSlot(5, 6, inf), 2: SpeechSlot(2, 3, 4)}
    turns = [PlannedTurn(start=1, end=2, text="a"), PlannedTurn(start=3, end=12, text="b")]
    turns += [PlannedTurn(face="1", start=4, text="c")]
    assert speech_slots(turns, 10.0) == {0: SpeechSlot(1, 2, 3), 1: SpeechSlot(3, 10, 10), 2: SpeechSlot(4, None, 10)}
