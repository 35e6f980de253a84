"""The mouth that is held where nobody speaks: which one it is, and that the finished picture of it does not move."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.engines.warp.avatar import WarpAvatar
from models.engines.warp.block_plan import plan_block
from models.engines.warp.cut import cut_faces
from models.engines.warp.drive import Drive
from models.engines.warp.engine import WarpPainter
from models.engines.warp.exemplar_bank import ExemplarBank
from models.engines.warp.held_mouth import held_row
from models.geometry.face_points import INNER_LOWER, INNER_UPPER
from models.speech.speech_to_mouth import MouthBlock
from models.track.raw_landmarks import RawLandmarks
from tests.unit.models.synthetic_presenter import EYES, NUM_FRAMES, FilmedPresenter, make_presenter, mouth_shapes

# The mouth of this presenter opens and shuts in these frames, far from those without a face.
TALKING = np.r_[5:12, 24:36]


def _bank(num: int, openness: NDArray[np.floating], bands: NDArray[np.floating], sharpness: float = 100) -> ExemplarBank:
    shape = np.zeros((num, 8), np.float32)
    shape[:, :2] = openness[:, None]
    ones = np.ones(num, np.float32)
    return ExemplarBank(
        frames=np.arange(num, dtype=np.int32),
        shape=shape,
        pose=np.zeros((num, 3), np.float32),
        luma=120 * ones,
        sharpness=sharpness * ones,
        bands=bands.astype(np.float32),
        inside=ones,
        bite=0.5 * ones,
        thumbs=np.ones((num, 1024), np.float32) / 32,
        patches=np.zeros((num, 6), np.uint8),
        region_size=2,
    )


def test_of_mouths_that_measure_closed_the_one_is_held_that_shows_least_between_its_lips() -> None:
    openness, bands = np.linspace(0, 0.1, 100), np.full(100, 0.05)
    bands[0] = 0.12  # measures most closed, and shows light between its lips
    bands[6] = 0.04
    bands[50] = 0.01  # an even picture of an open mouth
    assert held_row(_bank(100, openness, bands)) == 6


def test_a_blurred_mouth_is_not_held() -> None:
    openness, bands = np.linspace(0, 0.1, 100), np.linspace(0.05, 0.06, 100)
    bank = _bank(100, openness, bands)
    blurred = bank.sharpness.copy()
    blurred[0] = 40
    assert held_row(bank) == 0
    assert held_row(replace(bank, sharpness=blurred)) == 1


def test_only_exemplars_of_the_shot_are_held() -> None:
    bank = _bank(100, np.linspace(0, 0.1, 100), np.linspace(0.05, 0.06, 100))
    assert held_row(bank, np.arange(100) >= 70) == 70


def _with_moustache(folder: Path) -> FilmedPresenter:
    """Landmarks that follow half of the opening, tremble, and never see the lips shut."""
    presenter = make_presenter(folder, 0.2)
    points = presenter.raw.points.copy()
    tremble = np.random.default_rng(3).normal(0, 0.01 * EYES, (NUM_FRAMES, 1))
    gap = points[:, list(INNER_LOWER), 1] - points[:, list(INNER_UPPER), 1]
    wrong = (0.05 * EYES - 0.5 * gap + tremble) / 2
    points[:, list(INNER_LOWER), 1] += wrong
    points[:, list(INNER_UPPER), 1] -= wrong
    return replace(presenter, raw=RawLandmarks(points, presenter.raw.present))


def _in_soft_light(folder: Path) -> FilmedPresenter:
    """A mouth whose inside is hardly darker than its lips, and landmarks that tremble."""
    presenter = make_presenter(folder, 0.14, darkness=0.3)
    points = presenter.raw.points.copy()
    tremble = np.random.default_rng(4).normal(0, 0.012 * EYES, (NUM_FRAMES, 2))
    points[:, list(INNER_LOWER), 1] += tremble[:, :1]
    points[:, list(INNER_UPPER), 1] += tremble[:, 1:]
    return replace(presenter, raw=RawLandmarks(points, presenter.raw.present))


@pytest.fixture(scope="module", params=[_with_moustache, _in_soft_light])
def filmed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[FilmedPresenter, WarpAvatar]:
    presenter: FilmedPresenter = request.param(tmp_path_factory.mktemp("presenter"))
    return presenter, presenter.build(tmp_path_factory.mktemp("avatar"))


def _planned(avatar: WarpAvatar, gate: NDArray[np.floating], index: NDArray[np.integer]) -> Drive:
    shape = mouth_shapes(len(index), 0.1) * gate[:, None].astype(np.float32)
    mouth = MouthBlock(shape, np.zeros(len(index), np.float32), gate.astype(np.float32))
    return plan_block(avatar, mouth, index.astype(np.int32), 0, None)[0]


def _between_the_lips(
    presenter: FilmedPresenter, avatar: WarpAvatar, index: NDArray[np.integer], drive: Drive | None
) -> NDArray[np.float64]:
    """(T,) mean luma in the middle of the mouth, where it is at rest: of the source, or of what is painted over it."""
    middle = avatar.track.rest[[13, 14]].mean(0)[None]
    places = avatar.track.place(index, np.repeat(middle[None], len(index), 0))[:, 0] - avatar.region.origins[index]
    with presenter.reader() as reader:
        frames = list(reader.read(index.tolist()))
    plan = _planned(avatar, np.zeros(len(index)), index) if drive is None else drive
    chunk = cut_faces(avatar, plan, frames)
    pictures = chunk.crops_y[chunk.base] if drive is None else WarpPainter().paint(chunk).y
    boxes = [picture[int(y) - 1 : int(y) + 3, int(x) - 8 : int(x) + 9] for picture, (x, y) in zip(pictures, places, strict=True)]
    return np.array([box.mean() for box in boxes])


def test_a_mouth_does_not_move_in_silence(filmed: tuple[FilmedPresenter, WarpAvatar]) -> None:
    presenter, avatar = filmed
    assert avatar.talks
    drive = _planned(avatar, np.zeros(len(TALKING)), TALKING)
    own = _between_the_lips(presenter, avatar, TALKING, None)
    silent = _between_the_lips(presenter, avatar, TALKING, drive)
    assert own.std() > 8, "the source talks"
    assert silent.std() < 2.5
    assert np.ptp(silent) < 0.25 * np.ptp(own)
    assert silent.min() > 130, "and the mouth that is held is shut"


def test_one_mouth_is_held_and_only_the_head_moves_it(filmed: tuple[FilmedPresenter, WarpAvatar]) -> None:
    _, avatar = filmed
    drive = _planned(avatar, np.zeros(len(TALKING)), TALKING)
    assert len(np.unique(drive.exemplar)) == 1
    assert (drive.fade < 0).all()
    assert (drive.interior == 0).all()
    lips = drive.target_head[:, :11]
    assert np.abs(lips - lips[:1]).max() < 1e-5


def test_speech_lets_go_of_the_held_mouth_and_a_pause_takes_it_back(
    filmed: tuple[FilmedPresenter, WarpAvatar],
) -> None:
    _, avatar = filmed
    index = np.resize(TALKING, 60)
    gate = np.zeros(60)
    gate[20:40] = 1
    drive = _planned(avatar, gate, index)
    assert avatar.held[0] == drive.exemplar[0]
    assert (drive.exemplar[gate == 0] == drive.exemplar[0]).all()
    assert len(np.unique(drive.exemplar[20:40])) > 3
    moved = np.abs(np.diff(drive.target_head, axis=0)).max((1, 2))
    assert moved[20:39].max() > 0.01
