import pickle
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from lipwright.errors import FaceNotFoundError
from lipwright.media.yuv_frame import YuvFrame
from models.face.appearance import appearance_of
from models.face.choice import FaceChoice
from models.face.finder import box_of_points
from models.geometry.head_frame import EYE_LEFT, EYE_RIGHT
from models.track.raw_landmarks import RawLandmarks, SkipReason
from models.track.shots import scene_of, shots_of
from models.track.tracker import FaceTracker, TrackState, see
from tests.unit.models.conftest import COLOUR, Scene
from tests.unit.models.films import read_film

RNG = np.random.default_rng(3)


def scenery() -> YuvFrame:
    """(180, 320) soft blots."""
    luma = cv2.GaussianBlur(RNG.normal(0, 1, (180, 320)), (0, 0), 12)
    luma = (110 + 45 * luma / luma.std()).clip(16, 235)
    return YuvFrame(luma.astype(np.uint8), *(RNG.integers(100, 150, (90, 160), dtype=np.uint8) for _ in range(2)))


def seen(planes: YuvFrame, shift: tuple[int, int] = (0, 0), gain: float = 1.0, noise: float = 2.0) -> YuvFrame:
    """A frame of the scenery with sensor noise, panned and lit."""
    luma = np.roll(planes.y, shift, (0, 1)).astype(float) * gain + RNG.normal(0, noise, planes.y.shape)
    return planes._replace(y=luma.clip(0, 255).astype(np.uint8))


HERE, THERE = scenery(), scenery()
BLACK = YuvFrame(np.full((180, 320), 16, np.uint8), *(np.full((90, 160), 128, np.uint8),) * 2)


def starts(frames: Iterable[YuvFrame]) -> list[int]:
    return (np.flatnonzero(np.diff(shots_of(np.array([scene_of(frame) for frame in frames])))) + 1).tolist()


def test_shots_of_cuts_start_new_shots() -> None:
    there, before, after = ([seen(place) for _ in range(12)] for place in (THERE, HERE, HERE))
    assert starts([*before, *there, *after]) == [12, 24]
    assert starts([*before, seen(HERE, gain=2.2), seen(HERE, gain=1.6), *after]) == [], "a flash"
    assert starts([*before, BLACK, BLACK, BLACK, *after]) == []
    assert starts([*before, *[BLACK] * 9, *after]) == [12, 21]
    assert starts([seen(HERE, (0, 6 * max(0, i - 10))) for i in range(30)]) == []
    assert starts([seen(HERE, gain=0.7 if i > 15 else 1.0) for i in range(30)]) == []
    assert starts([seen(HERE)]) == []


def test_shots_of_real_clip_finds_its_cuts(shared_clips: Path) -> None:
    frames = read_film(shared_clips / "grid_talker6_long.mp4", range(240)).frames
    assert starts(frames) == [76, 151, 226], "every three seconds of a picture that begins one frame late"


@pytest.mark.parametrize(("height", "width"), [(36, 64), (1080, 1920)])
def test_scene_of_frames_of_any_size(height: int, width: int) -> None:
    ramp, grey = np.linspace(20, 220, width).astype(np.uint8), np.full((height // 2, width // 2), 128, np.uint8)
    frame = YuvFrame(np.tile(ramp, (height, 1)), grey, grey)
    luma = scene_of(frame)[:576].reshape(18, 32).astype(int)
    assert np.allclose(luma, np.linspace(23, 217, 32), atol=4)


LARGEST = FaceChoice()


def moving(scene: Scene, num_frames: int) -> list[YuvFrame]:
    """The portrait, three pixels to the right with each frame."""
    return [scene.frame(480, 360, (200.0 + 3 * i, 180.0, 0.5)) for i in range(num_frames)]


def test_track_chunk_follows_a_moving_face(tracker: FaceTracker, scene: Scene) -> None:
    raw, _ = tracker.track_chunk(moving(scene, 12), COLOUR, LARGEST, None)
    assert raw.points.shape == (12, 468, 3) and raw.present.all()
    eyes = np.linalg.norm(raw.points[0, EYE_LEFT] - raw.points[0, EYE_RIGHT])
    path = raw.points[..., :2].mean(1)
    assert np.abs(path - path[0] - np.arange(12)[:, None] * [3.0, 0.0]).max() / eyes < 0.025


def _squeezed(frame: YuvFrame, width: int) -> YuvFrame:
    """The same picture in fewer or more columns."""
    rows = frame.y.shape[0]
    sizes = ((width, rows), (width // 2, rows // 2), (width // 2, rows // 2))
    planes = (cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane, size in zip(frame, sizes, strict=True))
    return YuvFrame(*(np.asarray(plane, np.uint8) for plane in planes))


@pytest.mark.parametrize(("width", "choice"), [(270, "largest"), (360, "point:140,180"), (640, "box:200,80,340,280")])
def test_track_chunk_pixel_aspect_keeps_shape(tracker: FaceTracker, scene: Scene, width: int, choice: str) -> None:
    frames = moving(scene, 3)
    square, _ = tracker.track_chunk(frames, COLOUR, LARGEST, None)
    squeezed = [_squeezed(frame, width) for frame in frames]
    raw, state = tracker.track_chunk(squeezed[:1], COLOUR, FaceChoice.parse(choice), None, 480 / width)
    more, _ = tracker.track_chunk(squeezed[1:], COLOUR, FaceChoice.parse(choice), state, 480 / width)
    points = RawLandmarks.concatenate([raw, more]).points.astype(np.float64)
    points[..., 0] = (points[..., 0] + 0.5) * 480 / width - 0.5
    eyes = np.linalg.norm(square.points[0, EYE_LEFT] - square.points[0, EYE_RIGHT])
    off = np.abs(points - square.points) / eyes
    assert off.mean() < 0.01 and off.max() < 0.05


def test_track_chunk_in_chunks_equals_one_run(tracker: FaceTracker, scene: Scene) -> None:
    frames = moving(scene, 9)
    frames[4:6] = [scene.frame(480, 360)] * 2
    whole, _ = tracker.track_chunk(frames, COLOUR, LARGEST, None)
    chunks, state = [], None
    for start, stop in pairwise((0, 2, 5, 8, 9)):
        chunk, state = tracker.track_chunk(frames[start:stop], COLOUR, LARGEST, state)
        state = pickle.loads(pickle.dumps(state))
        chunks.append(chunk)
    joined = RawLandmarks.concatenate(chunks)
    assert np.array_equal(joined.points, whole.points) and np.array_equal(joined.present, whole.present)
    assert len(pickle.dumps(state)) < 14_000


def test_track_chunk_absent_late_or_missing_face(tracker: FaceTracker, scene: Scene) -> None:
    shown, empty = scene.frame(480, 360, (240.0, 180.0, 0.5)), scene.frame(480, 360)
    raw, _ = tracker.track_chunk([shown] * 2 + [empty] * 5 + [shown] * 4, COLOUR, LARGEST, None)
    assert raw.present[:2].all() and not raw.present[2:7].any() and raw.present[-1]
    assert all(np.array_equal(points, raw.points[1]) for points in raw.points[2:7])
    first, state = tracker.track_chunk([empty] * 3, COLOUR, LARGEST, None)
    assert not first.present.any() and not first.points.any()
    later, _ = tracker.track_chunk([shown] * 4, COLOUR, LARGEST, state)
    assert later.present[-1]
    with pytest.raises(FaceNotFoundError, match=r"'index:3'.*1 face .*pixels at"):
        tracker.track_chunk([shown], COLOUR, FaceChoice.parse("3"), None)
    with pytest.raises(ValueError, match="at least one frame"):
        tracker.track_chunk([], COLOUR, LARGEST, None)


def test_track_chunk_lost_face_is_not_replaced_by_another(tracker: FaceTracker, scene: Scene) -> None:
    left, right = (130.0, 180.0, 0.42), (500.0, 180.0, 0.45)
    both, only_right = scene.frame(640, 360, left, right), scene.frame(640, 360, right)
    choice = FaceChoice.parse("index:1")
    raw, state = tracker.track_chunk([both] * 2 + [only_right] * 25, COLOUR, choice, None)
    assert box_of_points(raw.points[0], 1.0).contains(130, 180)
    assert not raw.present[2:].any()
    again, _ = tracker.track_chunk([both] * 12, COLOUR, choice, state)
    assert again.present[-1] and box_of_points(again.points[-1], 1.0).contains(130, 180)


def test_track_chunk_follows_the_reference_person(tracker: FaceTracker, scene: Scene) -> None:
    choice = tracker.reference(scene.frame(480, 360, (240.0, 180.0, 0.7)), COLOUR)
    assert FaceChoice.like(np.array(choice.numbers)) == choice
    assert pickle.loads(pickle.dumps(choice)) == choice
    empty, shown = scene.frame(640, 360), scene.frame(640, 360, (420.0, 180.0, 0.45))
    raw, _ = tracker.track_chunk([empty] * 3 + [shown] * 4, COLOUR, choice, None)
    assert raw.present.tolist() == [False] * 3 + [True] * 4
    assert box_of_points(raw.points[-1], 1.0).contains(420, 180)
    for places in ((), ((120.0, 180.0, 0.4), (360.0, 180.0, 0.4))):
        with pytest.raises(FaceNotFoundError, match=f"one face in the reference picture, found {len(places)} face"):
            tracker.reference(scene.frame(480, 360, *places), COLOUR)


def test_track_chunk_tells_twins_apart_by_place(tracker: FaceTracker, scene: Scene) -> None:
    frames = [scene.frame(640, 320, (160.0, 160.0, 0.4), (480.0, 160.0, 0.4))] * 8
    faces = tracker.finder.find_all(frames[0], COLOUR)
    assert len(faces) == 2
    appearance = appearance_of(frames[0], faces[0].points)
    for face in faces:
        box = [*face.points[:, :2].min(0), *face.points[:, :2].max(0)]
        choice = FaceChoice.like(appearance, appearance[None], np.array([2, *box]))
        raw, _ = tracker.track_chunk(frames, COLOUR, choice, None)
        assert raw.present.tolist() == [False] * 5 + [True] * 3, "from the first search after frame 2 on"
        assert np.abs(raw.points[5:, :, 0].mean(1) - face.box.center_x).max() < 10
    unknown, _ = tracker.track_chunk(frames, COLOUR, FaceChoice.like(appearance, appearance[None]), None)
    assert not unknown.present.any(), "without the place nobody is taken"


def test_track_chunk_finds_the_person_after_a_cut(tracker: FaceTracker, scene: Scene) -> None:
    before, after = scene.frame(640, 360, (150.0, 180.0, 0.5)), scene.frame(640, 360, (480.0, 170.0, 0.35))
    raw, _ = tracker.track_chunk([before] * 4 + [after] * 4, COLOUR, LARGEST, None)
    assert raw.present.all()
    assert box_of_points(raw.points[4], 1.0).contains(480, 170)
    assert raw.scenes is not None
    assert shots_of(raw.scenes).tolist() == [0] * 4 + [1] * 4


@pytest.fixture(scope="module")
def talkers(shared_clips: Path) -> list[list[YuvFrame]]:
    """Twelve frames of each of two talkers."""
    return [read_film(shared_clips / f"grid_talker{number}.mp4", range(12)).frames for number in (1, 5)]


def beside(left: list[YuvFrame], right: list[YuvFrame]) -> list[YuvFrame]:
    pairs = zip(left, right, strict=True)
    return [YuvFrame(*(np.concatenate(planes, 1) for planes in zip(*pair, strict=True))) for pair in pairs]


def test_track_chunk_cut_to_another_person_is_skipped(tracker: FaceTracker, talkers: list[list[YuvFrame]]) -> None:
    one, other = talkers
    raw, _ = tracker.track_chunk([*one[:8], *other[:8], *one[8:]], COLOUR, LARGEST, None)
    assert raw.reasons is not None
    assert raw.reasons.tolist() == [SkipReason.NONE] * 8 + [SkipReason.OTHER_PERSON] * 8 + [SkipReason.NONE] * 4


def test_track_chunk_tells_two_people_apart(tracker: FaceTracker, talkers: list[list[YuvFrame]]) -> None:
    one, other = talkers
    frames = beside(one[:6], other[:6]) + beside(other[6:], one[6:])
    raw, _ = tracker.track_chunk(frames, COLOUR, FaceChoice.parse("point:170,150"), None)
    assert raw.present.all() and (raw.points[:, :, 0].mean(1) > 360).tolist() == [False] * 6 + [True] * 6
    for person, is_left in ((one, True), (other, False)):
        choice = tracker.reference(person[11], COLOUR)
        raw, _ = tracker.track_chunk(beside(one[:2], other[:2]), COLOUR, choice, None)
        assert raw.present.all() and (raw.points[:, :, 0].mean() < 360) == is_left
    absent, _ = tracker.track_chunk(other[:6], COLOUR, tracker.reference(one[11], COLOUR), None)
    assert not absent.present.any()


def test_track_chunk_face_blended_into_another_is_lost(tracker: FaceTracker, talkers: list[list[YuvFrame]]) -> None:
    one, other = talkers
    a, b = one[0], other[0]
    blends = [
        YuvFrame(*(np.rint(p * (1 - share) + q * share).astype(np.uint8) for p, q in zip(a, b, strict=True)))
        for share in np.linspace(0, 1, 20)
    ]
    raw, _ = tracker.track_chunk([a] * 6 + blends + [b] * 12, COLOUR, LARGEST, None)
    assert raw.present[:8].all() and not raw.present[-4:].any()


def cuts(frames: list[YuvFrame]) -> list[int]:
    """Frames at which whatever was followed is given up."""
    state, found = TrackState(None, None, None), []
    for number, frame in enumerate(frames):
        state = see(frame, state)
        if state.scenes is not None and state.scenes.is_cut:
            found.append(number)
    return found


def test_see_cut_or_flash_is_a_cut() -> None:
    here, there = [seen(HERE) for _ in range(12)], [seen(THERE) for _ in range(12)]
    assert cuts([*here, *there, *here]) == [12, 24]
    assert cuts([*here, *there[:1], *here]) == [12, 13]  # there and back
    assert cuts([*here, *there[:3], *here]) == [12, 15]


@pytest.mark.parametrize(("reach", "gain", "noise"), [(8, 0.06, 6.0), (24, 1.0, 2.0)])
def test_see_shaking_camera_is_no_cut(reach: int, gain: float, noise: float) -> None:
    shaken = [seen(HERE, (shift // 2, shift), gain, noise) for shift in RNG.integers(-reach, reach, 40).tolist()]
    assert max(cuts(shaken), default=0) <= 3  # its first steps look like cuts
