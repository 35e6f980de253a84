"""The mouth that is held where nobody speaks: which one it is, and that the finished picture of it does not move."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.engines.patches import FacePatches
from models.engines.warp.avatar import WarpAvatar
from models.engines.warp.chunk import FaceChunk
from models.engines.warp.crop import crop_faces
from models.engines.warp.exemplars import ExemplarBank, held_row
from models.engines.warp.generator import WarpFaceGenerator
from models.engines.warp.measures import silent_motion
from models.engines.warp.plan import MouthPlan, plan_block
from models.geometry.head_frame import INNER_LOWER, INNER_UPPER
from models.mouth.shape import CHANNELS
from models.speech.speech_to_mouth import MouthBlock
from models.track.raw_landmarks import RawLandmarks
from tests.unit.models.engines.warp.conftest import exemplar_bank
from tests.unit.models.synthetic_avatar import EYES, NUM_FRAMES, FilmedAvatar, make_avatar, mouth_shapes

# The mouth of this avatar opens and shuts in these frames, far from those without a face.
TALKING = np.r_[5:12, 28:40]


def _bank(
    num: int, openness: NDArray[np.floating], bands: NDArray[np.floating], jaw: NDArray[np.floating] | None = None
) -> ExemplarBank:
    """Where nothing else is said, the jaw hangs where the mouth is less even."""
    shape = np.zeros((num, 8), np.float32)
    shape[:, :2] = openness[:, None]
    shape[:, CHANNELS.index("jaw")] = bands if jaw is None else jaw
    return exemplar_bank(num, shape=shape, bands=bands.astype(np.float32))


def test_held_row_prefers_even_closed_mouth_with_raised_jaw() -> None:
    openness, bands, jaw = np.linspace(0, 0.1, 100), np.linspace(0.1, 0.2, 100), np.linspace(0, 0.05, 100)
    bands[0], jaw[0] = 0.0, 0.1  # lips that meet for a sound, over a jaw that hangs
    bands[1], jaw[1] = 0.4, -0.1  # a dark hole between the lips
    bands[6], jaw[6] = 0.05, -0.05
    bands[50], jaw[50] = 0.0, -0.2  # open
    assert held_row(_bank(100, openness, bands, jaw)) == 6


def test_held_row_avoids_blur_teeth_and_other_shots() -> None:
    bank = _bank(100, np.linspace(0, 0.1, 100), np.linspace(0.1, 0.2, 100))
    assert held_row(bank) == 0
    assert held_row(bank, np.arange(100) >= 70) == 70
    blurred = np.where(np.arange(100) < 1, np.float32(40), np.float32(100))
    assert held_row(replace(bank, sharpness=blurred)) == 1
    smiles = np.where(np.arange(100) < 30, np.float32(0.06), np.float32(0.01))
    assert held_row(replace(bank, gap=smiles)) == 30
    assert held_row(replace(bank, gap=np.full(100, np.float32(0.06)))) == 0  # there are no others
    others_are_open = _bank(100, np.r_[0, np.linspace(0.1, 0.2, 99)], np.linspace(0.1, 0.2, 100))
    assert held_row(replace(others_are_open, sharpness=blurred / 2)) == 0, "closed lips out of focus, not open ones"


def _in_soft_light(folder: Path) -> FilmedAvatar:
    """A mouth whose inside is hardly darker than its lips, and landmarks that tremble."""
    avatar = make_avatar(folder, 0.14, darkness=0.3)
    points = avatar.raw.points.copy()
    tremble = np.random.default_rng(4).normal(0, 0.012 * EYES, (NUM_FRAMES, 2))
    points[:, list(INNER_LOWER), 1] += tremble[:, :1]
    points[:, list(INNER_UPPER), 1] += tremble[:, 1:]
    return replace(avatar, raw=RawLandmarks(points, avatar.raw.present))


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> tuple[FilmedAvatar, WarpAvatar]:
    avatar = _in_soft_light(tmp_path_factory.mktemp("avatar"))
    return avatar, avatar.build(tmp_path_factory.mktemp("avatar"))


def _planned(warp_avatar: WarpAvatar, gate: NDArray[np.floating], index: NDArray[np.integer]) -> MouthPlan:
    shape = mouth_shapes(len(index), 0.1) * gate[:, None].astype(np.float32)
    mouth = MouthBlock(shape, gate.astype(np.float32))
    return plan_block(warp_avatar, mouth, index.astype(np.int32), 0, None)[0]


def _painted(avatar: FilmedAvatar, warp_avatar: WarpAvatar, plan: MouthPlan) -> tuple[FaceChunk, FacePatches]:
    with avatar.reader() as reader:
        chunk = crop_faces(warp_avatar, plan, list(reader.read(plan.source_index.tolist())))
    return chunk, WarpFaceGenerator().generate(chunk)


def _between_the_lips(
    warp_avatar: WarpAvatar, index: NDArray[np.integer], faces: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """(T,) mean luma in the middle of the mouth, where it is at rest, of the (T, R, R) regions of source frames."""
    middle = np.repeat(warp_avatar.track.rest[[13, 14]].mean(0)[None, None], len(index), 0)
    places = warp_avatar.track.place(index, middle)[:, 0] - warp_avatar.region.origins[index]
    boxes = zip(faces, places.astype(int), strict=True)
    return np.array([face[y - 1 : y + 3, x - 8 : x + 9].mean() for face, (x, y) in boxes])


def test_plan_in_silence_keeps_mouth_still(filmed: tuple[FilmedAvatar, WarpAvatar]) -> None:
    avatar, warp_avatar = filmed
    assert warp_avatar.talks
    plan = _planned(warp_avatar, np.zeros(len(TALKING)), TALKING)
    assert len(np.unique(plan.exemplar)) == 1
    assert (plan.fade < 0).all() and (plan.interior == 0).all()
    assert np.ptp(plan.target_head[:, :11], axis=0).max() < 1e-5
    chunk, patches = _painted(avatar, warp_avatar, plan)
    own = _between_the_lips(warp_avatar, TALKING, chunk.crops_y[chunk.base])
    silent = _between_the_lips(warp_avatar, TALKING, patches.y)
    assert own.std() > 8, "the source talks"
    assert silent.std() < 2.5
    assert np.ptp(silent) < 0.25 * np.ptp(own)
    assert silent.min() > 130, "and the mouth that is held is shut"


def test_plan_speech_releases_hold_until_pause(filmed: tuple[FilmedAvatar, WarpAvatar]) -> None:
    _, warp_avatar = filmed
    index = np.resize(TALKING, 60)
    gate = np.zeros(60)
    gate[20:40] = 1
    plan = _planned(warp_avatar, gate, index)
    assert warp_avatar.held[0] == plan.exemplar[0]
    assert (plan.exemplar[gate == 0] == plan.exemplar[0]).all()
    assert len(np.unique(plan.exemplar[20:40])) > 3
    moved = np.abs(np.diff(plan.target_head, axis=0)).max((1, 2))
    assert moved[20:39].max() > 0.01


def test_silent_motion_ignores_speech_and_brightness(filmed: tuple[FilmedAvatar, WarpAvatar]) -> None:
    avatar, warp_avatar = filmed
    chunk, patches = _painted(avatar, warp_avatar, _planned(warp_avatar, np.zeros(len(TALKING)), TALKING))
    assert patches.silent_motion.num == len(TALKING)
    held = patches.silent_motion.rms
    talking = silent_motion(chunk, replace(patches, y=chunk.crops_y[chunk.base])).rms
    assert held is not None and talking is not None
    assert held < 0.03 < 0.04 < talking
    assert silent_motion(replace(chunk, hold=np.full_like(chunk.hold, 0.5)), patches).num == 0
    dimmer = patches.y.copy()
    dimmer[::2] = dimmer[::2] // 2
    assert silent_motion(chunk, replace(patches, y=dimmer)).rms == pytest.approx(held, abs=0.01)
