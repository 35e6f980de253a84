"""What processes of a local service inherit, and Ray's folder, which only this user can enter."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import pytest

from launch.environment import ROOT, import_path, make_ray_folder, ray_folder, restore_sigterm
from tests.hostile_folder import imported_modules, make_hostile_folder


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


def test_import_path_processes_import_from_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_hostile_folder(tmp_path / "cwd")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    with import_path():
        assert Path.cwd() == ROOT
        code = "import errors; print(errors.__file__)"
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == str(ROOT / "errors.py"), done.stderr
    assert imported_modules(folder) == []
    assert Path.cwd() == folder
    assert os.environ["PYTHONPATH"] == "elsewhere" and "PYTHONSAFEPATH" not in os.environ


def test_restore_sigterm_restores_the_handler() -> None:
    def ours(number: int, frame: FrameType | None) -> None:
        raise AssertionError("no signal is sent")

    before = signal.signal(signal.SIGTERM, ours)
    try:
        with restore_sigterm():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)
