from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.engines.warp.exemplars import forbidden_between_shots

RNG = np.random.default_rng(2)
SHADING = RNG.normal(0, 1, 1024)


@dataclass(frozen=True)
class Bank:
    """The columns of an exemplar bank that tell shots apart."""

    frames: NDArray[np.int32]
    thumbs: NDArray[np.float32]
    luma: NDArray[np.float32]
    pose: NDArray[np.float32]


@dataclass(frozen=True)
class Track:
    """The columns of a face track that tell shots apart."""

    shot: NDArray[np.int32]
    scale: NDArray[np.float64]


def material() -> tuple[Bank, Track]:
    """Four shots of ten frames: two of one scene, one at another scale, one that the bank has nothing of."""
    frames = np.arange(30, dtype=np.int32)
    thumbs = (SHADING + RNG.normal(0, 0.3, (30, 1024))).astype(np.float32)
    thumbs /= np.linalg.norm(thumbs, axis=1, keepdims=True)
    scale = np.where(np.arange(40) // 10 == 2, 160.0, 80.0)
    bank = Bank(frames, thumbs, np.full(30, 120, np.float32), np.zeros((30, 3), np.float32))
    return bank, Track(np.repeat(np.arange(4, dtype=np.int32), 10), scale)


def groups(bank: Bank, track: Track) -> list[list[int]]:
    """Which shots' exemplars each shot may show."""
    forbidden = forbidden_between_shots(bank, track)  # type: ignore[arg-type]
    return [sorted({int(track.shot[bank.frames[row]]) for row in np.flatnonzero(~rows)}) for rows in forbidden]


def test_shots_of_equal_scene_and_scale_share_exemplars() -> None:
    assert groups(*material()) == [[0, 1], [0, 1], [2], []]


def test_shots_do_not_share_across_light_pose_or_shading() -> None:
    bank, track = material()
    second = bank.frames // 10 == 1
    changes = {
        "luma": bank.luma + 30 * second,
        "pose": bank.pose + 15 * second[:, None],
        "thumbs": np.where(second[:, None], bank.thumbs[:, ::-1], bank.thumbs),
    }
    for name, values in changes.items():
        assert groups(replace(bank, **{name: values.astype(np.float32)}), track)[:2] == [[0], [1]]
