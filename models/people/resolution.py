"""Finds the person whom a face choice selects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from errors import FaceNotFoundError
from models.face.choice import FaceChoice
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
