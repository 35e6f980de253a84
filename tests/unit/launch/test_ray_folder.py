"""The folder of Ray's sessions: only this user can enter it, whatever others have put in its place."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from launch.ray_folder import make_ray_folder, ray_folder


@pytest.fixture
def place() -> Iterator[Path]:
    """A short path, as sockets need one, that every user may write to."""
    with TemporaryDirectory(dir="/tmp", prefix="rf-") as folder:
        Path(folder).chmod(0o1777)
        yield Path(folder)


def _mode(folder: Path) -> int:
    return stat.S_IMODE(folder.lstat().st_mode)


def test_make_ray_folder_is_private(place: Path) -> None:
    environment = {"RAY_TMPDIR": str(place), "TMPDIR": "/nowhere"}
    folder = make_ray_folder(environment)
    assert folder == ray_folder(environment) == place / f"lipwright-{os.getuid()}" / "ray"
    assert _mode(folder.parent) == 0o700
    folder.parent.chmod(0o777)
    assert make_ray_folder(environment) == folder
    assert _mode(folder.parent) == 0o700


def test_make_ray_folder_replaced_by_a_link_uses_another(place: Path) -> None:
    expected = ray_folder({"TMPDIR": str(place)}).parent
    (place / "of-others").mkdir(mode=0o777)
    expected.symlink_to(place / "of-others")
    folder = make_ray_folder({"TMPDIR": str(place)})
    assert folder is not None
    assert (folder.parent.parent, _mode(folder.parent), folder.name) == (place, 0o700, "ray")
    assert folder.parent != expected and not list((place / "of-others").iterdir())


def test_make_ray_folder_path_too_long_for_sockets_is_none(place: Path) -> None:
    session = "/session_2026-11-28_05-44-08_504690_4194304/sockets/plasma_store"
    for length in range(1, 40):
        if (folder := make_ray_folder({"TMPDIR": str(place / ("a" * length))})) is None:
            break
        assert len(f"{folder}{session}") <= 107
    assert folder is None
    (place / "file").touch()
    assert make_ray_folder({"TMPDIR": str(place / "file")}) is None
