"""The mouth that is held where nobody speaks: which one it is, and that the finished picture of it does not move."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.analysis import AnalysedAvatar, analyse
from benchmarks.in_process import render_staged
from benchmarks.media_files import write_wav
from lipwright.media.audio import SPEECH_SAMPLE_RATE
from lipwright.media.writer import SegmentWriter
from lipwright.media.yuv_frame import YuvFrame, cut, from_rgb, to_rgb
from models.avatar.face_region import FaceRegion
from models.engines.patches import FacePatches
from models.engines.warp.avatar import WarpAvatar
from models.engines.warp.chunk import FaceChunk
from models.engines.warp.crop import crop_faces
from models.engines.warp.exemplars import BankBuilder, ExemplarBank, held_row
from models.engines.warp.generator import WarpFaceGenerator
from models.engines.warp.measures import silent_motion
from models.engines.warp.plan import MouthPlan, plan_block
from models.geometry.head_frame import INNER_LOWER, INNER_UPPER
from models.mouth.shape import CHANNELS
from models.quality.findings import STILL
from models.speech.speech_to_mouth import MouthBlock
from models.track.raw_landmarks import RawLandmarks
from tests.unit.models.conftest import Filmed
from tests.unit.models.engines.warp.conftest import exemplar_bank
from tests.unit.models.synthetic_avatar import EYES, NUM_FRAMES, FilmedAvatar, make_avatar, mouth_shapes

# From the avatar's widest mouths to its closed ones.
FIRST, STOP = 20, 68
NOSE_BASE, CORNERS, UPPER_LIP = 2, (61, 291), 0

Points = NDArray[np.float32]  # (468, 3) of one picture


def _moustache(picture: NDArray[np.uint8], points: Points) -> NDArray[np.uint8]:
    """Brown hair from below the nose over the edge of the upper lip."""
    across = np.diff(points[list(CORNERS), :2], axis=0)[0]
    root, edge = points[NOSE_BASE, :2], points[UPPER_LIP, :2]
    hair = np.zeros(picture.shape[:2], np.float32)
    strands = np.random.default_rng(11).uniform((-0.4, 0.8, 0.2), (0.4, 1.1, 0.6), (400, 3))
    for along, length, weight in strands.tolist():
        droop = 1.5 * along**2  # it follows the bow of the lip
        begin = root + along * across + (0.4 + droop) * (edge - root)
        end = root + 1.03 * along * across + (length + droop) * (edge - root)
        ends = [(round(float(x)), round(float(y))) for x, y in (begin, end)]
        cv2.line(hair, ends[0], ends[1], weight, 1, cv2.LINE_AA)
    share = cv2.GaussianBlur(hair, (0, 0), 0.8)[..., None]
    return np.asarray(picture * (1 - share) + np.array([90, 66, 52]) * share, np.uint8)


def _soft_light(picture: NDArray[np.uint8], points: Points) -> NDArray[np.uint8]:
    """A dim picture out of focus, in which the inside of the mouth hardly differs from the lips."""
    soft = cv2.GaussianBlur(picture, (0, 0), 3.0).astype(np.float32)
    noise = np.random.default_rng(int(1e3 * points[0, 0])).normal(0, 2, soft.shape)
    return np.asarray((60 + 0.28 * soft + noise).clip(0, 255), np.uint8)


@pytest.fixture(scope="module", params=[_moustache, _soft_light])
def film(request: pytest.FixtureRequest, filmed_sample: Filmed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The avatar in another guise, as a film."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    colour, shown = filmed_sample.info.colour, slice(FIRST, STOP)
    writer = SegmentWriter(filmed_sample.info, 12, "ultrafast")
    for frame, points in zip(filmed_sample.frames[shown], filmed_sample.raw.points[shown], strict=True):
        picture = np.ascontiguousarray(to_rgb(frame, colour))
        writer.write(from_rgb(request.param(picture, points), colour))
    path.write_bytes(writer.finish())
    return path


@pytest.fixture(scope="module")
def cached(film: Path, tmp_path_factory: pytest.TempPathFactory) -> AnalysedAvatar:
    return analyse(film, tmp_path_factory.mktemp("avatar"))[0]


def test_generate_on_sample_in_silence_keeps_mouth_still(cached: AnalysedAvatar, tmp_path: Path) -> None:
    silence = np.zeros(round(cached.avatar.info.duration_seconds * SPEECH_SAMPLE_RATE), np.int16)
    report = render_staged(cached, write_wav(tmp_path / "sound.wav", silence, SPEECH_SAMPLE_RATE), tmp_path).report
    assert report.source.talks
    assert report.mouth.num_silent_frames == cached.avatar.info.num_frames
    assert report.mouth.motion_silence is not None and report.mouth.motion_silence < STILL
    assert not any("moves in silence" in warning for warning in report.warnings)


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
    bank, rows = _bank(100, np.linspace(0, 0.1, 100), np.linspace(0.1, 0.2, 100)), np.arange(100)
    assert held_row(bank) == 0
    assert held_row(replace(bank, sharpness=np.where(rows == 0, np.float32(40), np.float32(100)))) == 1
    assert held_row(replace(bank, gap=np.where(rows < 30, np.float32(0.06), np.float32(0.01)))) == 30
    assert held_row(replace(bank, gap=np.full(100, np.float32(0.06)))) == 0, "all show teeth"
    assert held_row(bank, rows >= 70) == 70


def test_held_row_prefers_blurred_closed_lips_to_open() -> None:
    bank = _bank(40, np.r_[0, np.linspace(0.1, 0.2, 39)], np.linspace(0.1, 0.2, 40))
    assert held_row(replace(bank, sharpness=np.where(np.arange(40) < 1, np.float32(20), np.float32(100)))) == 0


def _bands(folder: Path, *, with_hole: bool) -> float:
    """What is measured of a shut mouth with a dark hole between its lips or without."""
    filmed = make_avatar(folder, 0.1)
    frame = 3  # shut
    with filmed.reader() as reader:
        avatar = filmed.avatar(folder)
        region = FaceRegion.of(avatar.track)
        builder = BankBuilder(folder, avatar.track, region, 100)
        for number, planes in zip(builder.frames, reader.read(builder.frames.tolist()), strict=True):
            luma = planes.y.copy()
            if number == frame and with_hole:
                x, y = avatar.track.points[frame, [13, 14], :2].mean(0).astype(int)
                luma[y - 1 : y + 2, x - 6 : x + 7] = 30
            builder.add(cut(YuvFrame(luma, planes.u, planes.v), *region.square(number)))
    builder.finish()
    return float(ExemplarBank.load(folder).bands[builder.frames == frame][0])


def test_exemplar_bands_grow_with_hole_between_lips(tmp_path: Path) -> None:
    assert _bands(tmp_path, with_hole=True) > 1.5 * _bands(tmp_path, with_hole=False)


def _with_moustache(folder: Path) -> FilmedAvatar:
    """Landmarks that follow half of the opening, tremble, and never see the lips shut."""
    avatar = make_avatar(folder, 0.2)
    points = avatar.raw.points.copy()
    tremble = np.random.default_rng(3).normal(0, 0.01 * EYES, (NUM_FRAMES, 1))
    gap = points[:, list(INNER_LOWER), 1] - points[:, list(INNER_UPPER), 1]
    wrong = (0.05 * EYES - 0.5 * gap + tremble) / 2
    points[:, list(INNER_LOWER), 1] += wrong
    points[:, list(INNER_UPPER), 1] -= wrong
    return replace(avatar, raw=RawLandmarks(points, avatar.raw.present))


def _in_soft_light(folder: Path) -> FilmedAvatar:
    """A mouth whose inside is hardly darker than its lips, and landmarks that tremble."""
    avatar = make_avatar(folder, 0.14, darkness=0.3)
    points = avatar.raw.points.copy()
    tremble = np.random.default_rng(4).normal(0, 0.012 * EYES, (NUM_FRAMES, 2))
    points[:, list(INNER_LOWER), 1] += tremble[:, :1]
    points[:, list(INNER_UPPER), 1] += tremble[:, 1:]
    return replace(avatar, raw=RawLandmarks(points, avatar.raw.present))


@pytest.fixture(scope="module", params=[_with_moustache, _in_soft_light])
def filmed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[FilmedAvatar, WarpAvatar]:
    avatar: FilmedAvatar = request.param(tmp_path_factory.mktemp("avatar"))
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
