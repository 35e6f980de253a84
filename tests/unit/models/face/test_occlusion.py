from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.media.yuv_frame import from_rgb, to_rgb
from models.face.choice import FaceChoice
from models.face.lower_face import CELLS
from models.face.occluder_mask import UncoveredFace
from models.face.occlusion import AROUND_MOUTH, MIN_FRAMES, NUM_AROUND_MOUTH, UPPER_FACE, occluded
from models.geometry import head_frame
from models.mouth.shape import OPEN_MOUTH
from models.track.face_track import finish_track
from models.track.raw_landmarks import RawLandmarks
from models.track.tracker import FaceTracker
from tests.unit.models.conftest import Filmed
from tests.unit.models.films import mean_faces, read_film
from tests.unit.models.occluding_objects import OBJECTS, Passage

SKIN, LIPS, DARK = np.array([150, 112, 150]), np.array([110, 115, 170]), np.array([30, 124, 134])


def view(opening: int, seed: int = 0) -> NDArray[np.float32]:
    """A lower face, brighter at the top, with a mouth that is open by some cells."""
    y = np.arange(CELLS)[:, None, None]
    picture = np.asarray(SKIN + np.array([-0.25, 0, 0]) * (y - CELLS / 2) + np.zeros((CELLS, CELLS, 3)), np.float32)
    cv2.ellipse(picture, (48, 48), (20, 6 + opening), 0, 0, 360, LIPS.tolist(), -1)
    if opening:
        cv2.ellipse(picture, (48, 48), (15, opening), 0, 0, 360, DARK.tolist(), -1)
    return np.asarray(picture + np.random.default_rng(seed).normal(0, 0.7, picture.shape), np.float32)


@pytest.fixture(scope="module")
def face() -> UncoveredFace:
    return UncoveredFace(np.stack([view(opening, seed) for seed, opening in enumerate((0, 1, 2, 3, 4, 5, 2, 0))]))


def arm(thickness: int, end: tuple[int, int]) -> NDArray[np.bool_]:
    drawn = np.zeros((CELLS, CELLS), np.uint8)
    cv2.line(drawn, (95, 80), end, 1, thickness)
    return drawn > 0


def overlap(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    return float((found & true).sum() / (found | true).sum())


@pytest.mark.parametrize("thickness", [10, 22, 34])
def test_occluder_outlines_an_object(face: UncoveredFace, thickness: int) -> None:
    for colour in ((60, 128, 128), (200, 128, 128), (150, 150, 100), (110, 112, 150)):
        shown, true = view(2, seed=50), arm(thickness, (40, 50))
        shown[true] = colour
        assert overlap(face.occluder(shown), true) > 0.85
    shown, true = view(2, seed=51), arm(30, (48, 50))
    inside = cv2.erode(true.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    shown[true] = view(0, seed=52)[np.roll(true, (30, 0), (0, 1))].mean(0)  # skin, in an outline
    shown[true & ~inside] -= [30, 0, 0]
    assert overlap(face.occluder(shown), true) > 0.85


@pytest.mark.parametrize(("opening", "gain"), [(0, 1), (3, 1), (12, 1), (2, 1.03)])
def test_occluder_of_an_open_mouth_or_light_is_empty(face: UncoveredFace, opening: int, gain: float) -> None:
    assert not face.occluder(view(opening, seed=53) * np.array([gain, 1, 1], np.float32)).any()


def test_occluder_of_unsteady_face_needs_more_contrast() -> None:
    shaking = UncoveredFace(np.stack([view(2, seed) + 25 * seed for seed in range(9)]).astype(np.float32))
    steady = UncoveredFace(np.stack([view(2, seed) for seed in range(9)]))
    shown, true = view(2, seed=60), arm(22, (40, 50))
    shown[true] += [12, 0, 0]
    assert overlap(steady.occluder(shown), true) > 0.8
    assert not shaking.occluder(shown).any()
    with pytest.raises(ValueError, match="K > 1"):
        UncoveredFace(view(0)[None])


Picture = NDArray[np.uint8]  # (H, W, 3) RGB
Light = Callable[[Picture, int], Picture]
YELL = range(40, 48)
NUM_TURNED = 60


class Clip:
    """The first frames of the sample video, as they are or changed."""

    def __init__(self, filmed: Filmed, tracker: FaceTracker) -> None:
        self._colour, self._tracker, self.points = filmed.info.colour, tracker, filmed.raw.points[:64]
        self.pictures = [to_rgb(frame, filmed.info.colour) for frame in filmed.frames[:64]]

    def track(self, pictures: Iterable[Picture]) -> RawLandmarks:
        frames = [from_rgb(each, self._colour) for each in pictures]
        return self._tracker.track_chunk(frames, self._colour, FaceChoice(), None)[0]

    def passing(self, passage: Passage) -> tuple[list[Picture], NDArray[np.float64]]:
        """The pictures with something that passes, and how much of the lips it hides in each."""
        drawn = [passage.draw(i, *each) for i, each in enumerate(zip(self.pictures, self.points, strict=True))]
        return [picture for picture, _ in drawn], np.array([share for _, share in drawn])

    def yelling(self) -> list[Picture]:
        sizes = np.sin(np.linspace(0, np.pi, len(YELL) + 2))[1:-1] * 0.3
        pictures = list(self.pictures)
        for frame, size in zip(YELL, sizes, strict=True):
            pictures[frame] = yelling(pictures[frame], self.points[frame], float(size))
        return pictures


@pytest.fixture(scope="module")
def clip(filmed_sample: Filmed, tracker: FaceTracker) -> Clip:
    return Clip(filmed_sample, tracker)


def found(raw: RawLandmarks) -> NDArray[np.bool_]:
    assert raw.chroma is not None
    return occluded(raw.chroma, raw.points, raw.present, np.zeros(len(raw.present), np.int32))


def yelling(picture: Picture, points: NDArray[np.float32], opening: float) -> Picture:
    """Drops the jaw by `opening` eye distances; teeth, tongue and a dark throat show between the lips."""
    unit = float(np.linalg.norm(points[head_frame.EYE_LEFT, :2] - points[head_frame.EYE_RIGHT, :2]))
    middle = points[[*head_frame.INNER_UPPER, *head_frame.INNER_LOWER], :2].mean(0)
    width = float(np.linalg.norm(points[78, :2] - points[308, :2]))
    height, columns = picture.shape[:2]
    y, x = np.mgrid[:height, :columns].astype(np.float32)
    drop = opening * unit * np.exp(-(((x - middle[0]) / (0.75 * width)) ** 2)) * (y > middle[1])
    drop *= np.clip(1.6 - (y - middle[1]) / (1.4 * unit), 0, 1)
    opened = cv2.remap(picture, x, np.where(y - drop > middle[1], y - drop, y), cv2.INTER_LINEAR)
    inside = (y > middle[1]) & (y < middle[1] + drop) & (np.abs(x - middle[0]) < 0.5 * width)
    teeth = inside & (y < middle[1] + 0.25 * drop)
    tongue = inside & (y > middle[1] + 0.7 * drop)
    drawn = opened.copy()
    drawn[inside], drawn[teeth], drawn[tongue] = (45, 18, 18), (225, 220, 205), (150, 70, 70)
    near = cv2.dilate(inside.astype(np.uint8), np.ones((3, 3)))[..., None] > 0
    return np.where(near, cv2.GaussianBlur(drawn, (0, 0), 1.0), opened).astype(np.uint8)


def wandering_lamp(picture: Picture, frame: int) -> Picture:
    """A lamp at one side, four times as bright there as at the other; the border of its light wanders."""
    across = np.arange(picture.shape[1]) / picture.shape[1] - 0.5 - 0.2 * np.sin(2 * np.pi * frame / 55)
    light = 0.3 + 0.95 / (1 + np.exp(-across / 0.08))
    return np.asarray((picture * light[None, :, None]).clip(0, 255), np.uint8)


def dim(picture: Picture, frame: int) -> Picture:
    noise = np.random.default_rng(frame).normal(0, 3, picture.shape)
    return np.asarray((picture * 0.25 + noise).clip(0, 255), np.uint8)


def grey(picture: Picture, frame: int) -> Picture:
    return np.repeat(picture.mean(2, keepdims=True), 3, 2).astype(np.uint8)


def test_occluded_yell_is_not_found(clip: Clip) -> None:
    raw = clip.track(clip.yelling())
    opening = finish_track(raw.points, raw.present).shape[:, 0]
    assert opening[43] > 4 * OPEN_MOUTH  # the tracker sees it
    assert not found(raw).any()


@pytest.mark.parametrize("light", [wandering_lamp, dim, grey])
def test_occluded_light_and_noise_are_not_found(clip: Clip, light: Light) -> None:
    assert not found(clip.track(light(picture, frame) for frame, picture in enumerate(clip.yelling()))).any()


@pytest.mark.parametrize("thing", OBJECTS)
def test_occluded_object_is_found(clip: Clip, thing: str) -> None:
    passage = Passage(thing, start=35, num_coming=5, num_staying=12, seed=1)
    pictures, hidden = clip.passing(passage)
    raw = clip.track(pictures)
    hits = found(raw)
    assert (hidden > 0.6).sum() >= passage.num_staying
    assert hits[hidden > 0.6].mean() > 0.8
    assert not hits[: passage.start].any() and not hits[passage.stop :].any()
    covered, absent, few = np.flatnonzero(hits), raw.present.copy(), np.zeros_like(raw.present)
    absent[covered[3:6]] = False
    assert not found(raw._replace(present=absent))[covered[3:6]].any()
    first = covered[0] - MIN_FRAMES // 2
    few[first : first + MIN_FRAMES - 1] = True
    assert not found(raw._replace(present=few)).any()


def turned_heads(hidden: range) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Chroma and landmarks of a head with red lips that turns in `hidden`; there, its outline shows a green wall."""
    points = mean_faces(200, 150, 100, np.where(np.isin(np.arange(NUM_TURNED), hidden), 28.0, 0.0))
    is_lip = np.isin([*AROUND_MOUTH, *UPPER_FACE], [*head_frame.MIDDLE_UPPER, *head_frame.MIDDLE_LOWER])
    chroma = np.where(is_lip[:, None], (118, 146), (118, 140)).astype(np.uint8)[None].repeat(NUM_TURNED, 0)
    for frame in hidden:
        outline = cv2.convexHull(np.ascontiguousarray(points[frame, :, :2]))
        inside = [cv2.pointPolygonTest(outline, place, True) for place in points[frame, AROUND_MOUTH, :2].tolist()]
        chroma[frame, :NUM_AROUND_MOUTH][np.array(inside) < 10.0] = 128
    return chroma, points


def test_occluded_wall_beside_a_turned_head_is_not_found() -> None:
    chroma, points = turned_heads(range(30, 40))
    all_frames, one_shot = np.ones(NUM_TURNED, bool), np.zeros(NUM_TURNED, np.int32)
    assert (chroma[35, :NUM_AROUND_MOUTH] == 128).all(-1).sum() >= 8
    assert not occluded(chroma, points, all_frames, one_shot).any()
    chroma[30:40, :NUM_AROUND_MOUTH] = (118, 140)  # a hand
    assert occluded(chroma, points, all_frames, one_shot)[30:40].all()


def test_occluded_clear_talkers_are_not_found(tracker: FaceTracker, shared_clips: Path) -> None:
    for path in sorted([*shared_clips.glob("grid_talker[1-5].mp4"), *shared_clips.glob("wild/*.mp4")]):
        info, frames = read_film(path, range(30))
        assert not found(tracker.track_chunk(frames, info.colour, FaceChoice(), None)[0]).any(), path.stem
