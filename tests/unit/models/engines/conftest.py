"""What tests of several engines use: a face, and a reader of weights files that is there at once."""

from __future__ import annotations

import pytest

from media.yuv_frame import YuvFrame
from models.avatar.avatar import Avatar
from models.engines.weights import inspection
from tests.unit.models.engines.forked_reader import read_in_fork
from tests.unit.models.engines.paste.face_scene import make_avatar, make_frames


@pytest.fixture(scope="session")
def avatar(tmp_path_factory: pytest.TempPathFactory) -> Avatar:
    return make_avatar(tmp_path_factory.mktemp("avatar"))


@pytest.fixture(scope="session")
def frames() -> list[YuvFrame]:
    return make_frames()


@pytest.fixture
def reading_process() -> None:
    """The test reads weights files as the service does."""


@pytest.fixture(autouse=True)
def _forked_reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "reading_process" not in request.fixturenames:
        monkeypatch.setattr(inspection, "_run", read_in_fork)
