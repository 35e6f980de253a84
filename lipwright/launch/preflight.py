"""Checks before a service starts: packages, who may connect, the port, and whether results can be signed and stored."""

from __future__ import annotations

import shutil
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires, version
from shlex import quote

from packaging.requirements import Requirement

from lipwright.config import PipelineConfig
from lipwright.errors import ConfigError
from lipwright.launch.environment import ROOT
from lipwright.launch.readiness import try_to_listen
from lipwright.launch.serve_config import has_nvidia_gpu
from lipwright.media.labels.labeller import Labeller
from lipwright.media.self_test import check_encoder
from lipwright.net.access_rule import AccessRule
from lipwright.storage.state import check_files_access, open_keys


def own_requirements() -> list[str]:
    """Return the requirements of this checkout, and those of the installed Lipwright with their extras.

    After an update of the checkout they differ until `make setup` has run.
    """
    installed = (requires("lipwright") or []) if installed_version("lipwright") else []
    project = ROOT / "pyproject.toml"
    if not project.is_file():
        return installed
    return [*tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"], *installed]


def needed(requirements: Iterable[str]) -> list[Requirement]:
    """Return the requirements of this environment without extras, one per package: the first."""
    wanted = [Requirement(line) for line in requirements]
    applicable = [each for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
    return list({each.name: each for each in reversed(applicable)}.values())


def faults(requirements: Iterable[Requirement]) -> list[str]:
    """Return a text per package that is missing or has a wrong version."""
    return [fault for each in requirements if (fault := _fault(each))]


def installed_version(package: str) -> str | None:
    """Return the version of a package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _fault(requirement: Requirement) -> str:
    found = installed_version(requirement.name)
    if found is None:
        return f"{requirement.name} is missing"
    if not requirement.specifier.contains(found, prereleases=True):
        return f"{requirement.name} {found} is not {requirement.specifier}"
    return ""


def check_packages() -> None:
    """Refuse to start with missing or unfit packages, as after an update of the checkout.

    Raises:
        ConfigError: There are some.
    """
    if found := faults(needed(own_requirements())):
        raise ConfigError(f"Packages: {', '.join(found)}. Run `make setup` to install what pyproject.toml requires.")


def check_access(host: str, settings: PipelineConfig) -> None:
    """Refuse to listen on a public address without API keys.

    Raises:
        ConfigError: `lipwright.net.access_rule.AccessRule` forbids it.
    """
    rule = AccessRule(bool(open_keys(settings.state, settings.data_dir).list()), settings.access.allow_without_keys)
    if not rule.may_listen(host):
        raise ConfigError(
            f"--host {host}: listening for other machines requires an API key, and {settings.data_dir} has none. "
            f"Create one with `{add_key_command(settings)}`, or use --allow-without-keys on a trusted network."
        )


def add_key_command(settings: PipelineConfig) -> str:
    """Return the command that adds an API key to a service."""
    folder = "" if settings.data_dir == PipelineConfig().data_dir else f" --data-dir {quote(str(settings.data_dir))}"
    return f"lipwright keys add NAME{'' if settings.state else folder}"


def check_port(host: str, port: int) -> None:
    """Refuse a port that is in use.

    Raises:
        ConfigError: The port is in use or not allowed, or the host is not an address of this machine.
    """
    try:
        try_to_listen(host, port)
    except OSError as error:
        raise ConfigError(
            f"--host {host} --port {port}: {error.strerror}. Choose another port, or find the "
            f"process that uses it: ss -ltnp 'sport = :{port}'."
        ) from error


def missing_gpu() -> str:
    """Return what to say if packages for a GPU are installed and there is none; empty otherwise."""
    if installed_version("onnxruntime-gpu") is None or has_nvidia_gpu():
        return ""
    return (
        "onnxruntime-gpu is installed, but no NVIDIA GPU was found: networks run on the CPU. If this machine has one, "
        "install NVIDIA's driver (in a container: --gpus all)."
    )


def disk_shortage(settings: PipelineConfig) -> str:
    """Return what to say about a data folder without space for a job; empty if there is some."""
    free = sys.maxsize if settings.files else shutil.disk_usage(settings.data_dir).free
    if free > settings.jobs.min_free_bytes:
        return ""
    return (
        f"No disk space for jobs: {settings.data_dir} has {free / 2**20:.0f} MiB free, of which jobs must leave "
        f"{settings.jobs.min_free_bytes / 2**20:.0f} MiB (jobs.min_free_bytes). New jobs are refused until there is "
        "more. Free disk space, or choose another folder with --data-dir."
    )


def check_results(settings: PipelineConfig) -> None:
    """Refuse to start a service that could not encode, sign or store its results.

    Raises:
        ConfigError: `render.encoder` does not work on this machine.
        LabelError: Results cannot be signed.
        StorageUnreachableError: The bucket cannot be used.
    """
    check_encoder(settings.render.encoder)
    Labeller(settings.labels, settings.data_dir).check_signing()
    if settings.files is not None:
        check_files_access(settings)
