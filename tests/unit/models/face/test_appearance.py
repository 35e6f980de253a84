from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from config import MediaLimits
from media.probe import ColourTags, probe_video
from media.reader import FrameReader
from media.yuv_frame import YuvFrame
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
from models.face.choice import FaceChoice
from models.face.finder import FaceFinder
from tests.unit.models.conftest import COLOUR, Scene


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
        info = probe_video(clip, MediaLimits())
        with FrameReader(clip, info, 2**24) as reader:
            frames = list(reader.read(np.linspace(0, info.num_frames - 1, 8).astype(int).tolist()))
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


@pytest.mark.parametrize(("num_alike", "is_same"), [(6, True), (4, True), (2, False), (0, False)])
def test_is_same_person_needs_most_frames_to_be_alike(num_alike: int, is_same: bool) -> None:
    known, other = np.eye(APPEARANCE_SIZE)[:2]
    seen = np.array([0.8 * known + 0.6 * other] * num_alike + [other] * (6 - num_alike))
    assert is_same_person(seen, known[None]) is is_same
