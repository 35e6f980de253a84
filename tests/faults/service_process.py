"""The service as a process of its own, which a test may kill: all at once, or one replica after the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from lipwright.launch.serve_config import read_serve_config
from tests.hostile_folder import imported_modules, make_hostile_folder
from tests.ports import quiet_port
from tests.waiting import wait_until

REPO_ROOT = Path(__file__).resolve().parents[2]
START_S = 240.0
KINDS = (
    "Ingress",
    "Director",
    "MediaProbe",
    "SpeechSynthesis",
    "AudioFeatures",
    "LandmarkGenerator",
    "LiveSession",
    "Studio",
    "FaceSynthesis",
)


def config_with(folder: Path, **arguments: dict[str, Any] | str) -> Path:
    """This machine's Serve config with some sections or fields of its `args:` changed, as a new file in `folder`."""
    config = yaml.safe_load(read_serve_config().path.read_text(encoding="utf-8"))
    known = config["applications"][0]["args"]
    for section, fields in arguments.items():
        known[section] = {**known.get(section, {}), **fields} if isinstance(fields, dict) else fields
    path = folder / "serve_config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


class ServiceProcess:
    """`lipwright serve` on a free loopback port."""

    def __init__(
        self,
        data_dir: Path,
        config: Path | None = None,
        options: tuple[str, ...] = (),
        inside: tuple[str, ...] = (),
    ) -> None:
        """`inside` is a command that runs the rest of its line in its own place, such as `nice`."""
        start = [
            sys.executable,
            "-P",
            "-c",
            "from lipwright.cli.__main__ import main; main()",
        ]  # as the installed command does
        self._command = [*inside, *start, "serve", "--verbose", "--data-dir", str(data_dir.absolute()), *options]
        self._cwd = make_hostile_folder(data_dir.parent.absolute() / "cwd")
        if config is not None:
            self._command += ["--config", str(config)]
        self._log = data_dir.parent / "service.log"
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until every stage answers, or it waits for another service to end."""
        port = quiet_port()
        self.url = f"http://127.0.0.1:{port}"
        with self._log.open("ab") as log:
            command = [*self._command, "--port", str(port)]
            self._process = subprocess.Popen(
                command,
                cwd=self._cwd,
                env=os.environ | {"PYTHONPATH": str(REPO_ROOT)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(lambda: self._has_ended() or self.is_ready() or self.stands_by(), START_S, 0.2)
        assert not self._has_ended(), self._log.read_text(encoding="utf-8")[-2000:]

    def is_ready(self) -> bool:
        """Whether every stage answers."""
        return _answers(f"{self.url}/readyz")

    def stands_by(self) -> bool:
        """Whether another service leads."""
        with suppress(httpx.HTTPError):
            return "standby" in httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False, verify=False).text
        return False

    def _has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def stop(self) -> None:
        """End it as a supervisor does; Ctrl-C would not reach it where the tests run in the background of a shell."""
        if self._process is not None and not self._has_ended():
            self._process.send_signal(signal.SIGTERM)
            status = self._process.wait(180)
            assert status == 0, f"expected an end in order, found status {status}"
            assert imported_modules(self._cwd) == [], "modules of the working directory were imported"

    def wait(self, timeout_s: float) -> int:
        """Wait until the command has ended, and return its exit status."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def processes(self) -> list[psutil.Process]:
        """Every process of the service: the command, Ray's own, the replicas and what they started."""
        assert self._process is not None
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self._process.pid)
            return [root, *root.children(recursive=True)]
        return []

    def kill_everything(self) -> int:
        """SIGKILL to every process at once; returns how many there were."""
        processes = self.processes()
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)  # so that none sees another die
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=20)
        return len(processes)

    def replicas(self, kind: str) -> list[psutil.Process]:
        """The processes of one deployment's replicas."""
        return [process for process in self.processes() if f":{kind}" in _title(process, "ray::ServeReplica")]

    def controllers(self) -> list[psutil.Process]:
        """The process of Serve's controller; none or two for a moment while it is replaced."""
        return [process for process in self.processes() if _title(process, "ray::ServeController")]


@contextmanager
def served(
    data_dir: Path, config: Path | None = None, options: tuple[str, ...] = (), inside: tuple[str, ...] = ()
) -> Iterator[ServiceProcess]:
    """A running service for the block; nothing of it is left behind."""
    service = ServiceProcess(data_dir, config, options, inside)
    try:
        service.start()
        yield service
        service.stop()
    finally:
        service.kill_everything()


def open_files(processes: list[psutil.Process]) -> int:
    """File handles of all these processes together."""
    total = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess, FileNotFoundError):
            total += len(os.listdir(f"/proc/{process.pid}/fd"))
    return total


def wait_until_replaced(find: Callable[[], list[psutil.Process]], old: psutil.Process, bound_s: float = 150.0) -> float:
    """Wait until `old` has ended and `find` finds others; returns how many seconds that took.

    A controller that hangs is given a minute, and a replica three health checks of ten seconds.
    """
    return wait_until(lambda: not old.is_running() and [one for one in find() if one.pid != old.pid], bound_s)


def _title(process: psutil.Process, begin: str) -> str:
    with suppress(psutil.NoSuchProcess):
        title = " ".join(process.cmdline())
        return title if title.startswith(begin) else ""
    return ""


def _answers(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(url, timeout=5, trust_env=False, verify=False).status_code == 200
    return False
