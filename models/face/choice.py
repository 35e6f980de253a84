"""Selects one of several faces."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from lipwright.errors import OptionError
from models.face.detection import FaceBox

OFF_SCREEN: Final = "offscreen"
"""In place of a face choice: a person whose face is not shown."""
_NUMBER = r"\s*(-?\d+(?:\.\d+)?)\s*"
_REFERENCE, _MARKED = "like:", "points:"
_UNKNOWN = np.zeros(0)
_FORMS = {
    "person": re.compile(r"person:\s*(\d+)\s*"),
    "index": re.compile(r"(?:index:)?\s*(\d+)\s*"),
    "point": re.compile("point:" + ",".join([_NUMBER] * 2)),
    "box": re.compile("box:" + ",".join([_NUMBER] * 4)),
}


@dataclass(frozen=True)
class FaceChoice:
    """Selects one face in the first frame in which a face is found.

    `largest` is the default. `index` counts from 0 by size, largest first, so index 0 is `largest`. `point` (x, y) and
    `box` (x0, y0, x1, y1) are pixels of the upright image: the face that covers the point (with several, the one with
    the nearest centre), or the one that overlaps the box most. `like` is the person of a reference picture, wherever
    they appear in the source: `numbers` are K appearances of that face (`models.face.appearance`), one after the other,
    `others` those of people who are not meant. `first_seen` tells people apart who look alike: the number of the first
    source frame that shows the person, and x0, y0, x1, y1 of the face in it. `person` (number) and `speaking`, the
    person who speaks most, need all people of the source (`models.people`), which turns them into `like`. `points` is a
    face that the caller has marked in a still picture, by the x, y of `models.track.marked_face.MARKS`.
    """

    kind: Literal["largest", "index", "point", "box", "like", "person", "speaking", "points"] = "largest"
    numbers: tuple[float, ...] = ()
    others: tuple[float, ...] = ()
    first_seen: tuple[float, ...] = ()

    @classmethod
    def like(
        cls,
        appearances: NDArray[np.floating],
        others: NDArray[np.floating] = _UNKNOWN,
        first_seen: NDArray[np.floating] = _UNKNOWN,
    ) -> FaceChoice:
        """Return the choice of the person with these (240,) or (K, 240) appearances.

        Args:
            appearances: The person's.
            others: (M, 240) those of people who are not meant.
            first_seen: (5,) see above; empty if unknown.
        """
        flat = (tuple(np.asarray(each, np.float64).ravel().tolist()) for each in (appearances, others, first_seen))
        return cls("like", *flat)

    @classmethod
    def parse(cls, text: str) -> FaceChoice:
        """Parse "largest", "speaking", "person:0", "index:2" or "2", "point:x,y", "box:x0,y0,x1,y1".

        Raises:
            OptionError: The text has none of these forms, or the box is empty.
        """
        text = text.strip().lower()
        if text in ("", "largest"):
            return cls()
        if text == "speaking":
            return cls("speaking")
        for kind, form in _FORMS.items():
            if match := form.fullmatch(text):
                numbers = tuple(float(number) for number in match.groups())
                if kind == "box" and not (numbers[0] < numbers[2] and numbers[1] < numbers[3]):
                    raise OptionError(f"Expected a face box x0,y0,x1,y1 with x0 < x1 and y0 < y1, found {text!r}.")
                return cls(kind, numbers)  # type: ignore[arg-type]
        raise OptionError(
            "Expected a face: 'largest', 'speaking', 'person:N', a number N, 'point:x,y' or 'box:x0,y0,x1,y1'; "
            f"found {text!r}."
        )

    @classmethod
    def of_record(cls, recorded: str) -> FaceChoice:
        """Return a stored choice that names no reference picture: one of `parse`, or `points`."""
        if recorded.startswith(_MARKED):
            return cls("points", tuple(map(float, recorded.removeprefix(_MARKED).split(","))))
        return cls.parse(recorded)

    def __str__(self) -> str:
        """Return text that `of_record` accepts; for `like`, a description."""
        if self.kind == "like":
            return "the person with the known appearance"
        return self.kind + ":" * bool(self.numbers) + ",".join(f"{number:g}" for number in self.numbers)

    @property
    def is_person(self) -> bool:
        """Whether it is a person at any place, not a face in the first frame."""
        return self.kind in ("like", "person", "speaking")

    def pick(self, faces: Sequence[FaceBox]) -> FaceBox | None:
        """Return the chosen face, or None if it is not among `faces` (in any order).

        Always None for `like`, for which `models.face.appearance` compares appearances, for what must become `like`,
        and for `points`.
        """
        if self.is_person or self.kind == "points":
            return None
        by_size = sorted(faces, key=lambda face: -face.size)
        if self.kind == "point":
            x, y = self.numbers
            hits = [face for face in by_size if face.contains(x, y)]
            return min(hits, key=lambda face: (face.center_x - x) ** 2 + (face.center_y - y) ** 2, default=None)
        if self.kind == "box":
            x0, y0, x1, y1 = self.numbers
            overlaps = [(face.overlap(x0, y0, x1, y1), face) for face in by_size]
            share, best = max(overlaps, key=lambda pair: pair[0], default=(0.0, None))
            return best if share > 0.0 else None
        index = int(self.numbers[0]) if self.kind == "index" else 0
        return by_size[index] if index < len(by_size) else None


def recorded_face(face: str, picture_sha256: str | None, points: Sequence[float] | None = None) -> str:
    """Return a choice in its stored form: the caller's text, the content hash of a reference picture, or points.

    Raises:
        OptionError: The text is invalid, or more than one of text, picture and points are given.
    """
    choice = FaceChoice.parse(face)
    if picture_sha256 is None and points is None:
        return face
    if picture_sha256 is not None and points is not None:
        raise OptionError("face_points: send face_points or face_image, not both.")
    other = "face_image" if points is None else "face_points"
    if choice != FaceChoice():
        raise OptionError(f"face: expected no value together with {other}, found {face!r}.")
    return _REFERENCE + str(picture_sha256) if points is None else str(FaceChoice("points", tuple(points)))


def is_reference(recorded: str) -> bool:
    """Return whether a stored choice refers to a reference picture."""
    return recorded.startswith(_REFERENCE)


def reference_sha256(recorded: str) -> str | None:
    """Return the content hash of the reference picture that a stored choice refers to, or None."""
    return recorded.removeprefix(_REFERENCE) if is_reference(recorded) else None
