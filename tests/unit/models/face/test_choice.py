from __future__ import annotations

import numpy as np
import pytest

from errors import OptionError
from models.face.choice import FaceChoice, is_reference, recorded_face
from models.face.detection import FaceBox
from storage.row_codec import avatar_key

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
def test_pick_returns_the_chosen_face(text: str, expected: FaceBox | None) -> None:
    assert FaceChoice.parse(text).pick(FACES) is expected
    assert FaceChoice.parse(text).pick([]) is None
    assert FaceChoice.parse(str(FaceChoice.parse(text))) == FaceChoice.parse(text)


@pytest.mark.parametrize(
    "text",
    ["smallest", "-1", "index:x", "point:1", "point:1,2,3", "box:1,2,3", "box:5,5,1,9", "nan"]
    + ["person:", "person:-1", "speaking:1"],
)
def test_parse_other_text_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="Expected a face"):
        FaceChoice.parse(text)


def test_recorded_face_names_a_reference_by_its_content() -> None:
    named = [recorded_face("largest", picture) for picture in ("a" * 64, "b" * 64)]
    keys = {avatar_key("0" * 64, face, "1") for face in [*named, "largest"]}
    assert len(keys) == 3  # each is analysed for itself
    assert all(is_reference(face) for face in named)
    assert recorded_face("index:1", None) == "index:1"
    assert not is_reference("index:1")
    with pytest.raises(OptionError, match="Expected a face"):
        recorded_face("like:" + "a" * 64, None)
    with pytest.raises(OptionError, match="no value together with face_image, got '2'"):
        recorded_face("2", "a" * 64)


@pytest.mark.parametrize(("text", "kind", "numbers"), [("person:2", "person", (2,)), ("Speaking", "speaking", ())])
def test_parse_person_is_picked_after_all_are_known(text: str, kind: str, numbers: tuple[float, ...]) -> None:
    choice = FaceChoice.parse(text)
    assert (choice.kind, choice.numbers, choice.is_person) == (kind, numbers, True)
    assert choice.pick(FACES) is None
    assert FaceChoice.parse(str(choice)) == choice
    like = FaceChoice.like(np.array([0.6, 0.8]))
    assert like.pick(FACES) is None
    assert "known appearance" in str(like)
