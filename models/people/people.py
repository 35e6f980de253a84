"""Turns the scan of a whole source into the people in it: their report, their appearances and where to see them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.people.identities import Identity, face_sizes, identify
from models.people.report import PeopleReport, SeenPerson, TimeRange
from models.people.scan import FaceRows
from models.people.speakers import SourceMouth, TrackedMouths, find_speakers

_FRONTAL_DEGREES: Final = 30.0
_MAX_GAP_SECONDS: Final = 0.5  # longest gap within a time range


class PersonPicture(NamedTuple):
    """Where a person is seen best."""

    frame: int
    box: tuple[float, float, float, float]  # x0, y0, x1, y1 around the landmarks, in pixels of the source


@dataclass(frozen=True)
class FoundPeople:
    """The P people in a source."""

    report: PeopleReport
    appearances: list[NDArray[np.float16]]  # P times (K, 240)
    first_seen: list[NDArray[np.float64]]  # P times (5,), see `models.face.choice`
    pictures: list[PersonPicture]  # P


def find_people(rows: FaceRows, fps: Fraction, sound: SourceMouth | None) -> FoundPeople:
    """Find the people in a whole source and, if it has sound, who speaks when.

    Args:
        rows: The scan of all frames.
        fps: Frame rate of the source.
        sound: The mouth that the source's own sound predicts; None without sound.
    """
    identities = identify(rows, float(fps))
    people = tuple(_seen_person(number, each, rows, fps) for number, each in enumerate(identities))
    report = PeopleReport(people=people)
    if sound is not None and people:
        mouths = TrackedMouths.empty(len(people), len(rows.scenes))
        for number, each in enumerate(identities):
            own = each.rows
            mouths.add(number, rows.frame[own], rows.mouth[own], rows.degrees[own, 0])
        speakers = find_speakers(mouths, fps, sound)
        offset = speakers.sync.offset_seconds
        report = PeopleReport(
            people=people,
            turns=tuple(speakers.turns(fps)),
            audio_offset_ms=None if offset is None else round(1000 * offset, 1),
        )
    return FoundPeople(
        report,
        [each.appearances for each in identities],
        [_first_seen(each, rows) for each in identities],
        [_picture(each, rows) for each in identities],
    )


def _seen_person(number: int, identity: Identity, rows: FaceRows, fps: Fraction) -> SeenPerson:
    own = identity.rows
    frontal = (np.abs(rows.degrees[own]) <= _FRONTAL_DEGREES).all(1)
    return SeenPerson(
        number=number,
        seen=tuple(_ranges(rows.frame[own], fps)),
        face_pixels=round(float(np.median(face_sizes(rows)[own])), 1),
        frontal_share=round(float(frontal.mean()), 3),
    )


def _ranges(frames: NDArray[np.int32], fps: Fraction) -> list[TimeRange]:
    """Return the time ranges of ascending frames."""
    breaks = np.flatnonzero(np.diff(frames) > 1 + _MAX_GAP_SECONDS * float(fps))
    starts, stops = frames[np.concatenate([[0], breaks + 1])], frames[np.concatenate([breaks, [-1]])] + 1
    return [
        TimeRange(start=round(float(start / fps), 3), end=round(float(stop / fps), 3))
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
    ]


def _first_seen(identity: Identity, rows: FaceRows) -> NDArray[np.float64]:
    first = identity.rows[0]
    return np.array([rows.frame[first], *rows.box[first]], np.float64)


def _picture(identity: Identity, rows: FaceRows) -> PersonPicture:
    """Return the frame in which the face is largest and most frontal."""
    own = identity.rows
    best = own[(rows.eye_distance[own] * np.cos(np.radians(rows.degrees[own])).prod(1)).argmax()]
    x0, y0, x1, y1 = rows.box[best].tolist()
    return PersonPicture(int(rows.frame[best]), (x0, y0, x1, y1))
