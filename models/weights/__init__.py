"""Shipped weights. Each file is verified against SHA256SUMS before use."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from lipwright.errors import WeightsError

FOLDER = Path(__file__).parent
SUMS_NAME = "SHA256SUMS"


@cache
def weights_path(name: str) -> Path:
    """Return the path of a file in `models/weights`, verified once per process.

    Raises:
        WeightsError: The file is not listed in SHA256SUMS, is missing, or has a different SHA-256.
    """
    return verified_path(FOLDER, name)


def verified_path(folder: Path, name: str) -> Path:
    """Return `folder / name` after verifying it against the folder's SHA256SUMS.

    Raises:
        WeightsError: See `weights_path`.
    """
    path = folder / name
    expected = read_sums(folder / SUMS_NAME).get(name)
    if expected is None:
        raise WeightsError(f"The weights file {name!r} is not listed in {SUMS_NAME}.")
    found = file_sha256(path)
    if found != expected:
        raise WeightsError(f"Expected {name} with sha256 {expected}, got {found}.")
    return path


def read_sums(path: Path) -> dict[str, str]:
    """Read a `sha256sum` file as {file name: hex digest}.

    Raises:
        WeightsError: The list is missing or a line is not "<digest>  <name>".
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise WeightsError(f"Cannot read the checksums in {path.name}: {error.strerror}.") from error
    sums: dict[str, str] = {}
    for line in filter(None, map(str.strip, lines)):
        digest, _, name = line.partition(" ")
        name = name.strip().removeprefix("*")
        if len(digest) != 64 or not name:
            raise WeightsError(f"Expected lines of '<sha256>  <name>' in {path.name}, got {line!r}.")
        sums[name] = digest.lower()
    return sums


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Raises:
        WeightsError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"Cannot read the weights file {path.name}: {error.strerror}.") from error
