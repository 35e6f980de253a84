"""The tracks of sources: lips that never part meet where the picture shows it, lips that move are smoothed less."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from media.reader import FrameReader
from media.yuv_frame import YuvFrame
from models.avatar.avatar import Avatar, own_track
from models.avatar.folder import OCCLUDERS_FILE
from models.geometry.head_frame import INNER_LOWER, INNER_UPPER
from models.track.face_track import finish_track
from models.track.raw_landmarks import RawLandmarks
from tests.unit.models.synthetic_avatar import make_avatar

_OFF = 3.0  # pixels from the landmarks' line of closed lips to the dark one


class _WithSeam:
    """Frames with a dark line below the landmarks', soft over `thickness` pixels to either side."""

    def __init__(self, reader: FrameReader, points: np.ndarray, thickness: float) -> None:
        self._reader, self._points, self._thickness = reader, points, thickness

    def read(self, indices: Iterable[int]) -> Iterator[YuvFrame]:
        indices = list(indices)
        for frame, planes in zip(indices, self._reader.read(indices), strict=True):
            lips = (self._points[frame, list(INNER_UPPER), :2] + self._points[frame, list(INNER_LOWER), :2]) / 2
            row, column = np.mgrid[: planes.y.shape[0], : planes.y.shape[1]]
            line = np.interp(column, lips[:, 0], lips[:, 1]) + _OFF
            shade = 1 - 0.7 * np.exp(-(((row - line) / self._thickness) ** 2))
            yield YuvFrame((planes.y * shade).astype(np.uint8), planes.u, planes.v)

    def close(self) -> None: ...


@pytest.mark.parametrize("thickness", [1.2, 2.4])
def test_own_track_closed_lips_meet_at_the_dark_line(thickness: float, tmp_path: Path) -> None:
    filmed = make_avatar(tmp_path, 0.0)
    with filmed.reader() as reader:
        track, _ = own_track(filmed.raw, _WithSeam(reader, filmed.raw.points, thickness), filmed.info)
    for ids in (INNER_UPPER, INNER_LOWER):
        moved = (track.points - filmed.raw.points)[track.visible][:, list(ids[3:-3]), 1]
        assert abs(np.median(moved) - _OFF) < 0.7


def test_own_track_moving_lips_are_smoothed_less(tmp_path: Path) -> None:
    for opening, lips_move in ((0.14, True), (0.0, False)):
        folder = tmp_path / str(lips_move)
        folder.mkdir()
        filmed = make_avatar(folder, opening)
        noise = np.random.default_rng(0).normal(0, 0.4, filmed.raw.points.shape)
        raw = RawLandmarks((filmed.raw.points + noise).astype(np.float32), filmed.raw.present)
        with filmed.reader() as reader:
            track, _ = own_track(raw, reader, filmed.info)
        expected = finish_track(
            raw.points, raw.present, shot=track.shot, skip_reason=track.skip_reason, lips_move=lips_move
        )
        across = list(INNER_UPPER[3:-3])  # of lips that never part the height is the picture's
        found, wanted = (np.diff(each.points[track.visible][:, across, 0], 2, axis=0) for each in (track, expected))
        np.testing.assert_allclose(found, wanted, atol=0.05)


def test_avatar_load_ignores_occluders_of_an_earlier_build(tmp_path: Path) -> None:
    filmed = make_avatar(tmp_path, 0.14)
    with filmed.reader() as reader:
        Avatar.build(tmp_path / "avatar", filmed.info, filmed.raw, reader)
    (tmp_path / "avatar" / OCCLUDERS_FILE).write_bytes(b"stale")  # as buckets keep files that a build does not replace
    assert Avatar.load(tmp_path / "avatar").occluders is None


def test_own_track_does_not_smooth_across_cuts(tmp_path: Path) -> None:
    filmed = make_avatar(tmp_path, 0.14)
    points = filmed.raw.points.copy()
    points[10:, :, 0] += 4  # of 96 pixels between the eyes: a jump that could be motion
    with filmed.reader() as reader:
        raw = RawLandmarks(points, filmed.raw.present)
        plain, cut = (own_track(raw, reader, filmed.info, cuts)[0] for cuts in ((), [10]))
    steps = [track.translation[10, 0] - track.translation[9, 0] for track in (plain, cut)]
    assert steps[0] < 3
    assert steps[1] > 3.8
    assert cut.shot.tolist() == [0] * 10 + [1] * 30
