import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.media.yuv_frame import YuvFrame
from models.clips.bridge import _shares, bridge_frames, morph
from tests.unit.models.films import mean_faces

SIDE = 192
NOISE = np.asarray(cv2.GaussianBlur(np.random.default_rng(3).normal(0, 400, (SIDE, SIDE)), (0, 0), 3), np.float32)


def face_at(x: float, y: float) -> NDArray[np.float32]:
    return np.asarray(mean_faces(x, y, 50)[0, :, :2])


def frame_at(x: float, y: float) -> YuvFrame:
    """A face with dark eyes, lips and texture on a grey background."""
    points = face_at(x, y)
    luma = np.full((SIDE, SIDE), 90, np.float32)
    moved = cv2.warpAffine(NOISE, np.array([[1.0, 0, x - 96], [0, 1, y - 80]]), (SIDE, SIDE))
    hull = cv2.convexHull(np.rint(points).astype(np.int32))
    face = cv2.GaussianBlur(cv2.fillConvexPoly(np.zeros((SIDE, SIDE), np.float32), hull, 1), (0, 0), 1)
    luma += face * (70 + moved)
    for at in (33, 263, 13):
        luma = np.asarray(cv2.circle(luma, np.rint(points[at]).astype(int).tolist(), 5, 30, -1), np.float32)
    chroma = np.full((SIDE // 2, SIDE // 2), 120, np.uint8)
    return YuvFrame(luma.clip(0, 255).astype(np.uint8), chroma, chroma + np.uint8(20))


def difference(one: YuvFrame, other: YuvFrame) -> float:
    return float(np.sqrt(((one.y.astype(float) - other.y) ** 2).mean()))


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_morph_moves_the_face_without_a_second_one(share: float) -> None:
    one, other = frame_at(80, 76), frame_at(112, 84)
    made = morph(one, other, face_at(80, 76), face_at(112, 84), share)
    wanted = frame_at(80 + 32 * share, 76 + 8 * share)
    faded = one._replace(y=np.asarray(cv2.addWeighted(one.y, 1 - share, other.y, share, 0), np.uint8))
    assert difference(made, wanted) < 0.35 * difference(faded, wanted)
    assert (made.u == 120).all()
    for end, own in ((0.0, one), (1.0, other)):
        assert difference(morph(one, other, face_at(80, 76), face_at(112, 84), end), own) < 1


def test_morph_moves_what_is_beside_the_face_by_flow() -> None:
    points = face_at(60, 50)
    frames = [frame_at(60, 50) for _ in range(3)]
    for frame, x in zip(frames, (130, 134, 138), strict=True):
        frame.y[120:180, 100:] = (120 + np.roll(NOISE, x, 1)[120:180, 100:]).clip(0, 255).astype(np.uint8)
    made = morph(frames[0], frames[2], points, points, 0.5)
    part = slice(130, 170), slice(115, 175)
    error = np.abs(made.y[part].astype(float) - frames[1].y[part]).mean()
    assert error < 0.3 * np.abs(frames[0].y[part].astype(float) - frames[1].y[part]).mean()


def test_bridge_frames_start_as_one_clip_and_end_as_other() -> None:
    places = before, after = [80, 82, 84, 86], [92, 94, 96, 98]
    one, other = ([frame_at(x, 80) for x in clip] for clip in places)
    points_one, points_other = (np.array([face_at(x, 80) for x in clip]) for clip in places)
    made = list(bridge_frames(one, other, points_one, points_other, 100.0))
    wanted = [x + (y - x) * number / 5 for number, (x, y) in enumerate(zip(before, after, strict=True), 1)]
    assert len(made) == 4
    assert max(difference(frame, frame_at(x, 80)) for frame, x in zip(made, wanted, strict=True)) < 5
    small, large = (np.diff([0.0, *_shares(6, jump), 1.0]) for jump in (4.0, 100.0))
    assert small[0] < 0.8 * small[3] and np.ptp(large) < 0.01
