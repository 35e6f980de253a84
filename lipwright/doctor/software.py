"""Checks Python, the packages against pyproject.toml, and the bundled weights against SHA256SUMS."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from lipwright.doctor.report import CheckResult, ok, problem, warning
from lipwright.errors import WeightsError
from lipwright.launch.preflight import faults, installed_version, needed, own_requirements
from models.weights import FOLDER, SUMS_NAME, read_sums, verified_path

_MIN_PYTHON: Final = (3, 11)
# CPython issue 106905, "AST constructor recursion depth mismatch": fixed in 3.11.8 and 3.12.2.
_RACING_PARSERS: Final = {(3, 11, patch) for patch in range(8)} | {(3, 12, 0), (3, 12, 1)}
_ONNX_PACKAGES: Final = ("onnxruntime", "onnxruntime-gpu")


def check_python(version: tuple[int, int, int] = sys.version_info[:3]) -> CheckResult:
    """Checks the interpreter.

    Args:
        version: Major, minor and patch.
    """
    found = (
        f"{platform.python_implementation()} {'.'.join(map(str, version))} on {platform.system()} {platform.machine()}"
    )
    if version < _MIN_PYTHON:
        return problem(found, "3.11 or newer", "Recreate the environment: make setup PYTHON=python3.11.")
    if version in _RACING_PARSERS:
        return warning(
            found,
            "3.11.8 or newer, 3.12.2 or newer, or 3.13",
            "In this version, threads that parse at the same time fail (CPython issue 106905). Lipwright works around "
            "it in its own processes; elsewhere set PYTHONNODEBUGRANGES=1, or recreate the environment with a newer "
            "Python.",
        )
    if platform.system() != "Linux":
        return warning(found, "Linux", "Lipwright is tested on Linux only; run it in a container.")
    return ok(found)


def check_packages(requirements: Iterable[str] | None = None) -> CheckResult:
    """Checks that the packages of pyproject.toml are installed in the required versions.

    Args:
        requirements: Lines as in pyproject.toml; default: those of this checkout and of the installed Lipwright.
    """
    if installed_version("lipwright") is None:
        return warning("Lipwright itself is not installed", "an installed Lipwright", "Run make setup.")
    wanted = list(own_requirements() if requirements is None else requirements)
    checked = needed(wanted)
    # Both extras name an onnxruntime; the requirement of the installed one counts.
    named = (Requirement(line) for line in wanted)
    checked += [each for each in named if each.name in _ONNX_PACKAGES and installed_version(each.name) is not None]
    wrong = faults(checked)
    if wrong:
        return problem(", ".join(wrong), "the ranges of pyproject.toml", "Run make setup, or pip install -e '.[cpu]'.")
    return ok(f"{len(checked)}, all in the ranges of pyproject.toml")


def check_onnxruntime(installed: Iterable[str] | None = None) -> CheckResult:
    """Checks that exactly one of the two packages with the module `onnxruntime` is installed.

    Args:
        installed: Names of the installed ones; default: those of this environment.
    """
    found = [each for each in _ONNX_PACKAGES if installed_version(each)] if installed is None else sorted(installed)
    if len(found) == 1:
        return ok(found[0])
    if not found:
        return problem("none", "onnxruntime or onnxruntime-gpu", "pip install -e '.[cpu]' (-e '.[gpu]' with a GPU).")
    return problem(
        f"{' and '.join(found)}: they overwrite each other's files",
        "one of them",
        "pip uninstall onnxruntime onnxruntime-gpu, then pip install -e '.[gpu]' (or -e '.[cpu]' without a GPU).",
    )


def check_clock(now_s: float, newest: Path = Path(__file__)) -> CheckResult:
    """Checks that the clock, used for webhook signatures and certificates, is not older than the installed files."""
    if now_s < newest.stat().st_mtime - 86400:
        return warning(
            "earlier than the date of Lipwright's own files",
            "the current time",
            "Set it: timedatectl set-ntp true.",
        )
    return ok("not earlier than the installed files")


def check_weights(folder: Path = FOLDER) -> CheckResult:
    """Compares the sha256 of each file."""
    try:
        names = sorted(read_sums(folder / SUMS_NAME))
    except WeightsError as error:
        return problem(str(error), f"{SUMS_NAME} in {folder}", _MEND)
    wrong = [fault for name in names if (fault := _fault(folder, name))]
    if wrong:
        return problem(" ".join(wrong), f"the {len(names)} files of {folder / SUMS_NAME}", _MEND)
    return ok(f"{len(names)} files, each with its sha256")


_MEND = "Restore the folder models/weights from the release: git checkout -- models/weights, or reinstall."


def _fault(folder: Path, name: str) -> str:
    try:
        verified_path(folder, name)
    except WeightsError as error:
        return str(error)
    return ""
