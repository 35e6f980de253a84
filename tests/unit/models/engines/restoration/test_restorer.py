from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.config import PipelineConfig
from lipwright.errors import CancelledJobError, ConfigError, OptionError
from lipwright.media.kept_squares import SquareReader
from lipwright.media.yuv_frame import YuvFrame, cut
from models.avatar.avatar import Avatar
from models.avatar.face_region import FaceRegion
from models.engines.catalog import EngineCatalog, post_processor_list
from models.engines.paste.crop import BoxChunk
from models.engines.patches import FacePatches
from models.engines.protocol import ComputeResources, FrameSpan
from models.engines.restoration.restorer import (
    SIDE,
    FaceRestorer,
    OnnxRestoration,
    Surroundings,
)
from models.engines.weights.store import WeightsStore
from models.speech.activity import SpeechActivity
from models.speech.features import FeatureBlock
from models.track.face_track import FaceTrack
from tests.random_weights.restoration import save_restoration
from tests.unit.models.engines.paste.face_scene import ABSENT, COLOUR, make_track
from tests.unit.models.synthetic_avatar import FilmedAvatar, make_avatar

SOURCE = [3, ABSENT, 9, 9]


@pytest.fixture(scope="module")
def track() -> FaceTrack:
    return make_track(12.0)


def generated(track: FaceTrack, frames: list[YuvFrame], source: list[int]) -> FacePatches:
    """Patches of the mouth's region, as the engine `warp` has them: the frames' own pixels, darker."""
    region = FaceRegion.of(track)
    is_shown = track.driving_weight[source] > 0
    row, shown = np.where(is_shown, np.cumsum(is_shown) - 1, -1), np.array(source)[is_shown]
    regions = [cut(frames[i], int(region.origins[i, 0]), int(region.origins[i, 1]), region.size) for i in shown]
    y = np.stack([planes.y for planes in regions])
    uv = np.stack([np.stack([planes.u, planes.v]) for planes in regions])
    return FacePatches(row.astype(np.int32), region.origins[shown], (y * 0.8).astype(np.uint8), uv)


def around(track: FaceTrack, frames: list[YuvFrame], source: list[int]) -> BoxChunk:
    return Surroundings(track, COLOUR).crop(np.array(source, np.int32), [frames[i] for i in source])


def contrast(face: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return ((face.astype(np.float32) - 110) * 1.8 + 110).clip(0, 255).astype(np.uint8)


def test_restore_changes_only_lower_face(track: FaceTrack, frames: list[YuvFrame]) -> None:
    patches = generated(track, frames, SOURCE)
    surroundings = around(track, frames, SOURCE)
    before = patches.y.copy()
    done = FaceRestorer(contrast).restore(patches, surroundings)
    assert np.array_equal(patches.y, before)
    assert np.array_equal(done.origins, patches.origins) and np.array_equal(done.row, patches.row)
    for face in range(len(done.y)):
        changed = np.argwhere(done.y[face] != before[face])
        outline = surroundings.outline[face] + surroundings.origins[face] - patches.origins[face]
        hull = cv2.convexHull(outline.astype(np.float32))
        assert len(changed) > 2000
        assert min(cv2.pointPolygonTest(hull, (float(x), float(y)), True) for y, x in changed) > -2.5
        middle = slice(*(int(v) for v in (hull[:, 0, 1].min() + 30, hull[:, 0, 1].max() - 30)))
        columns = slice(*(int(v) for v in (hull[:, 0, 0].min() + 40, hull[:, 0, 0].max() - 40)))
        assert done.y[face][middle, columns].std() > 1.3 * before[face][middle, columns].std()


def test_restore_network_sees_patch_in_upright_face(track: FaceTrack, frames: list[YuvFrame]) -> None:
    seen: list[NDArray[np.uint8]] = []

    def network(face: NDArray[np.uint8]) -> NDArray[np.uint8]:
        seen.append(face)
        return face

    patches = generated(track, frames, [3])
    surroundings = around(track, frames, [3])
    patches.y[:] = 16  # black
    FaceRestorer(network).restore(patches, surroundings)
    (face,) = seen
    assert face.shape == (SIDE, SIDE, 3)
    assert face[390, 256].max() < 40  # the mouth lies where the template has it
    assert face[60:200].mean() > 60  # the forehead is the frame's


def test_restore_strength_is_share_of_restored_face(track: FaceTrack, frames: list[YuvFrame]) -> None:
    patches = generated(track, frames, [9])
    surroundings = around(track, frames, [9])
    none, half, whole = (FaceRestorer(contrast, s).restore(patches, surroundings) for s in (0.0, 0.5, 1.0))
    assert np.array_equal(none.y, patches.y)
    own = patches.y.astype(int)
    moved = np.abs(whole.y - own) > 8
    share = (half.y - own)[moved] / (whole.y - own)[moved]
    assert abs(share.mean() - 0.5) < 0.03


def test_restore_in_chunks_gives_same_bytes(track: FaceTrack, frames: list[YuvFrame], tmp_path: Path) -> None:
    path = save_restoration(tmp_path / "gfpgan.onnx")
    restorer = FaceRestorer(OnnxRestoration(path, ComputeResources(), 0.7), strength=0.8)

    def restored(source: list[int]) -> FacePatches:
        return restorer.restore(generated(track, frames, source), around(track, frames, source))

    whole, parts = restored(SOURCE), [restored([3, ABSENT]), restored([9, 9])]
    for name in ("y", "uv"):
        assert np.array_equal(getattr(whole, name), np.concatenate([getattr(part, name) for part in parts]))


def test_restore_stop_or_other_surroundings_raise(track: FaceTrack, frames: list[YuvFrame]) -> None:
    patches, surroundings = generated(track, frames, SOURCE), around(track, frames, SOURCE)
    with pytest.raises(CancelledJobError, match="1 of 3 faces"):
        FaceRestorer(contrast).restore(patches, surroundings, iter((False, True)).__next__)
    with pytest.raises(ValueError, match=r"Expected surroundings of rows \[0, -1\], got \[0\]"):
        FaceRestorer(contrast).restore(generated(track, frames, [3, ABSENT]), around(track, frames, [3]))


@pytest.mark.parametrize("with_number", [False, True])
def test_onnx_restoration_scales_from_minus_one_to_one(tmp_path: Path, with_number: bool) -> None:
    path = save_restoration(tmp_path / "net.onnx", with_number=with_number)
    network = OnnxRestoration(path, ComputeResources(), fidelity=0.25)
    face = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    expected = (face.astype(float) - 127.5) * 2 + 127.5 + np.array([0, 0.25, 0]) * 127.5 * with_number
    assert np.abs(network(face) - expected.clip(0, 255)).max() <= 0.51


NUM = 8


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> FilmedAvatar:
    return make_avatar(tmp_path_factory.mktemp("filmed"), 0.14)


@pytest.fixture(scope="module")
def avatar(filmed: FilmedAvatar, tmp_path_factory: pytest.TempPathFactory) -> Avatar:
    avatar = filmed.avatar(tmp_path_factory.mktemp("avatar"))
    engine = EngineCatalog(PipelineConfig()).engine("warp")
    avatar.folder_of(engine).mkdir(parents=True)
    with filmed.reader() as reader:
        engine.analyse(avatar, SquareReader(avatar.frames(reader)), None, lambda: False)
    return avatar


def catalog(data_dir: Path, strength: float = 1.0) -> EngineCatalog:
    return EngineCatalog(PipelineConfig(data_dir=data_dir, engines={"restoration": {"strength": strength}}))


def add_network(data_dir: Path, folder: Path) -> None:
    WeightsStore(data_dir / "weights").add(save_restoration(folder / "GFPGANv1.4.onnx"))


def patches_of(catalog: EngineCatalog, name: str, filmed: FilmedAvatar, avatar: Avatar) -> tuple[np.ndarray, ...]:
    engine = catalog.engine(name)
    heard, rows = np.zeros((60, 1024), np.float32), np.ones(60, np.float32)
    features = FeatureBlock(0.0, 1.0, 0, heard, SpeechActivity(gate=rows, is_heard=rows > 0))
    index = np.arange(NUM, dtype=np.int32)
    plan = engine.plan(avatar, features, FrameSpan(Fraction(25), 0, NUM, NUM), index, None).plan
    with filmed.reader() as reader:
        chunk = engine.crop(avatar, plan, list(reader.read(plan.source_index.tolist())))
    assert chunk.num_frames == NUM
    patches = engine.face_generator(ComputeResources()).generate(chunk)
    return patches.row, patches.origins, patches.y, patches.uv


def test_restored_generate_sharpens_face_and_keeps_edges(filmed: FilmedAvatar, avatar: Avatar, tmp_path: Path) -> None:
    add_network(tmp_path / "data", tmp_path)
    plain = patches_of(catalog(tmp_path / "data"), "warp", filmed, avatar)
    sharp = patches_of(catalog(tmp_path / "data"), "warp+restoration", filmed, avatar)
    assert all((one == other).all() for one, other in zip(plain[:2], sharp[:2], strict=True))
    changed = np.abs(plain[2].astype(int) - sharp[2])
    assert (changed > 4).mean() > 0.1
    for edge in (changed[:, 0], changed[:, -1], changed[:, :, 0], changed[:, :, -1]):
        assert not edge.any(), "no seam where the engine's region ends within the face"
    none = patches_of(catalog(tmp_path / "data", 0.0), "warp+restoration", filmed, avatar)
    assert all((one == other).all() for one, other in zip(plain, none, strict=True))

    inner, outer = (catalog(tmp_path / "data").engine(name) for name in ("warp", "warp+restoration"))
    assert (outer.name, outer.version, outer.audio_features) == (inner.name, inner.version, inner.audio_features)


def test_check_unavailable_restoration_raises_option_error(tmp_path: Path) -> None:
    engines = catalog(tmp_path)
    with pytest.raises(OptionError, match=r"missing Face restoration.*lipwright models add FILE_OR_URL --engine rest"):
        engines.check("warp+restoration")
    with pytest.raises(OptionError, match="expected one of restoration after the plus"):
        engines.check("warp+polish")
    with pytest.raises(OptionError, match="expected one of warp"):
        engines.check("nonesuch+restoration")
    (step,) = post_processor_list(WeightsStore(tmp_path / "weights"))
    assert (step.name, step.is_installed) == ("restoration", False)
    add_network(tmp_path, tmp_path)
    engines.check("warp+restoration")
    with pytest.raises(ConfigError, match="strength"):
        catalog(tmp_path, 2.0).engine("warp+restoration")
