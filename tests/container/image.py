"""Builds cluster/Containerfile without an image registry, and runs the image as cluster/compose.yaml says.

The base image is replaced by one of the same name: Debian, made by debootstrap, with the Python that runs the tests.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
import yaml

from tests.ports import quiet_port
from tests.waiting import wait_until

REPO_ROOT = Path(__file__).resolve().parents[2]
IMAGE = "lipwright:test"
_CONTAINERFILE = REPO_ROOT / "cluster" / "Containerfile"
_PYTHON_NEEDS = (
    "ca-certificates,libbz2-1.0,libexpat1,libffi8,liblzma5,libreadline8t64,libsqlite3-0,libssl3t64,libuuid1,zlib1g"
)
_DATA_DIR = "/srv/lipwright/data"
_START_S = 240.0


def missing_programs() -> str:
    """Why images cannot be built and run on this machine; empty if they can."""
    missing = [name for name in ("podman", "buildah", "runc", "catatonit", "debootstrap") if shutil.which(name) is None]
    if missing:
        return f"needs {', '.join(missing)} (Debian: apt install podman buildah runc catatonit debootstrap)"
    return "" if os.geteuid() == 0 else "needs root: debootstrap makes the base image"


def _run(*command: str | Path, timeout_s: float = 900.0) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout.strip()


def _limits(**wanted: int) -> list[str]:
    """Options for limits of resources. Without them, podman asks for more than this machine may allow."""
    hard = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1] for name in ("nofile", "nproc")}
    limits = {name: min(wanted.get(name, most), most) for name, most in hard.items() if most > 0}
    return [f"--ulimit={name}={value}:{value}" for name, value in limits.items()]


class Podman:
    """Podman with a folder of its own for images, containers and volumes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._where = (f"--root={folder / 'storage'}", f"--runroot={folder / 'run'}")

    def run(self, *arguments: str, timeout_s: float = 120.0) -> str:
        """Run a command of podman and return its output."""
        return _run("podman", *self._where, "--runtime=runc", *arguments, timeout_s=timeout_s)

    def build(self) -> None:
        """Build the image."""
        self._make_base(*re.findall(r"^ARG PYTHON=(.+)$", _CONTAINERFILE.read_text(encoding="utf-8"), re.M))
        options = ["--isolation=chroot", "--network=host", "--layers=false", *_limits(), *self._package_index()]
        where = [*self._where, "build", *options, f"--file={_CONTAINERFILE}", f"--tag={IMAGE}", str(REPO_ROOT)]
        _run("buildah", *where, timeout_s=1500)

    def _make_base(self, tag: str) -> None:
        root, archive = self._folder / "root", self._folder / "root.tar"
        _run("debootstrap", "--variant=minbase", f"--include={_PYTHON_NEEDS}", tag.rpartition("-")[2], root)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        ours, theirs = Path(sys.base_prefix), root / "usr" / "local"
        unused = shutil.ignore_patterns("site-packages", "dist-packages", "test", "__pycache__", "config-*")
        shutil.copytree(ours / "lib" / version, theirs / "lib" / version, symlinks=True, ignore=unused)
        for library in (ours / "lib").glob("libpython3*"):
            shutil.copy2(library, theirs / "lib", follow_symlinks=False)
        shutil.copy2(ours / "bin" / version, theirs / "bin" / version)
        for name in ("python", "python3"):
            (theirs / "bin" / name).symlink_to(version)
        _run("chroot", root, "ldconfig")
        _run("tar", "--create", f"--directory={root}", f"--file={archive}", ".")
        self.run("import", str(archive), f"docker.io/library/python:{tag}", timeout_s=600)
        shutil.rmtree(root)
        archive.unlink()

    def _package_index(self) -> list[str]:
        """Options that give the build pip's settings on this machine, with the files that they name."""
        settings: dict[str, str] = {}
        for line in _run(sys.executable, "-m", "pip", "config", "list").splitlines():
            name, _, value = line.partition("=")
            settings.setdefault(name.rpartition(".")[2], value.strip("'"))  # the environment comes first
        settings.pop("constraint", None)  # the Containerfile has its own
        file = self._folder / "pip.conf"
        file.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items()))
        paths = {value for value in settings.values() if value.startswith("/")}
        return [f"--volume={file}:/etc/pip.conf:ro", *(f"--volume={path}:{path}:ro" for path in sorted(paths))]


class Container:
    """The service of cluster/compose.yaml in a container, on a loopback port of this machine.

    Two options differ: the container shares the machine's network, as the database and the bucket of the tests are on
    loopback, and limits are no higher than those of this machine.
    """

    def __init__(self, podman: Podman, name: str, environment: Mapping[str, str] | None = None) -> None:
        self._podman, self._name = podman, name
        self._options = _options_of_compose_file(environment or {})
        self.url = ""

    def start(self) -> None:
        """Create it, with the volume of the last one of this name, and wait until it is ready or on standby."""
        port = quiet_port()
        self.url = f"http://127.0.0.1:{port}"
        volume = f"--volume={self._name}:{_DATA_DIR}"
        command = ["lipwright", "serve", "--host=127.0.0.1", f"--port={port}", f"--data-dir={_DATA_DIR}"]
        options = ["--detach", "--network=host", f"--name={self._name}", volume, *self._options]
        self._podman.run("run", *options, IMAGE, *command)
        wait_until(lambda: self._answers() or not self._is_running(), _START_S, 0.3)
        assert self._is_running(), self.log()

    def execute(self, *command: str) -> str:
        """Run a command in the container and return its output."""
        return self._podman.run("exec", self._name, *command)

    def stop(self) -> int:
        """Stop it as `compose down` does, remove it, and return its exit status."""
        self._podman.run("stop", self._name)
        return self._remove()

    def kill(self) -> None:
        """Kill all its processes at once, and remove it."""
        self._podman.run("kill", "--signal=KILL", self._name)
        self._podman.run("wait", self._name)
        self._remove()

    def log(self) -> str:
        """The end of its output."""
        return self._podman.run("logs", "--tail=40", self._name)

    def _remove(self) -> int:
        status = int(self._podman.run("inspect", "--format={{.State.ExitCode}}", self._name))
        self._podman.run("rm", self._name)
        return status

    def _is_running(self) -> bool:
        return self._podman.run("inspect", "--format={{.State.Running}}", self._name) == "true"

    def _answers(self) -> bool:
        try:
            answer = httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200 or "standby" in answer.text


def _options_of_compose_file(environment: Mapping[str, str]) -> Sequence[str]:
    """The options of `podman run` for the service of compose.yaml, with these variables in the shell."""
    compose = yaml.safe_load((REPO_ROOT / "cluster" / "compose.yaml").read_text(encoding="utf-8"))
    service = dict(compose["services"]["lipwright"])
    assert service.pop("init") is True
    assert service.pop("volumes") == [f"lipwright-data:{_DATA_DIR}"]
    for name in ("image", "ports", "restart"):  # the image is built here, on the machine's network, and never restarted
        del service[name]
    options = ["--init", f"--shm-size={service.pop('shm_size')}", *_limits(**service.pop("ulimits"))]
    options.append(f"--stop-timeout={service.pop('stop_grace_period').removesuffix('s')}")
    options += [f"--cap-drop={name}" for name in service.pop("cap_drop")]
    options += [f"--security-opt={name}" for name in service.pop("security_opt")]
    for name, value in service.pop("environment").items():
        if value is not None or name in environment:
            options.append(f"--env={name}={environment.get(name, '')}")
    assert not service, f"options of compose.yaml that the tests do not know: {sorted(service)}"
    return options
