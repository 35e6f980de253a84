import numpy as np
import pytest
from numpy.typing import NDArray

from models.face.appearance import APPEARANCE_SIZE
from models.people.identities import identify
from models.people.scan import FaceRows
from models.track.shots import NUM_SCENE_VALUES

RNG = np.random.default_rng(7)
FPS = 25.0


def appearance(seed: int, similarity: float = 0.8) -> NDArray[np.float16]:
    """An appearance of person `seed`; those of one person have about this similarity squared."""
    own = np.random.default_rng(seed).normal(size=APPEARANCE_SIZE)
    other = RNG.normal(size=APPEARANCE_SIZE)
    mixed = similarity * own / np.linalg.norm(own) + (1 - similarity**2) ** 0.5 * other / np.linalg.norm(other)
    return np.asarray(mixed / np.linalg.norm(mixed), np.float16)


def scan(num_frames: int, *tracks: tuple[range, float, list[NDArray[np.float16]]], size: float = 50.0) -> FaceRows:
    """A scan with one track for each (frames, x of the face, appearances)."""
    seen = sorted((frame, number) for number, (frames, _, _) in enumerate(tracks) for frame in frames)
    frame, track = np.array(seen, np.int32).reshape(-1, 2).T
    left = np.array([tracks[number][1] for number in track], np.float32)
    box = np.stack([left, np.zeros_like(left), left + size, np.full_like(left, size)], 1)
    appearances = [(number, each) for number, (_, _, some) in enumerate(tracks) for each in some]
    return FaceRows(
        frame=frame,
        track=track,
        box=box,
        degrees=np.zeros((len(frame), 2), np.float32),
        eye_distance=np.full(len(frame), size / 2, np.float32),
        mouth=np.zeros((len(frame), 8), np.float32),
        appearance_track=np.array([number for number, _ in appearances], np.int32),
        appearance=np.array([each for _, each in appearances], np.float16).reshape(-1, APPEARANCE_SIZE),
        scenes=np.zeros((num_frames, NUM_SCENE_VALUES), np.uint8),
    )


def frames_of(rows: FaceRows) -> list[list[int]]:
    return [rows.frame[person.rows].tolist() for person in identify(rows, FPS)]


def test_identify_person_after_a_cut_is_the_same() -> None:
    anna, ben = [appearance(1) for _ in range(3)], [appearance(2) for _ in range(3)]
    rows = scan(90, (range(30), 0, anna[:2]), (range(30, 60), 0, ben), (range(60, 90), 300, anna[2:]))
    assert frames_of(rows) == [[*range(30), *range(60, 90)], [*range(30, 60)]]
    rows = scan(30, (range(30), 0, [appearance(1, 1.0)]), (range(20), 100, [appearance(1, 1.0)]))
    assert frames_of(rows) == [[*range(30)], [*range(20)]], "two faces of one frame are two people"


def test_identify_lost_track_continues_at_its_place() -> None:
    """Its appearance changed, and the face is in the same place a moment later; or in another place."""
    early, late = appearance(1, 0.6), appearance(1, 0.6)
    assert 0.25 < float(early.astype(np.float32) @ late.astype(np.float32)) < 0.5
    near, far = (frames_of(scan(60, (range(25), 0, [early]), (range(30, 60), x, [late]))) for x in (10, 200))
    assert near == [[*range(25), *range(30, 60)]] and len(far) == 2
    without_appearance = scan(60, (range(30), 0, [appearance(1)]), (range(32, 60), 5, []), (range(60), 300, []))
    assert frames_of(without_appearance) == [[*range(30), *range(32, 60)]]


def test_identify_orders_people_and_drops_short_tracks() -> None:
    assert frames_of(scan(50, (range(4), 0, [appearance(1)]))) == []
    assert frames_of(scan(1, (range(1), 0, [appearance(1)]))) == [[0]], "a still"
    assert frames_of(scan(3)) == []
    rows = scan(50, (range(20), 0, [appearance(1)]), (range(50), 200, [appearance(2)]))
    assert [len(frames) for frames in frames_of(rows)] == [50, 20]


def test_identify_keeps_different_appearances() -> None:
    many = [appearance(1, 0.95) for _ in range(20)]
    odd = appearance(1, 0.75)
    (person,) = identify(scan(50, (range(50), 0, [*many, odd])), FPS)
    assert person.appearances.shape == (6, APPEARANCE_SIZE)
    assert (person.appearances == odd).all(1).any()


def test_identify_many_tracks_join_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the largest are compared with one another; the others join them, or nobody."""
    monkeypatch.setattr("models.people.identities._MAX_COMPARED", 2)
    whole = [(range(100), 0.0, [appearance(1)]), (range(100), 200.0, [appearance(2)])]
    short = [(range(110 + 10 * k, 115 + 10 * k), 0.0, [appearance(1 + k % 3)]) for k in range(30)]
    people = frames_of(scan(420, *whole, *short))
    assert len(people) == 2
    for number, frames in enumerate(people):
        joined = [frame for k in range(number, 30, 3) for frame in range(110 + 10 * k, 115 + 10 * k)]
        assert frames == [*range(100), *joined]
