"""Five points of a face that a caller marks in a still picture."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, FiniteFloat

from lipwright.jobs.model.base import Frozen

Point = Annotated[tuple[FiniteFloat, ...], Field(min_length=2, max_length=2)]

FACE_POINTS: Final = (
    "Where the face is in a still picture in which none is found, such as a drawing, a statue or an animal: "
    "`left_eye`, `right_eye` (their centres), `mouth_left`, `mouth_right` (its corners) and `chin`, each [x, y] in "
    "pixels of the upright picture. Left is the left of the picture. Instead of `face`; not for videos. JSON."
)
"""Description of the points of a face."""


class FacePoints(Frozen):
    """Where a face is, in pixels of the upright picture: x to the right and y down from its upper left pixel."""

    left_eye: Point = Field(description="Centre of the eye on the left of the picture.")
    right_eye: Point = Field(description="Centre of the eye on the right of the picture.")
    mouth_left: Point = Field(description="Corner of the mouth on the left of the picture.")
    mouth_right: Point = Field(description="Corner of the mouth on the right of the picture.")
    chin: Point = Field(description="Lowest point of the chin.")

    @property
    def numbers(self) -> tuple[float, ...]:
        """The x, y of the points, in the order of the fields, which is that of `models.track.marked_face.MARKS`."""
        return tuple(number for name in type(self).model_fields for number in getattr(self, name))
