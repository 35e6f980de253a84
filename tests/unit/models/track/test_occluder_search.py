from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.material import FramesInMemory
from lipwright.media.probe import ColourTags
from lipwright.media.yuv_frame import Patch, YuvFrame, cut, from_rgb, to_rgb
from models.face.lower_face import CELLS, HeadFollower, Picture
from models.track.occluder_search import Found, find_occluders
from models.track.occluders import Occluders
from models.track.raw_landmarks import RawLandmarks, SkipReason
from models.track.visibility import Visibility
from tests.unit.models.films import mean_faces
from tests.unit.models.occluding_objects import Passage

SIDE, EYES, NUM, FPS = 160, 60.0, 70, 12.5
COVERED = range(32, 40)
TAGS = ColourTags(matrix=6, full_range=False, primaries=2, transfer=2)
MICROPHONE = Passage("microphone", start=26, num_coming=6, num_staying=8, degrees=80.0)


class Film(NamedTuple):
    raw: RawLandmarks
    clear: list[YuvFrame]
    covered: list[YuvFrame]


@pytest.fixture(scope="module")
def film() -> Film:
    """A textured face that moves and turns, without and with a microphone in front of it."""
    noise = cv2.GaussianBlur(np.random.default_rng(3).normal(0, 1, (2 * SIDE, 2 * SIDE)), (0, 0), 2.0)
    noise *= 18 / noise.std()
    points, clear, covered = np.repeat(mean_faces(SIDE, SIDE, EYES), NUM, 0), [], []
    for frame, face in enumerate(points):
        way = cv2.getRotationMatrix2D((SIDE, SIDE), 4 * np.sin(frame / 11), 1 + 0.03 * np.sin(frame / 7))
        way[:, 2] += [4 * np.sin(frame / 9) - SIDE / 2, 3 * np.cos(frame / 8) - 0.6 * SIDE]
        face[:, :2] = face[:, :2] @ way[:, :2].T + way[:, 2]
        luma = 165 + cv2.warpAffine(noise, way, (SIDE, SIDE))
        rgb = (luma[..., None] * [1.0, 0.8, 0.7]).clip(0, 255).astype(np.uint8)
        clear.append(from_rgb(rgb, TAGS))
        covered.append(from_rgb(MICROPHONE.draw(frame, rgb, face)[0], TAGS))
    return Film(RawLandmarks(points, np.ones(NUM, bool)), clear, covered)


def judged(covered: Iterable[int] = COVERED) -> Visibility:
    reasons = np.full(NUM, SkipReason.NONE, np.uint8)
    reasons[list(covered)] = SkipReason.COVERED
    facing = np.where(reasons == SkipReason.COVERED, np.float32(0.5), np.float32(1))  # a covered face seems turned
    return Visibility(np.zeros(NUM, np.int32), reasons, reasons == SkipReason.NONE, facing)


def search(film: Film, covered: Iterable[int] = COVERED) -> Found:
    """Searches with landmarks that are wrong where the mouth is covered."""
    points = film.raw.points.copy()
    points[list(COVERED)] += 5.0
    return find_occluders(film.raw._replace(points=points), judged(covered), FramesInMemory(film.covered), FPS)


@pytest.fixture(scope="module")
def found(film: Film) -> Found:
    return search(film)


@pytest.fixture(scope="module")
def occluders(found: Found) -> Occluders:
    assert found.occluders is not None
    return found.occluders


def difference(a: YuvFrame, b: YuvFrame) -> NDArray[np.int16]:
    return np.asarray(np.abs(to_rgb(a, TAGS).astype(np.int16) - to_rgb(b, TAGS)).max(-1))


def test_find_occluders_covered_frames_are_shown(film: Film, found: Found, occluders: Occluders) -> None:
    assert (found.judged.skip_reason == SkipReason.NONE).all()
    behind = set(occluders.frames.tolist())
    assert set(COVERED) <= behind
    assert behind <= set(range(MICROPHONE.start, MICROPHONE.stop))
    assert (found.judged.facing == 1).all()
    assert found.judged.visible.tolist() == [frame not in behind for frame in range(NUM)]
    assert np.linalg.norm((found.points - film.raw.points)[..., :2], axis=-1).max() < 0.03 * EYES


def test_find_occluders_masks_cover_the_object(film: Film, occluders: Occluders) -> None:
    for row, frame in enumerate(occluders.frames.tolist()):
        change = difference(film.covered[frame], film.clear[frame]).astype(np.float32)
        flags, border = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP, cv2.BORDER_REPLICATE
        place, size = occluders.places[row], (CELLS, CELLS)
        change = np.asarray(cv2.warpAffine(change, place, size, flags=flags, borderMode=border))
        microphone = change > 60
        with_shadow = cv2.dilate((change > 15).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        mask = occluders.masks[row] > 127
        assert (mask & microphone).sum() > 0.97 * microphone.sum()
        assert (mask & with_shadow).sum() > 0.85 * mask.sum()


def test_without_removes_the_object(film: Film, occluders: Occluders) -> None:
    shown = np.array([10, 36], np.int32)
    frames = [film.covered[frame] for frame in shown]
    clear, whole = occluders.without(shown, frames)
    assert clear is frames[0]
    mouth = film.raw.points[36, [13, 14], :2].mean(0).astype(int)
    near = np.s_[mouth[1] - 8 : mouth[1] + 8, mouth[0] - 8 : mouth[0] + 8]
    assert np.median(difference(frames[1], film.clear[36])[near]) > 50
    assert np.median(difference(whole, film.clear[36])[near]) < 10
    assert np.array_equal(whole.y[:40], frames[1].y[:40])


def test_in_front_keeps_the_object(film: Film, occluders: Occluders) -> None:
    own = film.covered[36]
    generated = Patch(0, 0, YuvFrame(*(np.full_like(plane, 255) for plane in own)))
    shown = occluders.in_front(36, own, generated)
    row = occluders.frames.tolist().index(36)
    points = film.raw.points[36]
    middle, beside = points[[13, 14], :2].mean(0).astype(int), points[205, :2].astype(int)
    assert occluders.masks[row].max() == 255
    assert shown.planes.y[middle[1], middle[0]] == own.y[middle[1], middle[0]]  # the microphone
    assert shown.planes.y[beside[1], beside[0]] > 230  # the cheek
    assert np.array_equal(shown.planes.y[:40], own.y[:40])
    assert occluders.in_front(10, own, generated) is generated


@pytest.mark.parametrize("moved", [(0, -190), (0, 190), (-190, 0), (190, 0)])
def test_without_face_outside_frame_keeps_frame(film: Film, occluders: Occluders, moved: tuple[int, int]) -> None:
    away = replace(occluders, places=occluders.places + np.array([[0, 0, moved[0]], [0, 0, moved[1]]]))
    (whole,) = away.without(np.array([36]), [film.covered[36]])
    for plane, own in zip(whole, film.covered[36], strict=True):
        assert np.array_equal(plane, own)


def test_in_front_patch_outside_the_frame_also_after_load(film: Film, occluders: Occluders, tmp_path: Path) -> None:
    occluders.save(tmp_path / "occluders.npz")
    loaded = Occluders.load(tmp_path / "occluders.npz")
    assert all(np.array_equal(getattr(loaded, name), value) for name, value in vars(occluders).items())
    own = film.covered[36]
    white = YuvFrame(*(np.full_like(plane, 255) for plane in own))
    whole = loaded.in_front(36, own, Patch(0, 0, white))
    shown = loaded.in_front(36, own, Patch(-20, 60, cut(white, -20, 60, 120)))
    assert np.abs(shown.planes.y[:100, 20:].astype(int) - whole.planes.y[60:160, :100]).max() <= 2


def test_find_occluders_without_object_or_clear_frames(film: Film) -> None:
    clear, no_frame_is_read = judged(()), FramesInMemory([])
    assert find_occluders(film.raw, clear, no_frame_is_read, FPS) == Found(film.raw.points, clear, None)
    result = find_occluders(film.raw, judged(), FramesInMemory(film.clear), FPS)
    assert result.occluders is None, "there is no object"
    assert (result.judged.skip_reason == SkipReason.NONE).all()
    assert not result.judged.visible[list(COVERED)].any()  # nothing is learned from them
    result = search(film, range(2, NUM - 2))
    assert result.occluders is None, "there are too few clear frames"
    assert (result.judged.skip_reason == SkipReason.NONE).all()
    # They are turned far, or interpolated in a gap; and a track without a frame that is seen well has no rest.
    seen = judged()
    seen.visible[: COVERED.start - 2] = seen.visible[COVERED.stop + 2 :] = False
    result = find_occluders(film.raw, seen, no_frame_is_read, FPS)
    assert result.occluders is None and result.judged.visible.any()


@pytest.mark.parametrize("is_long", [True, False])
def test_find_occluders_long_object_stays_covered(film: Film, is_long: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    run = COVERED if is_long else range(MICROPHONE.start - 5, COVERED.stop)
    if is_long:
        monkeypatch.setattr("models.track.occluder_search._MAX_SECONDS", 20 / FPS)
    result = search(film, run)
    assert result.occluders is None
    assert (result.judged.skip_reason[list(run)] == SkipReason.COVERED).all()


def test_find_occluders_few_clear_frames_are_enough(film: Film) -> None:
    before, after = MICROPHONE.start - 5, MICROPHONE.stop + 5
    seen = judged()
    seen.skip_reason[:before] = seen.skip_reason[after:] = SkipReason.OTHER_PERSON
    seen.visible[:before] = seen.visible[after:] = False
    result = find_occluders(film.raw, seen, FramesInMemory(film.covered), FPS)
    assert result.occluders is not None
    assert (result.judged.skip_reason[before:after] == SkipReason.NONE).all()


def test_find_other_head_or_flat_face_has_no_share(film: Film) -> None:
    points, face = film.raw.points[0].astype(np.float64), film.clear[0]
    other = YuvFrame(*(np.ascontiguousarray(plane[:, ::-1]) for plane in face))
    grey = YuvFrame(*(np.full_like(plane, 128) for plane in face))
    for first, second, most in ((face, other, 0.2), (grey, grey, 0)):
        follower = HeadFollower(Picture.of(first, points, points), points)
        assert follower.find(Picture.of(second, points, points), np.eye(2, 3)).share <= most
