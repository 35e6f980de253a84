"""The face of `paste/face_scene.py` for the engines that are tested on it."""

from __future__ import annotations

import pytest

from media.yuv_frame import YuvFrame
from models.avatar.avatar import Avatar
from tests.unit.models.engines.paste.face_scene import make_avatar, make_frames


@pytest.fixture(scope="session")
def avatar(tmp_path_factory: pytest.TempPathFactory) -> Avatar:
    return make_avatar(tmp_path_factory.mktemp("avatar"))


@pytest.fixture(scope="session")
def frames() -> list[YuvFrame]:
    return make_frames()
