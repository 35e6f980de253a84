"""Casts the speakers of a dub, and finds the person whom a face choice selects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lipwright.errors import FaceNotFoundError
from models.face.choice import OFF_SCREEN, FaceChoice
from models.face.detection import FaceBox
from models.people.report import PeopleReport


def resolve(choice: FaceChoice, report: PeopleReport, first_seen: Sequence[NDArray[np.float64]]) -> int | None:
    """Return the number of the person whom a choice selects; None if it selects none of them, or cannot be known.

    Args:
        choice: Any but `like`.
        report: The P people.
        first_seen: P times (5,), see `models.face.choice`.

    Raises:
        FaceNotFoundError: There is no person of that number.
    """
    if choice.kind == "person":
        if (number := int(choice.numbers[0])) >= len(report.people):
            raise FaceNotFoundError(f"face: expected {_numbers(len(report.people))}, found {str(choice)!r}.")
        return number
    if choice.kind == "speaking" and (speaker := report.main_speaker()) is not None:
        return speaker
    if choice.kind == "speaking":
        choice = FaceChoice()
    first = min((place[0] for place in first_seen), default=0)
    boxes = [(_box(place), number) for number, place in enumerate(first_seen) if place[0] == first]
    picked = choice.pick([box for box, _ in boxes])
    return next((number for box, number in boxes if box is picked), None)


def _box(place: NDArray[np.float64]) -> FaceBox:
    _, x0, y0, x1, y1 = place.tolist()
    return FaceBox((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, 0.0, 1.0)


def _numbers(num_people: int) -> str:
    if not num_people:
        return "a video that shows a face"
    numbers = "person:0" if num_people == 1 else f"person:0 to person:{num_people - 1}"
    return f"{numbers} ({num_people} {'person is' if num_people == 1 else 'people are'} seen in the video)"


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
