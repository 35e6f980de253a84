from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from media.reader import FrameReader
from media.yuv_frame import YuvFrame
from models.avatar import folder
from models.avatar.avatar import Avatar, own_track
from models.geometry.head_frame import INNER_LOWER, INNER_UPPER
from models.track.face_track import finish_track
from models.track.raw_landmarks import RawLandmarks
from tests.unit.models.engines.paste.face_scene import make_avatar
from tests.unit.models.synthetic_avatar import make_avatar as film_avatar


@dataclass
class VersionedEngine:
    name: str = "warp"
    version: str = "3"


def test_remember_is_per_engine_version(tmp_path: Path) -> None:
    avatar = make_avatar(tmp_path)
    heygem, original = VersionedEngine("dinet", "1-heygem"), VersionedEngine("dinet", "1-original")
    assert avatar.remember(heygem, lambda: "crops of 256") == "crops of 256"
    assert avatar.remember(original, lambda: "crops of 416") == "crops of 416"
    assert avatar.remember(heygem, lambda: "read again") == "crops of 256"


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "zeroed": lambda path: path.write_bytes(path.read_bytes()[:2000] + bytes(2000) + path.read_bytes()[4000:]),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "emptied": lambda path: path.write_bytes(b""),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("info_file", [folder.INFO_FILE, "presenter.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_is_tracked_damaged_track_is_false(tmp_path: Path, damage: str, info_file: str) -> None:
    assert not folder.is_tracked(tmp_path)
    track = tmp_path / "track.npz"
    track.write_bytes(bytes(range(256)) * 40)
    content = {"version": folder.AVATAR_VERSION, "files": folder.file_hashes(tmp_path, [track.name])}
    folder.write_whole(tmp_path / info_file, content)
    assert folder.is_tracked(tmp_path)
    DAMAGES[damage](track)
    assert not folder.is_tracked(tmp_path)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["boxes.npy", "bank/0.npy"])
def test_is_analysed_damaged_file_is_false(tmp_path: Path, name: str, damage: str) -> None:
    engine = VersionedEngine()
    kept = folder.analysis_folder(tmp_path, engine)
    for each in ("boxes.npy", "bank/0.npy"):
        (kept / each).parent.mkdir(parents=True, exist_ok=True)
        (kept / each).write_bytes(each.encode() * 1000)
    assert not folder.is_analysed(tmp_path, engine)
    folder.mark_analysed(tmp_path, engine)
    assert folder.is_analysed(tmp_path, engine)
    DAMAGES[damage](kept / name)
    assert not folder.is_analysed(tmp_path, engine)
    folder.mark_analysed(tmp_path, engine)
    assert folder.is_analysed(tmp_path, engine), "it was made again"


@pytest.mark.parametrize("text", ["", "[]", '{"files": 3}', '{"version": "9"}', "\0\0", '{"files": {"../x": "0"}}'])
def test_is_tracked_damaged_info_file_is_false(tmp_path: Path, text: str) -> None:
    engine = VersionedEngine()
    folder.analysis_folder(tmp_path, engine).mkdir(parents=True)
    for path in (tmp_path / folder.INFO_FILE, folder.analysis_folder(tmp_path, engine) / "complete"):
        path.write_text(text)
    assert not folder.is_tracked(tmp_path)
    assert not folder.is_analysed(tmp_path, engine)


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
    filmed = film_avatar(tmp_path, 0.0)
    with filmed.reader() as reader:
        track, _ = own_track(filmed.raw, _WithSeam(reader, filmed.raw.points, thickness), filmed.info)
    for ids in (INNER_UPPER, INNER_LOWER):
        moved = (track.points - filmed.raw.points)[track.visible][:, list(ids[3:-3]), 1]
        assert abs(np.median(moved) - _OFF) < 0.7


def test_own_track_moving_lips_are_smoothed_less(tmp_path: Path) -> None:
    for opening, lips_move in ((0.14, True), (0.0, False)):
        filmed = film_avatar(tmp_path, opening)
        noise = np.random.default_rng(0).normal(0, 0.4, filmed.raw.points.shape)
        raw = RawLandmarks((filmed.raw.points + noise).astype(np.float32), filmed.raw.present)
        with filmed.reader() as reader:
            track, _ = own_track(raw, reader, filmed.info)
        shot, reason = track.shot, track.skip_reason
        expected = finish_track(raw.points, raw.present, shot=shot, skip_reason=reason, lips_move=lips_move)
        across = list(INNER_UPPER[3:-3])  # of lips that never part the height is the picture's
        found, wanted = (np.diff(each.points[track.visible][:, across, 0], 2, axis=0) for each in (track, expected))
        np.testing.assert_allclose(found, wanted, atol=0.05)


def test_avatar_load_ignores_occluders_of_an_earlier_build(tmp_path: Path) -> None:
    filmed = film_avatar(tmp_path, 0.14)
    with filmed.reader() as reader:
        Avatar.build(tmp_path / "avatar", filmed.info, filmed.raw, reader)
    (tmp_path / "avatar" / folder.OCCLUDERS_FILE).write_bytes(
        b"stale"
    )  # as buckets keep files that a build does not replace
    assert Avatar.load(tmp_path / "avatar").occluders is None


def test_own_track_does_not_smooth_across_cuts(tmp_path: Path) -> None:
    filmed = film_avatar(tmp_path, 0.14)
    points = filmed.raw.points.copy()
    points[10:, :, 0] += 4  # of 96 pixels between the eyes: a jump that could be motion
    with filmed.reader() as reader:
        raw = RawLandmarks(points, filmed.raw.present)
        plain, cut = (own_track(raw, reader, filmed.info, cuts)[0] for cuts in ((), [10]))
    steps = [track.translation[10, 0] - track.translation[9, 0] for track in (plain, cut)]
    assert steps[0] < 3 and steps[1] > 3.8
    assert cut.shot.tolist() == [0] * 10 + [1] * 30
