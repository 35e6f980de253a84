"""Checks the bundled weights against SHA256SUMS."""

from __future__ import annotations

from pathlib import Path

from doctor.check_result import CheckResult, ok, problem
from errors import WeightsError
from models.weights import FOLDER, SUMS_NAME, read_sums, verified_path


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
