"""Makes turns of subtitles, a transcript or a speaker diarization, and finds the faces of their speakers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from lipwright.errors import OptionError
from lipwright.jobs.model.turns import PlannedTurn, SpeakerChoice
from lipwright.jobs.speech_messages import TranslatedCue
from lipwright.media.subtitles.cues import Cue, read_cues
from lipwright.media.subtitles.diarization import read_diarization
from models.people.casting import SpokenTime, cast
from models.people.report import PeopleReport

_MAX_OVERLAP_SECONDS: Final = 0.3
"""Cues of one face may overlap by so much; the first one then ends earlier."""
_MAX_PAUSE_SECONDS: Final = 0.5
"""Segments of one face that are closer are one turn: a mouth that stops for so short a time looks broken."""
MAIN_SPEAKER: Final = "speaking"


def turns_of_subtitles(
    content: bytes, speakers: Mapping[str, SpeakerChoice], voice: str | None, actions: Collection[str] | None = None
) -> list[PlannedTurn]:
    """Return one turn per cue of an SRT or WebVTT file, in order; those of speakers without a face have none.

    The text of a cue with nothing but actions is empty.

    Args:
        content: The file.
        speakers: Faces and voices, by the names of speakers, whatever their case.
        voice: Voice of speakers that have none; None for the service's voice.
        actions: The actions that cues can name, if there are any.

    Raises:
        OptionError: The file is invalid, or `speakers` names a speaker that it does not have.
    """
    cues = read_cues(content, speakers, lambda name: name in (actions or ()))
    return [turn.with_actions(actions) for turn in _turns_of_cues(cues, "subtitle file", speakers, voice)]


def turns_of_transcript(
    lines: Sequence[TranslatedCue], speakers: Mapping[str, SpeakerChoice], voice: str | None, video_seconds: float
) -> list[PlannedTurn]:
    """Return one turn per sentence of a transcript, in order, without faces except those of `speakers`.

    Raises:
        OptionError: Nothing is said in the video, or `speakers` names a speaker that the transcript does not have.
    """
    in_order = sorted(lines, key=lambda line: line.start)
    cues = [replace(line, end=min(line.end, video_seconds)) for line in in_order if line.start < video_seconds]
    if not cues:
        raise OptionError("translate_to: the transcript has no sentence within the length of the video.")
    turns = _turns_of_cues(cues, "transcript", speakers, voice)
    return [
        turn.model_copy(update={"original_text": line.original_text}) for turn, line in zip(turns, cues, strict=True)
    ]


def _turns_of_cues(
    cues: Sequence[Cue], source: str, speakers: Mapping[str, SpeakerChoice], voice: str | None
) -> list[PlannedTurn]:
    choices = _by_name(source, speakers, (cue.speaker for cue in cues if cue.speaker is not None))
    return [
        PlannedTurn(
            face=choices[cue.speaker].face,
            start=cue.start,
            end=cue.end,
            text=cue.text,
            voice=choices[cue.speaker].voice or voice,
            speaker=cue.speaker,
        )
        for cue in cues
    ]


def turns_of_diarization(content: bytes, speakers: Mapping[str, SpeakerChoice]) -> list[PlannedTurn]:
    """Return the segments of an RTTM or JSON file in order, spoken by the field `audio` at the same times.

    Raises:
        OptionError: The file is invalid, `speakers` names a speaker that it does not have, or gives it a voice.
    """
    if any(choice.voice is not None for choice in speakers.values()):
        raise OptionError("speakers: voices are for subtitles; with a diarization, the audio is spoken.")
    segments = read_diarization(content)
    choices = _by_name("diarization file", speakers, (segment.speaker for segment in segments))
    return [
        PlannedTurn(
            face=choices[segment.speaker].face,
            start=segment.start,
            end=segment.end,
            audio_start=segment.start,
            speaker=segment.speaker,
        )
        for segment in sorted(segments, key=lambda segment: segment.start)
    ]


def with_faces(
    turns: Sequence[PlannedTurn], report: PeopleReport | None, main: str | None = MAIN_SPEAKER
) -> list[PlannedTurn]:
    """Return turns of which each has a face. A sentence of a transcript ends where the next one of its face starts.

    Args:
        turns: Turns in order.
        report: The people in the source, of whom those who speak at the same times are chosen; None if unknown.
        main: The face of turns for which nobody is chosen.

    Raises:
        OptionError: Two cues of subtitles have one face and overlap.
    """
    found: Sequence[str | None] = [None] * len(turns)
    if report is not None:
        found = cast([SpokenTime(turn.start, turn.end or turn.start, turn.speaker) for turn in turns], report)
    of_faces: defaultdict[str | None, list[PlannedTurn]] = defaultdict(list)
    for turn, face in zip(turns, found, strict=True):
        choice = turn.face or face or main
        of_faces[choice].append(turn.model_copy(update={"face": choice}))
    fitted = [turn for of_face in of_faces.values() for turn in _without_overlaps(of_face)]
    return sorted(fitted, key=lambda turn: turn.start)


def _by_name(
    source: str, speakers: Mapping[str, SpeakerChoice], names: Iterable[str]
) -> Mapping[str | None, SpeakerChoice]:
    """Return a choice for every name, and for cues without one; OptionError for a speaker that does not occur."""
    wanted: dict[str, SpeakerChoice] = {}
    for name, choice in speakers.items():
        if name.casefold() in wanted:
            same = [repr(each) for each in speakers if each.casefold() == name.casefold()]
            raise OptionError(f"speakers: {' and '.join(same)} are the same name; capitals do not matter.")
        wanted[name.casefold()] = choice
    found = {name: wanted.get(name.casefold()) for name in names}
    known = {name.casefold() for name in found}
    if missing := [name for name in speakers if name.casefold() not in known]:
        named = ", ".join(sorted(found)[:20]) or "none"
        raise OptionError(f"speakers: the {source} has no speaker {missing[0]!r}. Its speakers: {named}.")
    return defaultdict(SpeakerChoice, {name: choice for name, choice in found.items() if choice is not None})


def _without_overlaps(turns: Iterable[PlannedTurn]) -> list[PlannedTurn]:
    """Return the turns of one face, in order, without overlaps and short pauses."""
    fitted: list[PlannedTurn] = []
    for turn in turns:
        before = fitted[-1] if fitted else None
        if before is None or before.end is None or turn.end is None:
            fitted.append(turn)
        elif turn.text is None and turn.start - before.end <= _MAX_PAUSE_SECONDS:
            fitted[-1] = before.model_copy(update={"end": max(before.end, turn.end)})
        elif before.start < turn.start and (
            before.original_text is not None or before.end - turn.start <= _MAX_OVERLAP_SECONDS
        ):
            fitted[-1] = before.model_copy(update={"end": min(before.end, turn.start)})
            fitted.append(turn)
        else:
            face = "" if turn.face is None else f", {turn.face!r}"
            raise OptionError(
                f"subtitles: the cues at {_clock(before)} and {_clock(turn)} overlap and have the same face{face}. "
                "Name their speakers in the file, and their faces in `speakers`."
            )
    return fitted


def _clock(turn: PlannedTurn) -> str:
    minutes, seconds = divmod(turn.start, 60)
    return f"{minutes // 60:02.0f}:{minutes % 60:02.0f}:{seconds:06.3f}"
