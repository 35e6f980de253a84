"""Makes the turns of a job from subtitles or from speaker diarisation, before anything is synthesized."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from math import inf
from typing import Final

from pydantic import Field

from errors import OptionError
from media.dubbing.slots import SpeechSlot
from media.subtitles.cues import read_cues
from media.subtitles.diarization import merged, read_diarization
from storage.records import Frozen, Turn

_MAX_OVERLAP_SECONDS: Final = 0.3
"""Cues of one face may overlap by so much; the first one then ends earlier."""


class SpeakerChoice(Frozen):
    """Who plays a speaker of subtitles or a diarization."""

    face: str = Field("speaking", max_length=128, description="A face choice as in `face`; default: whoever speaks.")
    voice: str | None = Field(None, min_length=1, max_length=128, description="Voice for the speaker's cues.")


def turns_of_subtitles(content: bytes, speakers: Mapping[str, SpeakerChoice], voice: str | None) -> list[Turn]:
    """Return one turn per cue of an SRT or WebVTT file; the speaker of a cue decides who speaks it.

    Args:
        content: The file.
        speakers: Faces and voices, by the names of speakers, whatever their case. Cues of other speakers, and cues
            without one, are spoken by whoever speaks in the video.
        voice: Voice of speakers that have none; None for the service's voice.

    Raises:
        OptionError: The file is invalid, `speakers` names a speaker that it does not have, or two cues of one face
            overlap.
    """
    cues = read_cues(content, speakers)
    choices = _by_name("subtitles", speakers, (cue.speaker for cue in cues if cue.speaker is not None))
    turns = []
    for cue in cues:
        choice = choices[cue.speaker]
        turns.append(
            Turn(
                face=choice.face,
                start=cue.start,
                end=cue.end,
                text=cue.text,
                voice=choice.voice or voice,
                speaker=cue.speaker,
            )
        )
    return _without_overlaps(turns)


def turns_of_diarization(content: bytes, speakers: Mapping[str, SpeakerChoice]) -> list[Turn]:
    """Return the turns of an RTTM or JSON file, spoken by the field `audio` at the same times.

    Raises:
        OptionError: The file is invalid, `speakers` names a speaker that it does not have, or gives it a voice.
    """
    if any(choice.voice is not None for choice in speakers.values()):
        raise OptionError("speakers: voices are for subtitles; with a diarization, the audio is spoken.")
    segments = read_diarization(content)
    choices = _by_name("diarization", speakers, (segment.speaker for segment in segments))
    # One person may have several labels.
    of_faces = merged(segment.by(choices[segment.speaker].face) for segment in segments)
    return [Turn(face=each.speaker, start=each.start, end=each.end, audio_start=each.start) for each in of_faces]


def speech_slots(turns: Sequence[Turn]) -> dict[int, SpeechSlot]:
    """Return when each turn with a text is spoken, by its index.

    Raises:
        OptionError: A turn ends before it starts, or starts before an earlier turn of the same face has ended.
    """
    of_faces: dict[str | None, list[int]] = defaultdict(list)
    for number in sorted(range(len(turns)), key=lambda number: turns[number].start):
        of_faces[turns[number].face].append(number)
    slots = {}
    for numbers in of_faces.values():
        for number, following in pairwise([*numbers, None]):
            turn = turns[number]
            latest = inf if following is None else turns[following].start
            if turn.end is not None and turn.end <= turn.start:
                raise OptionError(f"turns[{number}]: expected start < end, found {turn.start:g} and {turn.end:g}.")
            if latest <= turn.start or (turn.end is not None and turn.end > latest):
                raise OptionError(f"turns[{number}] and turns[{following}] overlap and have the same face.")
            if turn.text is not None:
                slots[number] = SpeechSlot(turn.start, turn.end, latest)
    return slots


def _by_name(
    source: str, speakers: Mapping[str, SpeakerChoice], names: Iterable[str]
) -> Mapping[str | None, SpeakerChoice]:
    """Return a choice for every name, and for cues without one; OptionError for a speaker that does not occur."""
    wanted = {name.casefold(): choice for name, choice in speakers.items()}
    found = {name: wanted.get(name.casefold()) for name in names}
    known = {name.casefold() for name in found}
    if missing := [name for name in speakers if name.casefold() not in known]:
        named = ", ".join(sorted(found)[:20]) or "none"
        raise OptionError(f"speakers: the {source} file has no speaker {missing[0]!r}. Its speakers: {named}.")
    return defaultdict(SpeakerChoice, {name: choice for name, choice in found.items() if choice is not None})


def _without_overlaps(turns: Sequence[Turn]) -> list[Turn]:
    """Return turns, by their start, of which those of one face do not overlap."""
    ends: dict[int, float] = {}
    last: dict[str | None, int] = {}
    for number, turn in enumerate(turns):
        before = last.get(turn.face)
        if before is not None:
            earlier = turns[before]
            assert earlier.end is not None
            if turn.start <= earlier.start or turn.start < earlier.end - _MAX_OVERLAP_SECONDS:
                raise OptionError(
                    f"subtitles: the cues at {_clock(earlier)} and {_clock(turn)} overlap and have the same face, "
                    f"{turn.face!r}. Name their speakers in the file, and their faces in `speakers`."
                )
            ends[before] = min(earlier.end, turn.start)
        last[turn.face] = number
    return [turn.model_copy(update={"end": ends.get(number, turn.end)}) for number, turn in enumerate(turns)]


def _clock(turn: Turn) -> str:
    minutes, seconds = divmod(turn.start, 60)
    return f"{minutes // 60:02.0f}:{minutes % 60:02.0f}:{seconds:06.3f}"
