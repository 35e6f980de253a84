"""Restoration on top of an engine: the same engine, its generated faces sharpened, and nothing else."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from config import PipelineConfig
from errors import ConfigError, OptionError
from models.avatar.avatar import Avatar
from models.engines.catalog import EngineCatalog, post_processor_list
from models.engines.protocol import ComputeResources, FrameSpan
from models.engines.weights.store import WeightsStore
from models.speech.activity import SpeechActivity
from models.speech.features import FeatureBlock
from tests.random_weights.restoration import save_restoration
from tests.unit.models.synthetic_avatar import FilmedAvatar, make_avatar

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
        engine.analyse(avatar, avatar.frames(reader), None, lambda: False)
    return avatar


def catalog(data_dir: Path, strength: float = 1.0) -> EngineCatalog:
    return EngineCatalog(PipelineConfig(data_dir=data_dir, engines={"restoration": {"strength": strength}}))


def add_network(data_dir: Path, folder: Path) -> None:
    WeightsStore(data_dir / "weights").add(save_restoration(folder / "GFPGANv1.4.onnx"))


def generated(catalog: EngineCatalog, name: str, filmed: FilmedAvatar, avatar: Avatar) -> tuple[np.ndarray, ...]:
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
    plain = generated(catalog(tmp_path / "data"), "warp", filmed, avatar)
    sharp = generated(catalog(tmp_path / "data"), "warp+restoration", filmed, avatar)
    assert all((one == other).all() for one, other in zip(plain[:2], sharp[:2], strict=True))
    changed = np.abs(plain[2].astype(int) - sharp[2])
    assert (changed > 4).mean() > 0.1
    for edge in (changed[:, 0], changed[:, -1], changed[:, :, 0], changed[:, :, -1]):
        assert not edge.any(), "no seam where the engine's region ends within the face"
    none = generated(catalog(tmp_path / "data", 0.0), "warp+restoration", filmed, avatar)
    assert all((one == other).all() for one, other in zip(plain, none, strict=True))


def test_restored_engine_shares_analysis_and_audio_features(tmp_path: Path) -> None:
    engines = catalog(tmp_path)
    inner, outer = engines.engine("warp"), engines.engine("warp+restoration")
    assert (outer.name, outer.version, outer.audio_features) == (inner.name, inner.version, inner.audio_features)


def test_check_unavailable_restoration_raises_option_error(tmp_path: Path) -> None:
    engines = catalog(tmp_path)
    with pytest.raises(
        OptionError, match=r"missing Face restoration.*lipwright models add FILE_OR_URL --engine restor"
    ):
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
