from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from config import MediaLimits
from media.probe import probe_video
from media.reader import FrameReader
from media.yuv_frame import YuvFrame
from models.track.shots import scene_of, shots_of

RNG = np.random.default_rng(3)


def scenery() -> YuvFrame:
    """(180, 320) soft blots."""
    luma = cv2.GaussianBlur(RNG.normal(0, 1, (180, 320)), (0, 0), 12)
    luma = (110 + 45 * luma / luma.std()).clip(16, 235)
    return YuvFrame(luma.astype(np.uint8), *(RNG.integers(100, 150, (90, 160), dtype=np.uint8) for _ in range(2)))


def seen(planes: YuvFrame, *, shift: int = 0, gain: float = 1.0) -> NDArray[np.uint8]:
    """A frame of the scenery with sensor noise, panned and lit."""
    luma = np.roll(planes.y, shift, 1).astype(float) * gain + RNG.normal(0, 2, planes.y.shape)
    return scene_of(YuvFrame(luma.clip(0, 255).astype(np.uint8), planes.u, planes.v))


HERE, THERE = scenery(), scenery()
BLACK = scene_of(YuvFrame(np.full((180, 320), 16, np.uint8), *(np.full((90, 160), 128, np.uint8),) * 2))


def starts(scenes: list[NDArray[np.uint8]]) -> list[int]:
    return (np.flatnonzero(np.diff(shots_of(np.array(scenes)))) + 1).tolist()


def test_shots_of_cuts_start_new_shots() -> None:
    scenes = [seen(HERE) for _ in range(12)] + [seen(THERE) for _ in range(15)] + [seen(HERE) for _ in range(12)]
    assert scenes[0].shape == (864,)
    assert starts(scenes) == [12, 27]
    assert shots_of(np.array(scenes))[[0, 12, 27]].tolist() == [0, 1, 2]


def test_shots_of_flash_or_short_black_is_no_cut() -> None:
    before, after = [seen(HERE) for _ in range(12)], [seen(HERE) for _ in range(12)]
    assert starts([*before, seen(HERE, gain=2.2), seen(HERE, gain=1.6), *after]) == []
    assert starts([*before, BLACK, BLACK, BLACK, *after]) == []
    assert starts([*before, *[BLACK] * 9, *after]) == [12, 21]


def test_shots_of_pans_and_dimming_are_no_cuts() -> None:
    assert starts([seen(HERE, shift=6 * max(0, i - 10)) for i in range(30)]) == []
    assert starts([seen(HERE, gain=0.7 if i > 15 else 1.0) for i in range(30)]) == []
    assert starts([seen(HERE)]) == []


def test_shots_of_real_clip_finds_its_cuts(shared_clips: Path) -> None:
    clip = shared_clips / "grid_talker6_long.mp4"
    info = probe_video(clip, MediaLimits())
    with FrameReader(clip, info, 2**24) as reader:
        scenes = [scene_of(planes) for planes in reader.read(range(info.num_frames))]
    assert starts(scenes) == [75, 150, 225, 300, 375, 450, 525]


@pytest.mark.parametrize("size", [(36, 64), (1080, 1920)])
def test_scene_of_frames_of_any_size(size: tuple[int, int]) -> None:
    height, width = size
    frame = YuvFrame(
        np.tile(np.linspace(20, 220, width).astype(np.uint8), (height, 1)),
        *(np.full((height // 2, width // 2), 128, np.uint8),) * 2,
    )
    luma = scene_of(frame)[:576].reshape(18, 32).astype(int)
    assert np.allclose(luma, np.linspace(23, 217, 32), atol=4)
