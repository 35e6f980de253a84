"""What processes of a local service inherit, and that the process that starts them keeps its own environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

import pytest

from launch.environment import ROOT, import_path, restore_sigterm
from tests.hostile_folder import imported_modules, make_hostile_folder


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
