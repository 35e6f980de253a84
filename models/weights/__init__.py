"""The weights that Lipwright ships: one folder, each file checked against SHA256SUMS before it is used."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from errors import WeightsError

FOLDER = Path(__file__).parent
SUMS_NAME = "SHA256SUMS"


@cache
def weights_path(name: str) -> Path:
    """Returns the path of a shipped weights file, verified once per process.

    Args:
        name: File name inside `models/weights`, for example "face_landmark_468.onnx".

    Raises:
        WeightsError: The file is not listed in SHA256SUMS, is missing, or has another sha256.
    """
    return verified_path(FOLDER, name)


def verified_path(folder: Path, name: str) -> Path:
    """Returns `folder / name` after comparing it with the folder's SHA256SUMS.

    Raises:
        WeightsError: As `weights_path`.
    """
    path = folder / name
    expected = read_sums(folder / SUMS_NAME).get(name)
    if expected is None:
        raise WeightsError(f"Expected a weights file listed in {SUMS_NAME}, got {name!r}.")
    found = file_sha256(path)
    if found != expected:
        raise WeightsError(f"Expected {name} with sha256 {expected}, found {found}.")
    return path


def read_sums(path: Path) -> dict[str, str]:
    """Reads a list in the format of the `sha256sum` tool: {file name: hex digest}.

    Raises:
        WeightsError: The list is missing or a line is not "<digest>  <name>".
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise WeightsError(f"Expected a list of checksums, {path.name} cannot be read: {error.strerror}.") from error
    sums: dict[str, str] = {}
    for line in filter(None, map(str.strip, lines)):
        digest, _, name = line.partition(" ")
        name = name.strip().removeprefix("*")
        if len(digest) != 64 or not name:
            raise WeightsError(f"Expected lines of '<sha256>  <name>' in {path.name}, got {line!r}.")
        sums[name] = digest.lower()
    return sums


def file_sha256(path: Path) -> str:
    """Returns the sha256 of a file as hex digits.

    Raises:
        WeightsError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"Expected the weights file {path.name}, it cannot be read: {error.strerror}.") from error
