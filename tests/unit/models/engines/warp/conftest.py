"""Drawn avatars, each analysed once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from models.engines.warp.avatar import WarpAvatar
from tests.unit.models.synthetic_avatar import FilmedAvatar, make_avatar

Build = Callable[[float], tuple[FilmedAvatar, WarpAvatar]]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Returns the avatar whose mouth opens by so many eye distances."""

    @cache
    def build(opening: float) -> tuple[FilmedAvatar, WarpAvatar]:
        folder = tmp_path_factory.mktemp("avatar")
        filmed = make_avatar(folder, opening)
        return filmed, filmed.build(folder / "avatar")

    return build


@pytest.fixture(scope="session")
def talker(build: Build) -> WarpAvatar:
    """A source that talks."""
    return build(0.14)[1]


@pytest.fixture(scope="session")
def silent(build: Build) -> WarpAvatar:
    """A source whose mouth is always closed."""
    return build(0.0)[1]
