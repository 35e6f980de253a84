"""Pictures of a face for the tests of the face networks."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.media.probe import ColourTags, VideoInfo
from lipwright.media.yuv_frame import YuvFrame, from_rgb
from models.avatar.still_motion import StillMotion
from models.face.choice import FaceChoice
from models.face.finder import FaceFinder
from models.face.landmarks import FaceLandmarker
from models.track.raw_landmarks import RawLandmarks
from models.track.tracker import FaceTracker
from tests.unit.models.films import read_film
from tests.unit.models.still import Still, make_still

COLOUR = ColourTags(matrix=6, full_range=False, primaries=2, transfer=2)


@pytest.fixture(scope="session")
def finder() -> FaceFinder:
    return FaceFinder(num_threads=1, device="cpu")


@pytest.fixture(scope="session")
def landmarker() -> FaceLandmarker:
    return FaceLandmarker(num_threads=1, device="cpu")


@pytest.fixture(scope="session")
def tracker() -> FaceTracker:
    return FaceTracker(num_threads=1, device="cpu")


class Filmed(NamedTuple):
    """The sample video, and the landmarks that are tracked in it."""

    info: VideoInfo
    frames: list[YuvFrame]
    raw: RawLandmarks


@pytest.fixture(scope="session")
def filmed_sample(sample_video: Path, tracker: FaceTracker) -> Filmed:
    info, frames = read_film(sample_video)
    raw, _ = tracker.track_chunk(frames, info.colour, FaceChoice.parse("largest"), None)
    return Filmed(info, frames, raw)


@pytest.fixture(scope="session")
def portrait(sample_portrait: Path) -> NDArray[np.uint8]:
    """(H, W, 3) RGB, even sides, a face in about the middle."""
    bgr = cv2.imread(str(sample_portrait))
    assert bgr is not None
    height, width = (side // 2 * 2 for side in bgr.shape[:2])
    return np.ascontiguousarray(bgr[:height, :width, ::-1])


class Scene:
    """Frames that show the portrait at given places, sizes and angles on grey."""

    def __init__(self, portrait: NDArray[np.uint8]) -> None:
        self.portrait = portrait

    def matrix(self, x: float, y: float, zoom: float, degrees: float = 0.0) -> NDArray[np.float64]:
        """(2, 3) map from portrait pixels to frame pixels: the portrait's centre comes to (x, y)."""
        height, width = self.portrait.shape[:2]
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, zoom)
        turn[:, 2] += [x - width / 2, y - height / 2]
        return np.asarray(turn, np.float64)

    def frame(self, width: int, height: int, *places: tuple[float, float, float]) -> YuvFrame:
        """YuvFrame with one portrait for each (x, y, zoom)."""
        rgb = np.full((height, width, 3), 128, np.uint8)
        for place in places:
            rgb = self.draw(rgb, self.matrix(*place))
        return from_rgb(rgb, COLOUR)

    def draw(self, rgb: NDArray[np.uint8], matrix: NDArray[np.float64]) -> NDArray[np.uint8]:
        size = (rgb.shape[1], rgb.shape[0])
        shrink = float(np.linalg.norm(matrix[0, :2]))
        source = cv2.GaussianBlur(self.portrait, (0, 0), 0.4 / shrink) if shrink < 0.7 else self.portrait
        drawn = cv2.warpAffine(source, matrix, size, flags=cv2.INTER_LINEAR)
        covered = cv2.warpAffine(np.ones(source.shape[:2], np.uint8), matrix, size) > 0
        return np.where(covered[..., None], drawn, rgb).astype(np.uint8)


@pytest.fixture(scope="session")
def scene(portrait: NDArray[np.uint8]) -> Scene:
    return Scene(portrait)


@pytest.fixture(scope="session")
def still(sample_portrait: Path) -> Still:
    return make_still(sample_portrait)


@pytest.fixture(scope="session")
def motion(still: Still) -> StillMotion:
    return StillMotion.of(still.planes, still.track)
