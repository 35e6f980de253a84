import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.media.output.dynamic_range import from_sdr_rgb
from lipwright.media.probe import ColourTags
from lipwright.media.yuv_frame import YuvFrame, from_rgb
from models.face.landmarks import MIN_PRESENCE, FaceLandmarker, LandmarkRegion, LipLandmarker, cut_region
from models.geometry.head_frame import ABOUT_MIDDLE, EYE_LEFT, EYE_RIGHT, INNER_LOWER, INNER_UPPER, LIPS
from tests.unit.models.conftest import COLOUR, Filmed, Scene
from tests.unit.models.films import mean_faces

Points = NDArray[np.float32]


def settle(landmarker: FaceLandmarker, frame: YuvFrame, region: LandmarkRegion) -> tuple[Points, float]:
    for _ in range(4):
        points, presence = landmarker(frame, COLOUR, region)
        region = LandmarkRegion.of_points(points)
    return points, presence


@pytest.fixture(scope="module")
def portrait_points(landmarker: FaceLandmarker, portrait: NDArray[np.uint8]) -> Points:
    height, width = portrait.shape[:2]
    start = LandmarkRegion(width / 2, height / 2, 0.7 * width, 0.0)
    return settle(landmarker, from_rgb(portrait, COLOUR), start)[0]


@pytest.mark.parametrize(("zoom", "degrees"), [(0.5, 0.0), (1.0, 25.0), (2.6, -10.0)])
def test_landmarker_points_move_with_the_picture(
    landmarker: FaceLandmarker, scene: Scene, portrait_points: Points, zoom: float, degrees: float
) -> None:
    matrix = scene.matrix(700.0, 700.0, zoom, degrees)
    frame = from_rgb(scene.draw(np.full((1400, 1400, 3), 128, np.uint8), matrix), COLOUR)
    moved = portrait_points[:, :2].astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]
    x, y = moved.mean(0).tolist()
    region = LandmarkRegion(x, y, 0.6 * scene.portrait.shape[1] * zoom, float(np.deg2rad(-degrees)))
    points, presence = settle(landmarker, frame, region)
    eyes = np.linalg.norm(moved[EYE_LEFT] - moved[EYE_RIGHT])
    assert presence > MIN_PRESENCE
    assert np.abs(points[:, :2] - moved).mean() / eyes < 0.012
    assert np.linalg.norm((points[:, :2] - moved)[list(LIPS)], axis=1).max() / eyes < 0.03


def test_landmarker_dark_or_pq_picture_keeps_the_points(
    landmarker: FaceLandmarker, portrait: NDArray[np.uint8], portrait_points: Points
) -> None:
    rng, region = np.random.default_rng(0), LandmarkRegion.of_points(portrait_points)
    eyes = np.linalg.norm(portrait_points[EYE_LEFT, :2] - portrait_points[EYE_RIGHT, :2])
    strayed = []
    for _ in range(4):
        dark = (portrait * 0.08 + rng.normal(0, 2, portrait.shape)).clip(0, 255).astype(np.uint8)
        points, presence = landmarker(from_rgb(dark, COLOUR), COLOUR, region)
        assert presence > MIN_PRESENCE
        strayed.append(np.linalg.norm((points - portrait_points)[:, :2], axis=1).mean())
    assert np.mean(strayed) / eyes < 0.016
    pq = ColourTags(9, False, 9, 16)
    sdr_points, _ = landmarker(from_rgb(portrait, COLOUR), COLOUR, region)
    points, _ = landmarker(from_sdr_rgb(portrait, pq), pq, region)
    assert np.linalg.norm((points - sdr_points)[:, :2], axis=1).mean() / eyes < 0.003
    noise = rng.integers(0, 256, (240, 240, 3), dtype=np.uint8)
    assert landmarker(from_rgb(noise, COLOUR), COLOUR, LandmarkRegion(120, 120, 160, 0.0))[1] < MIN_PRESENCE


@pytest.mark.parametrize(("side", "stretch"), [(96.0, 1.0), (192.0, 1.0), (400.0, 1.0), (1000.0, 1.0), (1000.0, 1.6)])
def test_cut_region_samples_its_part_of_the_frame(side: float, stretch: float) -> None:
    """A ramp has the same value at the region's centre at any scale, and its slope across."""
    ramp = np.broadcast_to(np.linspace(20, 220, 1200), (1200, 1200))
    frame = YuvFrame(np.rint(ramp).astype(np.uint8), *(np.full((600, 600), 128, np.uint8),) * 2)
    y = cut_region(frame, LandmarkRegion(600.0, 600.0, side, 0.0, stretch)).y.astype(float)
    assert y.shape == (192, 192) and (np.ptp(y, axis=0) == 0).all()
    assert y[0, 95:97].mean() == pytest.approx(20 + 200 * 600 / 1199, abs=0.6)
    assert y[0, -1] - y[0, 0] == pytest.approx(200 * side / stretch * (191 / 192) / 1199, abs=1.2)


def test_cut_region_large_region_does_not_alias() -> None:
    stripes = np.zeros((1200, 1200), np.uint8)
    stripes[:, ::2] = 255
    frame = YuvFrame(stripes, *(np.full((600, 600), 128, np.uint8),) * 2)
    y = cut_region(frame, LandmarkRegion(600.0, 600.0, 1000.0, 0.2)).y
    assert y.std() < 30  # without averaging about 90


def test_region_of_points_stretches_turned_heads_only() -> None:
    heads = mean_faces(200, 150, 80, [-34, 0, 34, 44, 50, 60])
    stretch = [LandmarkRegion.of_points(points).stretch for points in heads]
    assert stretch[:3] == [1, 1, 1] and 1 < stretch[3] < stretch[4] < stretch[5] < 1.7
    mixed = LandmarkRegion(0, 0, 10, 3.0).mix(LandmarkRegion(4, 2, 20, -3.0), 0.5)
    assert mixed[:3] == pytest.approx((2, 1, 15))
    assert abs(mixed.angle) == pytest.approx(np.pi, abs=0.01), "the short way"


def _found(filmed: Filmed, landmarker: FaceLandmarker) -> Points:
    """(N, 468, 3) landmarks in every other frame."""
    regions = map(LandmarkRegion.of_points, filmed.raw.points[::2])
    pairs = zip(filmed.frames[::2], regions, strict=True)
    return np.stack([landmarker(frame, filmed.info.colour, region)[0] for frame, region in pairs])


def _gaps(points: Points) -> Points:
    """(N,) eye distances between the inner lips, in the middle."""
    upper, lower = (points[:, list(rim[ABOUT_MIDDLE]), :2] for rim in (INNER_UPPER, INNER_LOWER))
    eyes = np.linalg.norm(points[:, EYE_LEFT, :2] - points[:, EYE_RIGHT, :2], axis=1)
    return np.asarray(np.linalg.norm(upper - lower, axis=2).mean(1) / eyes, np.float32)


def test_lip_landmarks_replace_only_the_lips_of_the_mesh(
    filmed_sample: Filmed, landmarker: FaceLandmarker, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = _found(filmed_sample, landmarker)
    monkeypatch.setattr(LipLandmarker, "__call__", lambda landmarker, picture, lips: lips)
    mesh = _found(filmed_sample, landmarker)  # as the face mesh alone has them
    eyes = np.linalg.norm(points[:, EYE_LEFT, :2] - points[:, EYE_RIGHT, :2], axis=1).mean()
    apart = np.linalg.norm(points - mesh, axis=2).mean(0) / eyes  # (468,)
    assert 0 < apart[list(LIPS)].max() < 0.06  # in another order some would be far away
    assert np.delete(apart, LIPS).max() == 0
    gaps, by_mesh = _gaps(points), _gaps(mesh)
    assert np.quantile(gaps, 0.1) < 0.005 and gaps.max() > 0.08
    assert gaps.std() > 1.2 * by_mesh.std() and np.corrcoef(gaps, by_mesh)[0, 1] > 0.85
