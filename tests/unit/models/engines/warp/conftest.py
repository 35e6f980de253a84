"""Drawn avatars, each analysed once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from models.engines.warp.avatar import WarpAvatar
from models.engines.warp.exemplars import ExemplarBank
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


def exemplar_bank(num: int, **columns: Any) -> ExemplarBank:
    """A bank of equal closed mouths in consecutive frames, but for some columns."""
    ones = np.ones(num, np.float32)
    usual: dict[str, Any] = {
        "frames": np.arange(num, dtype=np.int32),
        "shape": np.zeros((num, 8), np.float32),
        "pose": np.zeros((num, 3), np.float32),
        "luma": 120 * ones,
        "sharpness": 100 * ones,
        "bands": ones,
        "bite": 0.5 * ones,
        "gap": 0 * ones,
        "thumbs": np.full((num, 1024), 1 / 32, np.float32),
        "patches": np.zeros((num, 6), np.uint8),
    }
    return ExemplarBank(**{**usual, **columns}, region_size=2)
