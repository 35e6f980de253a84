"""What the container tests share: the image, built once, and the inputs of a job."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.container.image import Podman, missing_programs
from tests.faults.conftest import long_pair  # noqa: F401 - a fixture


@pytest.fixture(scope="session")
def podman() -> Iterator[Podman]:
    """Podman with the image."""
    if reason := missing_programs():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="lipwright-podman-"))
    podman = Podman(folder)
    try:
        podman.build()
        yield podman
    finally:
        podman.run("rm", "--all", "--force", "--time=5")
        shutil.rmtree(folder)
