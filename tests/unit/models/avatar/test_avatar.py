from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.material import FramesInMemory
from models.avatar import folder
from models.avatar.avatar import own_track
from models.geometry.head_frame import INNER_LOWER, INNER_UPPER
from models.track.face_track import finish_track
from models.track.raw_landmarks import RawLandmarks
from tests.unit.models.engines.paste.face_scene import make_avatar
from tests.unit.models.synthetic_avatar import FilmedAvatar
from tests.unit.models.synthetic_avatar import make_avatar as film_avatar


@dataclass
class VersionedEngine:
    name: str = "warp"
    version: str = "3"


def test_remember_is_per_engine_version(tmp_path: Path) -> None:
    avatar = make_avatar(tmp_path)
    heygem, original = VersionedEngine("dinet", "1-heygem"), VersionedEngine("dinet", "1-original")
    loaded = [(heygem, "crops of 256"), (original, "crops of 416"), (heygem, "read again")]
    found = [avatar.remember(engine, lambda text=text: text) for engine, text in loaded]  # type: ignore[misc]
    assert found == ["crops of 256", "crops of 416", "crops of 256"]


ENGINE = VersionedEngine()
DAMAGES: dict[str, Callable[[Path], Any]] = {
    "zeroed": lambda path: path.write_bytes(path.read_bytes()[:2000] + bytes(2000) + path.read_bytes()[4000:]),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "emptied": lambda path: path.write_bytes(b""),
    "gone": Path.unlink,
}


@pytest.fixture
def analysis(tmp_path: Path) -> Path:
    """The empty folder of an engine's analysis, in the avatar folder."""
    kept = folder.analysis_folder(tmp_path, ENGINE)
    (kept / "bank").mkdir(parents=True)
    return kept


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["boxes.npy", "bank/0.npy"])
def test_is_tracked_or_analysed_damaged_file_is_false(tmp_path: Path, analysis: Path, name: str, damage: str) -> None:
    track = tmp_path / "track.npz"
    for path in (track, analysis / "boxes.npy", analysis / "bank/0.npy"):
        path.write_bytes(bytes(range(256)) * 40)
    assert not folder.is_tracked(tmp_path) and not folder.is_analysed(tmp_path, ENGINE)
    content = {"version": folder.AVATAR_VERSION, "files": folder.file_hashes(tmp_path, [track.name])}
    folder.write_whole(tmp_path / folder.INFO_FILE, content)
    folder.mark_analysed(tmp_path, ENGINE)
    assert folder.is_tracked(tmp_path) and folder.is_analysed(tmp_path, ENGINE)
    DAMAGES[damage](analysis / name)
    assert folder.is_tracked(tmp_path) and not folder.is_analysed(tmp_path, ENGINE)
    folder.mark_analysed(tmp_path, ENGINE)
    DAMAGES[damage](track)
    assert folder.is_analysed(tmp_path, ENGINE), "it was made again"
    assert not folder.is_tracked(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"files": 3}', '{"version": "9"}', "\0\0", '{"files": {"../x": "0"}}'])
def test_is_tracked_or_analysed_damaged_info_is_false(tmp_path: Path, analysis: Path, text: str) -> None:
    for path in (tmp_path / folder.INFO_FILE, analysis / "complete"):
        path.write_text(text)
    assert not folder.is_tracked(tmp_path) and not folder.is_analysed(tmp_path, ENGINE)


_OFF = 3.0  # pixels from the landmarks' line of closed lips to the dark one


def _with_seam(filmed: FilmedAvatar, thickness: float) -> FramesInMemory:
    """Frames with a dark line below the landmarks', soft over `thickness` pixels to either side."""
    with filmed.reader() as reader:
        frames = list(reader.read(range(filmed.info.num_frames)))
    row, column = np.mgrid[: filmed.info.height, : filmed.info.width]
    for number, (frame, points) in enumerate(zip(frames, filmed.raw.points[..., :2], strict=True)):
        lips = (points[list(INNER_UPPER)] + points[list(INNER_LOWER)]) / 2
        line = np.interp(column, lips[:, 0], lips[:, 1]) + _OFF
        shade = 1 - 0.7 * np.exp(-(((row - line) / thickness) ** 2))
        frames[number] = frame._replace(y=(frame.y * shade).astype(np.uint8))
    return FramesInMemory(frames)


@pytest.mark.parametrize("thickness", [1.2, 2.4])
def test_own_track_closed_lips_meet_at_the_dark_line(thickness: float, tmp_path: Path) -> None:
    filmed = film_avatar(tmp_path, 0.0)
    track, _ = own_track(filmed.raw, _with_seam(filmed, thickness), filmed.info)
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
