"""Casts the speakers of a dub: each text gets the face of the person who speaks at that time in the source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from models.face.choice import OFF_SCREEN
from models.people.report import PeopleReport

_MIN_SHARE: Final = 0.2
"""Share of the time of the texts in which a person must speak in the source."""

_Seconds = Mapping[int | None, float]
"""How long people speak, by their numbers; None for those who are not seen."""


class SpokenTime(NamedTuple):
    """When a text is spoken, in seconds of the source: [start, end), and the name of its speaker, if known."""

    start: float
    end: float
    speaker: str | None


def cast(times: Sequence[SpokenTime], report: PeopleReport) -> list[str | None]:
    """Return the face choice of each text: a person, `offscreen`, or None if the source is silent at that time.

    All texts of a named speaker get the person who speaks longest during them; another text, during that text.
    """
    heard = [_seconds_by_person(time, report) for time in times]
    of_speakers: defaultdict[str | None, defaultdict[int | None, float]] = defaultdict(lambda: defaultdict(float))
    lengths: defaultdict[str | None, float] = defaultdict(float)
    for time, seconds in zip(times, heard, strict=True):
        lengths[time.speaker] += time.end - time.start
        for person, length in seconds.items():
            of_speakers[time.speaker][person] += length
    return [
        _face(seconds, time.end - time.start)
        if time.speaker is None
        else _face(of_speakers[time.speaker], lengths[time.speaker])
        for time, seconds in zip(times, heard, strict=True)
    ]


def _seconds_by_person(time: SpokenTime, report: PeopleReport) -> _Seconds:
    seconds: defaultdict[int | None, float] = defaultdict(float)
    for turn in report.turns:
        seconds[turn.person] += max(0.0, min(time.end, turn.end) - max(time.start, turn.start))
    return seconds


def _face(heard: _Seconds, length: float) -> str | None:
    if sum(heard.values()) < _MIN_SHARE * length:
        return None
    person = max(heard, key=lambda number: heard[number])
    return OFF_SCREEN if person is None else f"person:{person}"
