"""The start of a service: what processes inherit, and that what keeps it from starting is said in one line."""

from __future__ import annotations

import logging
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
import yaml
from packaging.requirements import Requirement
from typer.testing import CliRunner

from cli.terminal import commands
from errors import ConfigError, UnavailableError
from launch import preflight
from launch.environment import ROOT, import_path, make_ray_folder, ray_folder, restore_sigterm
from launch.preflight import check_packages, faults, needed, own_requirements
from launch.service import _ray_start_errors, private_config, running_service
from launch.service_log import Terminal, open_service_log
from tests.hostile_folder import imported_modules, make_hostile_folder


def test_running_service_unreadable_certificate_is_refused(repo_root: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((repo_root / "serve_config.cpu.yaml").read_text(encoding="utf-8"))
    missing = str(tmp_path / "chain.pem")
    config["applications"][0]["args"]["labels"] = {"certificate": missing, "private_key": missing}
    path = tmp_path / "serve_config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    with (
        pytest.raises(ConfigError, match=r"labels.certificate: .*chain.pem cannot be read"),
        running_service(private_config(tmp_path / "data", path)),
    ):
        raise AssertionError("it started")
    assert not (tmp_path / "data" / "labels").exists(), "no test certificate takes its place"


def test_ray_start_failure_is_one_line_with_a_fix(tmp_path: Path) -> None:
    with (
        pytest.raises(UnavailableError, match=r"Ray did not start: timed out\. If the machine is busy.*service\.log"),
        _ray_start_errors(tmp_path / "service.log"),
    ):
        raise Exception("The actor died.\n\tpid: 7\ntimed out.")  # noqa: TRY002  # as Ray does


def test_ray_start_errors_lets_lipwright_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(ConfigError), _ray_start_errors(tmp_path):
        raise ConfigError("No such folder.")


SERVE_LINE = "{level} 2026-01-02 03:04:05,678 lipwright_Director cq2lcvxq 71fd9d70 -- {message}"


def test_service_log_terminal_has_warnings_file_has_all(tmp_path: Path) -> None:
    shown: list[str] = []
    lines = [
        SERVE_LINE.format(level="INFO", message="started"),
        SERVE_LINE.format(level="WARNING", message="job 4f00: a call was lost"),
        "Traceback (most recent call last):",
    ]
    replica = {"actor_name": "ServeReplica:lipwright:Director", "pid": 7, "lines": lines}
    controller = {"actor_name": "ServeController", "pid": 8, "lines": [SERVE_LINE.format(level="ERROR", message="no")]}
    before = {name: logging.getLogger(name).handlers for name in ("ray", "ray._private", "ray.serve")}
    try:
        with open_service_log(tmp_path / "service.log", Terminal(step=shown.append, warn=shown.append)) as log:
            log.take_over_ray()
            log.write(replica)
            log.write(controller)
            logging.getLogger("ray").info("of this process")
    finally:
        for name, handlers in before.items():
            logging.getLogger(name).handlers = handlers
    assert shown == ["WARNING Director: job 4f00: a call was lost"]
    written = (tmp_path / "service.log").read_text(encoding="utf-8").splitlines()
    assert len(written) == 5
    assert all(line in text for line, text in zip(lines, written, strict=False))
    assert written[-1].endswith("of this process")


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


def test_own_requirements_are_those_of_the_checkout() -> None:
    names = [Requirement(line).name for line in own_requirements()]
    assert names[0] == "ray"
    check_packages()


def test_needed_uses_the_first_requirement_without_extras() -> None:
    lines = ["numpy>=99", "numpy>=1", "pytest>=1", 'nonesuch>=1; extra == "gpu"']
    (fault,) = faults(needed(lines))
    assert fault.startswith("numpy ") and fault.endswith("is not >=99")


def test_check_packages_missing_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "own_requirements", lambda: ["lipwright-of-tomorrow>=1"])
    with pytest.raises(ConfigError, match="lipwright-of-tomorrow is missing. Run `make setup`"):
        check_packages()


def test_command_missing_module_is_named() -> None:
    app = commands()

    @app.command()
    def one() -> None:
        import module_of_tomorrow  # type: ignore[import-not-found]  # noqa: F401

    @app.command()
    def two() -> None: ...

    done = CliRunner().invoke(app, ["one"])
    assert done.exit_code == 1
    assert done.stderr.startswith("error: config_invalid: The Python module module_of_tomorrow is missing.")
    assert "make setup" in done.stderr


_CODE = """
import ctypes
from launch.readiness import bounded_start

with bounded_start(60):
    pass
with bounded_start(0.1):
    ctypes.PyDLL(None).sleep(120)
"""


def test_bounded_start_holding_the_interpreter_lock_ends() -> None:
    done = subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Timeout (0:00:00.1")
