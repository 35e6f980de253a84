"""The start of a service: its config, what its processes inherit, and errors in one line."""

from __future__ import annotations

import logging
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import Mock, patch

import pytest
import yaml
from packaging.requirements import Requirement
from typer.testing import CliRunner

from lipwright.cli.terminal import commands
from lipwright.config import PipelineConfig
from lipwright.errors import ConfigError, UnavailableError
from lipwright.launch import preflight
from lipwright.launch.environment import (
    ROOT,
    import_path,
    make_ray_folder,
    ray_folder,
    restore_sigterm,
    set_ray_variables,
)
from lipwright.launch.preflight import check_packages, faults, missing_gpu, needed, own_requirements
from lipwright.launch.serve_config import read_serve_config
from lipwright.launch.service import _ray_start_errors, private_config, running_service
from lipwright.launch.service_log import Terminal, follow_output, open_service_log
from tests.hostile_folder import imported_modules, make_hostile_folder
from tests.unit.cli.commands import run
from tests.waiting import wait_until


def test_running_service_unreadable_certificate_is_refused(tmp_path: Path) -> None:
    missing, path = str(tmp_path / "chain.pem"), tmp_path / "serve_config.yaml"
    path.write_text(yaml.safe_dump({"labels": {"certificate": missing, "private_key": missing}}))
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
    with pytest.raises(ConfigError), _ray_start_errors(tmp_path):
        raise ConfigError("No such folder.")


def test_service_log_terminal_has_warnings_file_has_all(tmp_path: Path) -> None:
    shown: list[str] = []
    at = "2026-01-02 03:04:05,678 lipwright_Director cq2lcvxq 71fd9d70 --"
    lines = [f"INFO {at} started", f"WARNING {at} job 4f00: a call was lost", "Traceback (most recent call last):"]
    folder = tmp_path / "logs"
    folder.mkdir()
    printed = folder / "worker-ab-01000000-77.err"
    (folder / "worker-cd-01000000-78.err").write_text(f":actor_name:ServeController\nERROR {at} no\n")
    before = {name: logging.getLogger(name).handlers for name in ("ray", "ray.serve")}
    try:
        with open_service_log(tmp_path / "service.log", Terminal(step=shown.append, warn=shown.append)) as log:
            log.take_over_ray()
            logging.getLogger("ray").info("of this process")
            with follow_output(folder, log), printed.open("w", buffering=1) as file:
                file.write(":job_id:01000000\n:actor_name:ServeReplica:lipwright:Director\n" + "\n".join(lines[:2]))
                wait_until(lambda: lines[0] in (tmp_path / "service.log").read_text(encoding="utf-8"))
                file.write(f"\n{lines[2]}")
    finally:
        for name, handlers in before.items():
            logging.getLogger(name).handlers = handlers
    assert shown == ["WARNING Director: job 4f00: a call was lost"]
    written = (tmp_path / "service.log").read_text(encoding="utf-8").splitlines()
    assert len(written) == 5 and written[0].endswith("of this process")
    replica = [text.partition("(ServeReplica:lipwright:Director) ")[2] for text in written]
    assert [text for text in replica if text] == lines, "each line once, also the last one without an end"


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
        code = "from lipwright import errors; print(errors.__file__)"
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == str(ROOT / "lipwright/errors.py"), done.stderr
    assert imported_modules(folder) == []
    assert Path.cwd() == folder
    assert os.environ["PYTHONPATH"] == "elsewhere" and "PYTHONSAFEPATH" not in os.environ


def test_restore_sigterm_restores_the_handler() -> None:
    ours = Mock()
    before = signal.signal(signal.SIGTERM, ours)
    try:
        with restore_sigterm():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)


def test_own_requirements_are_those_of_the_checkout() -> None:
    assert Requirement(own_requirements()[0]).name == "ray"
    check_packages()
    lines = ["numpy>=99", "numpy>=1", "pytest>=1", 'nonesuch>=1; extra == "gpu"']
    (fault,) = faults(needed(lines))
    assert fault.startswith("numpy ") and fault.endswith("is not >=99"), "the first requirement without extras"


def test_check_packages_missing_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "own_requirements", lambda: ["lipwright-of-tomorrow>=1"])
    with pytest.raises(ConfigError, match="lipwright-of-tomorrow is missing. Run `make setup`"):
        check_packages()


@pytest.mark.parametrize(
    ("package", "has_gpu", "is_told"), [("1.23.0", False, True), ("1.23.0", True, False), (None, False, False)]
)
def test_missing_gpu(monkeypatch: pytest.MonkeyPatch, package: str | None, has_gpu: bool, is_told: bool) -> None:
    monkeypatch.setattr(preflight, "installed_version", {"onnxruntime-gpu": package}.get)
    monkeypatch.setattr(preflight, "has_nvidia_gpu", lambda: has_gpu)
    assert ("no NVIDIA GPU was found" in missing_gpu()) == bool(missing_gpu()) == is_told


def test_command_missing_module_is_named() -> None:
    app = commands()
    app.command("one")(lambda: import_module("module_of_tomorrow"))
    app.command("two")(lambda: None)
    done = CliRunner().invoke(app, ["one"])
    assert done.exit_code == 1
    assert done.stderr.startswith("error: config_invalid: The Python module module_of_tomorrow is missing.")
    assert "make setup" in done.stderr


_CODE = """
import ctypes
from lipwright.launch.readiness import bounded_start

with bounded_start(60):
    pass
with bounded_start(0.1):
    ctypes.PyDLL(None).sleep(120)
"""


def test_bounded_start_holding_the_interpreter_lock_ends() -> None:
    done = subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Timeout (0:00:00.1")


_SCRIPT = """
import ctypes, os, threading
import numpy as np
before = len(os.listdir("/proc/self/task"))
np.linalg.solve(np.eye(500), np.ones(500))
num_blas_threads = 1 + len(os.listdir("/proc/self/task")) - before
for _ in range(3):
    thread = threading.Thread(target=bytearray, args=(10_000,))
    thread.start()
    thread.join()
libc, text, size = ctypes.CDLL(None), ctypes.c_char_p(), ctypes.c_size_t()
libc.open_memstream.restype = ctypes.c_void_p
stream = ctypes.c_void_p(libc.open_memstream(ctypes.byref(text), ctypes.byref(size)))
libc.malloc_info(0, stream)
libc.fclose(stream)
print(text.value.count(b"<heap "), num_blas_threads)
"""


def test_set_ray_variables_one_arena_and_one_blas_thread() -> None:
    with patch.dict(os.environ):
        set_ray_variables()
        command = [sys.executable, "-c", _SCRIPT]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["1", "1"]


FLAT = "port: 8100\nhost: 0.0.0.0\ndata_dir: {0}\njobs: {{max_queued_jobs: 5}}\n"
NESTED = "http_options: {{port: 8100, host: 0.0.0.0}}\n" + (
    "applications: [{{args: {{data_dir: {0}, jobs: {{max_queued_jobs: 5}}}}}}]"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "my.yaml"


@pytest.mark.parametrize("text", [FLAT, NESTED])
def test_read_serve_config_short_file_overrides_the_shipped(repo_root: Path, path: Path, text: str) -> None:
    path.write_text(text.format(path.parent / "data"))
    shipped = repo_root / "serve_config.cpu.yaml"
    config, base = read_serve_config(path, shipped), read_serve_config(shipped)
    assert (config.http_options["host"], config.http_options["port"]) == ("0.0.0.0", 8100)
    assert config.http_options["request_timeout_s"] == 3600
    assert (config.pipeline.data_dir, config.pipeline.jobs.max_queued_jobs) == (path.parent / "data", 5)
    assert config.pipeline.jobs.max_running_jobs == base.pipeline.jobs.max_running_jobs == 4
    assert config.deployments == base.deployments


def test_read_serve_config_changes_deployments_by_name(repo_root: Path, path: Path) -> None:
    path.write_text("deployments: [{name: Studio, num_replicas: 3, ray_actor_options: {num_cpus: 1}}]")
    config = read_serve_config(path, repo_root / "serve_config.yaml")
    (studio,) = [each for each in config.deployments if each["name"] == "Studio"]
    assert (studio["num_replicas"], studio["ray_actor_options"]) == (3, {"num_cpus": 1})
    assert "autoscaling_config" not in studio and studio["max_ongoing_requests"] == 2
    assert len(config.deployments) == len(read_serve_config(repo_root / "serve_config.yaml").deployments)


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("port: 8100", {"heygem": {"enabled": True}}, ("127.0.0.1", 8100)),
        ("host: 127.0.0.2", {"heygem": {"enabled": True}}, ("127.0.0.2", 8383)),
        ("data_dir: x", {}, ("127.0.0.1", 8000)),
    ],
)
def test_on_this_machine_options_win_over_the_config(
    path: Path, text: str, options: dict[str, object], expected: tuple[str, int]
) -> None:
    path.write_text(text)
    http_options = read_serve_config(path).on_this_machine(**options).http_options  # type: ignore[arg-type]
    assert (http_options["host"], http_options["port"]) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("port: 8100\njobs: {max_queue_jobs: 5}", ":2: jobs.max_queue_jobs: is unknown; did you mean max_queued_jobs?"),
        ("data_dir: x\nmax_queued_jobs: 5", ":2: max_queued_jobs: is unknown; did you mean jobs.max_queued_jobs?"),
        ("prot: 8100", ":1: prot: is unknown; did you mean http_options.port?"),
        ("jbs:\n  max_queued_jobs: 5", ":1: jbs: is unknown; did you mean jobs?"),
        (
            "applications:\n- args:\n    jobs:\n      max_queued_jobs: 0",
            ":4: jobs.max_queued_jobs: must be greater than or equal to 1, found 0.",
        ),
        ("jobs:\n  max_queued_jobs: many", ":2: jobs.max_queued_jobs: must be an integer."),
        ("jobs: 5", ":1: jobs: expected keys with values, such as `data_dir: /srv/lipwright`."),
        ("x_y_z: 1", ":1: x_y_z: is unknown."),
        ("engines:\n  wav2lip: {}\n  wave2lip: {}", ":3: engines.wave2lip: is unknown; did you mean wav2lip?"),
        ("http_options:\n  prot: 8100", ":2: http_options.prot: is unknown; did you mean port?"),
        ("port: 0", ":1: http_options.port: must be a number from 1 to 65535, found 0."),
        ("data_dir: x\nhost: 5", ":2: http_options.host: must be an address, such as 127.0.0.1."),
        ("deployments:\n- name: Studioo", ":2: deployments.0.Studioo: is unknown; did you mean Studio?"),
        ("deployments:\n- num_replicas: 1", ":2: deployments.0.name: is required."),
        ("deployments: 3", ":1: deployments: expected a list, such as `- name: Studio`."),
        (
            "live:\n  preset: superfst",
            ":2: live.preset: must be 'ultrafast', 'superfast', 'veryfast', 'faster', 'fast', 'medium', 'slow', "
            "'slower', 'veryslow' or 'placebo'.",
        ),
        (
            "deployments:\n- name: Studio\n  num_replicas: some",
            ':2: deployments.0: `num_replicas` must be an int or "auto", but got: some.',
        ),
        ("port: 8100\n  host: x", ":2: not valid YAML: mapping values are not allowed here."),
        ("", ": expected keys with values, such as `data_dir: /srv/lipwright`."),
        ("applications: []", ":1: applications: expected a list of one application."),
        ("applications: [{args: [1]}]", ":1: args: expected keys with values, such as `data_dir: /srv/lipwright`."),
    ],
)
def test_read_serve_config_mistake_names_line_and_key(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        read_serve_config(path)
    assert str(raised.value) == f"{path}{message}"
    path.write_text("state: mysql://me:secret@host/name")
    with pytest.raises(ConfigError, match=r"^(?!.*secret).*state"):
        read_serve_config(path)


@pytest.mark.parametrize("command", [("serve",), ("doctor",), ("models", "list")])
def test_command_with_missing_config_is_one_error_line(path: Path, command: tuple[str, ...]) -> None:
    done = run(*command, "--config", str(path))
    assert done.exit_code == 1
    assert f"{path}: cannot be read: No such file or directory." in " ".join(done.output.split())
    assert "Error(" not in done.output


def test_read_serve_config_whole_file_is_used_unchanged(repo_root: Path, path: Path) -> None:
    whole = yaml.safe_load((repo_root / "serve_config.cpu.yaml").read_text())
    whole["applications"][0]["deployments"][0]["max_ongoing_requests"] = 7
    del whole["http_options"]["request_timeout_s"]
    path.write_text(yaml.safe_dump(whole))
    config = read_serve_config(path, repo_root / "serve_config.yaml")
    assert "request_timeout_s" not in config.http_options
    assert config.deployments == whole["applications"][0]["deployments"]


@pytest.mark.parametrize("name", ["serve_config.yaml", "serve_config.cpu.yaml"])
def test_read_serve_config_data_dir_ignores_working_directory(repo_root: Path, work_dir: Path, name: str) -> None:
    assert read_serve_config(repo_root / name).pipeline.data_dir == repo_root / "data"
    assert PipelineConfig().data_dir == repo_root / "data"
    assert PipelineConfig(data_dir=work_dir).data_dir == work_dir
