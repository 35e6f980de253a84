"""What tests of several engines use: a face, and a reader of weights files that is there at once."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lipwright.media.yuv_frame import YuvFrame
from models.avatar.avatar import Avatar
from models.engines.weights import inspection
from tests.conftest import REPO_ROOT
from tests.unit.models.engines.forked_reader import read_in_fork
from tests.unit.models.engines.paste.face_scene import make_avatar, make_frames


@pytest.fixture(scope="session")
def avatar(tmp_path_factory: pytest.TempPathFactory) -> Avatar:
    return make_avatar(tmp_path_factory.mktemp("avatar"))


@pytest.fixture(scope="session")
def frames() -> list[YuvFrame]:
    return make_frames()


@pytest.fixture(scope="session")
def reference() -> Callable[[str], Any]:
    """Loads inputs and outputs of published networks; tests that want them are skipped without them."""
    folder = REPO_ROOT.parent / "shared" / "reference"
    if not folder.is_dir():
        pytest.skip(f"needs files that do not ship with the repository (../shared/reference beside {REPO_ROOT})")
    return lambda name: np.load(folder / name, allow_pickle=False)


@pytest.fixture
def reading_process() -> None:
    """The test reads weights files as the service does."""


@pytest.fixture(autouse=True)
def _forked_reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "reading_process" not in request.fixturenames:
        monkeypatch.setattr(inspection, "_run", read_in_fork)
