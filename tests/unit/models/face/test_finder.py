from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.errors import OptionError
from lipwright.media.output.dynamic_range import from_sdr_rgb
from lipwright.media.probe import ColourTags
from lipwright.media.yuv_frame import YuvFrame, from_rgb
from lipwright.storage.row_codec import avatar_key
from models.face.appearance import (
    APPEARANCE_SIZE,
    CLEAR_LEAD,
    SAME_PERSON,
    STILL_SAME,
    Person,
    appearance_of,
    is_same_person,
    likeness,
)
from models.face.choice import FaceChoice, is_reference, recorded_face
from models.face.detection import FaceBox, FaceDetector, Window
from models.face.finder import FaceFinder, tiles
from tests.unit.models.conftest import COLOUR, Scene
from tests.unit.models.films import read_film


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector(num_threads=1, device="cpu")


def test_detector_window_gives_boxes_in_frame_coordinates(detector: FaceDetector, scene: Scene) -> None:
    frame = scene.frame(960, 720, (700.0, 450.0, 0.5))
    (whole,) = detector(frame, COLOUR)
    assert whole.contains(700, 450)
    (part,) = detector(frame, COLOUR, Window(480, 240, 480, 480))
    assert part.score > 0.7 and abs(part.angle) < 0.2
    assert (part.center_x, part.center_y) == pytest.approx((whole.center_x, whole.center_y), abs=0.1 * whole.size)
    assert detector(frame, COLOUR, Window(0, 0, 300, 300)) == []
    box = FaceBox(10.0, 10.0, 10.0, 10.0, 0.0, 1.0)
    assert box.overlap(5, 5, 15, 15) == pytest.approx(1.0)
    assert box.overlap(10, 5, 20, 15) == pytest.approx(1 / 3) and box.overlap(16, 5, 20, 15) == 0.0
    assert box.contains(14.9, 5.1) and not box.contains(15.1, 10.0)


def test_detector_pq_picture_scores_as_sdr(detector: FaceDetector, portrait: NDArray[np.uint8]) -> None:
    pq = ColourTags(9, False, 9, 16)
    (expected,) = detector(from_rgb(portrait, COLOUR), COLOUR)
    (found,) = detector(from_sdr_rgb(portrait, pq), pq)
    assert found.score == pytest.approx(expected.score, abs=0.025)
    centre = pytest.approx((expected.center_x, expected.center_y), abs=0.02 * expected.size)
    assert (found.center_x, found.center_y) == centre
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    assert detector(from_rgb(noise, COLOUR), COLOUR) == []


def test_find_all_returns_each_face_once_largest_first(finder: FaceFinder, scene: Scene) -> None:
    frame = scene.frame(1000, 500, (220.0, 250.0, 0.6), (820.0, 250.0, 0.3))
    faces = finder.find_all(frame, COLOUR)
    assert [face.box.contains(x, 250) for face, x in zip(faces, (220, 820), strict=True)] == [True, True]
    right, _ = finder.find(frame, COLOUR, FaceChoice.parse("point:820,245"))
    assert right is not None and right.box.contains(820, 250)
    far = scene.frame(1000, 700, (760.0, 480.0, 0.28))  # about six percent of the longer side
    face, seen = finder.find(far, COLOUR, FaceChoice())
    assert face is not None and len(seen) == 1
    assert face.box.contains(760, 480) and 0.04 < face.box.size / 1000 < 0.08


def test_find_doubtful_face_is_not_chosen(finder: FaceFinder, scene: Scene) -> None:
    upright = scene.frame(360, 288, (180.0, 144.0, 0.5))
    upside_down = YuvFrame(*(plane[::-1, ::-1].copy() for plane in upright))
    doubtful = finder.find_all(upside_down, COLOUR)
    assert [face.box.contains(180, 144) for face in doubtful] == [True]
    assert finder.find(upside_down, COLOUR, FaceChoice()) == (None, [])
    assert finder.find(upside_down, COLOUR, FaceChoice.parse("point:180,144")) == (None, [])
    assert finder.find(upright, COLOUR, FaceChoice())[0] is not None
    assert finder.find(scene.frame(400, 300), COLOUR, FaceChoice()) == (None, [])


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_tiles_cover_the_frame(scene: Scene, level: int) -> None:
    frame = scene.frame(640, 362)
    x, y, width, height = windows = np.transpose([tuple(window) for window in tiles(frame, level)])
    assert len(x) == (2 * level - 1) ** 2
    assert x.min() == y.min() == 0 and (x + width).max() >= 638 and (y + height).max() >= 360
    assert (windows % 2 == 0).all()


def appearance(finder: FaceFinder, frame: YuvFrame, colour: ColourTags) -> NDArray[np.float32]:
    face, _ = finder.find(frame, colour, FaceChoice())
    assert face is not None
    return appearance_of(frame, face.points)


def lit(frame: YuvFrame, gain: float, slope: float) -> YuvFrame:
    luma = frame.y * (gain + slope * np.linspace(-1, 1, frame.y.shape[1]))
    return YuvFrame(luma.clip(16, 235).astype(np.uint8), frame.u, frame.v)


def test_appearance_is_the_same_in_other_light_and_size(finder: FaceFinder, scene: Scene) -> None:
    frame = scene.frame(480, 360, (240.0, 180.0, 0.6))
    first = appearance(finder, frame, COLOUR)
    assert first.shape == (APPEARANCE_SIZE,)
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-5)
    for other in (scene.frame(480, 360, (180.0, 200.0, 0.3)), lit(frame, 0.6, 0.0), lit(frame, 0.9, 0.25)):
        assert likeness(appearance(finder, other, COLOUR), first[None]) > 0.75
    assert likeness(first, np.empty((0, APPEARANCE_SIZE))) == -1


def test_likeness_tells_six_talkers_apart(finder: FaceFinder, shared_clips: Path) -> None:
    known, seen = {}, {}
    for clip in sorted(shared_clips.glob("grid_talker*.mp4")):
        info, frames = read_film(clip, range(0, 75, 10))
        appearances = [appearance(finder, frame, info.colour) for frame in frames]
        known[clip.stem], seen[clip.stem] = appearances[:1], appearances[1:]
    assert len(known) == 6
    for name, appearances in seen.items():
        for one in appearances:
            scores = {other: likeness(one, np.array(known[other])) for other in known}
            assert scores[name] > SAME_PERSON
            assert max(score for other, score in scores.items() if other != name) < scores[name] - CLEAR_LEAD


def unit(*values: float) -> NDArray[np.float64]:
    vector = np.zeros(APPEARANCE_SIZE)
    vector[: len(values)] = values
    return vector / np.linalg.norm(vector)


def test_recognise_is_sure_of_one_clear_face_only() -> None:
    person = Person.of(unit(1))
    assert person.recognise([unit(0, 1), unit(1, 0.3)]) == ([1], True)
    assert person.recognise([unit(0, 1), unit(0.3, 1)]) == ([], False)
    assert person.recognise([unit(1, 0.5), unit(1, 0.3)]) == ([1, 0], False)
    other = Person.of(unit(1), [unit(1, 1)])
    assert other.recognise([unit(1, 0.1)]) == ([0], True)
    assert other.recognise([unit(1, 0.6)]) == ([0], False), "it is as much like another"


def test_learn_adds_new_views_of_the_person_only() -> None:
    person = Person.of(unit(1))
    assert len(person.learn(unit(1, 0.1)).appearances) == 1
    assert len(person.learn(unit(0, 1)).appearances) == 1
    turned = unit(1, 1)
    learnt = person.learn(turned)
    assert len(learnt.appearances) == 2
    assert learnt.likeness(unit(0.3, 1)) > person.likeness(unit(0.3, 1)) + 0.3
    assert STILL_SAME < SAME_PERSON
    for number in range(3, 30):
        learnt = learnt.learn(unit(1, *[0] * number, 1))
    assert len(learnt.appearances) == 6


def test_is_same_person_needs_most_frames_to_be_alike() -> None:
    known, other = np.eye(APPEARANCE_SIZE)[:2]
    for num_alike, is_same in ((6, True), (4, True), (2, False), (0, False)):
        seen = np.array([0.8 * known + 0.6 * other] * num_alike + [other] * (6 - num_alike))
        assert is_same_person(seen, known[None]) is is_same


SMALL, LARGE, MIDDLE = (
    FaceBox(x, 50.0, size, size, 0.0, 0.9) for x, size in ((20.0, 10.0), (100.0, 40.0), (200.0, 20.0))
)
FACES = [SMALL, LARGE, MIDDLE]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((text, LARGE) for text in ("largest", "", "index:0", "box:0,0,120,100")),
        *((text, MIDDLE) for text in ("1", "point: 199.5, 50", "box:180,30,220,70")),
        *((text, SMALL) for text in ("index:2", "point:22,48")),
        *((text, None) for text in ("3", "point:150,50", "box:0,80,10,90", "person:2", "Speaking")),
    ],
)
def test_pick_returns_the_chosen_face(text: str, expected: FaceBox | None) -> None:
    choice = FaceChoice.parse(text)
    assert choice.pick(FACES) is expected and choice.pick([]) is None
    assert FaceChoice.parse(str(choice)) == choice
    assert choice.is_person == text.lower().startswith(("person", "speaking"))


def test_parse_other_text_is_refused() -> None:
    texts = ["smallest", "-1", "index:x", "point:1", "point:1,2,3", "box:1,2,3", "box:5,5,1,9", "nan"]
    for text in (*texts, "person:", "person:-1", "speaking:1"):
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
    with pytest.raises(OptionError, match="no value together with face_image, found '2'"):
        recorded_face("2", "a" * 64)


def test_pick_of_a_known_appearance_is_none() -> None:
    like = FaceChoice.like(np.array([0.6, 0.8]))
    assert like.pick(FACES) is None and "known appearance" in str(like)
