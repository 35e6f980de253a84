from __future__ import annotations

import pytest

from errors import OptionError
from models.face_choice import FaceChoice
from models.face_detection import FaceBox

SMALL, LARGE, MIDDLE = (
    FaceBox(x, 50.0, size, size, 0.0, 0.9) for x, size in ((20.0, 10.0), (100.0, 40.0), (200.0, 20.0))
)
FACES = [SMALL, LARGE, MIDDLE]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("largest", LARGE),
        ("", LARGE),
        ("index:0", LARGE),
        ("1", MIDDLE),
        ("index:2", SMALL),
        ("3", None),
        ("point:22,48", SMALL),
        ("point: 199.5, 50", MIDDLE),
        ("point:150,50", None),
        ("box:180,30,220,70", MIDDLE),
        ("box:0,0,120,100", LARGE),
        ("box:0,80,10,90", None),
    ],
)
def test_picks(text: str, expected: FaceBox | None) -> None:
    assert FaceChoice.parse(text).pick(FACES) is expected
    assert FaceChoice.parse(str(FaceChoice.parse(text))) == FaceChoice.parse(text)


@pytest.mark.parametrize(
    "text", ["smallest", "-1", "index:x", "point:1", "point:1,2,3", "box:1,2,3", "box:5,5,1,9", "nan"]
)
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="Expected a face"):
        FaceChoice.parse(text)


def test_no_faces_no_choice() -> None:
    assert all(FaceChoice.parse(text).pick([]) is None for text in ("largest", "0", "point:1,1", "box:0,0,9,9"))
