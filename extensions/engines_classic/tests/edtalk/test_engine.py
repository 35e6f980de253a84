from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classic_weights.edtalk import save_edtalk
from lipwright.media.yuv_frame import YuvFrame
from lipwright_engines_classic.edtalk.engine import EdTalkEngine, EdTalkGenerator
from models.avatar.avatar import Avatar
from models.engines.paste.crop import BoxChunk, BoxPlan
from models.engines.patches import FacePatches
from models.engines.protocol import ComputeResources, EngineSettings
from tests.unit.models.engines.brought import Brought
from tests.unit.models.engines.paste.face_scene import SOURCE, crop


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_edtalk(tmp_path_factory.mktemp("weights") / "edtalk_256.onnx")


def make_engine(weights: Path, **options: Any) -> EdTalkEngine:
    return EdTalkEngine(EngineSettings(Brought({"generator": weights}), options))


def make_plan() -> BoxPlan:
    windows = np.random.default_rng(0).uniform(-4, 4, (len(SOURCE), 80, 16)) + np.arange(len(SOURCE))[:, None, None]
    return BoxPlan(7, np.array(SOURCE, np.int32), windows.astype(np.float32))


def test_edtalk_generator_finds_inputs_by_shape(weights: Path) -> None:
    generator = EdTalkGenerator(weights, ComputeResources(), 0.5)
    face = np.random.default_rng(1).integers(60, 200, (256, 256, 3), dtype=np.uint8)
    generated = generator.generate(face, np.full((80, 16), 2.0, np.float32))
    expected = np.rint(face / np.float32(255) * 255 + np.array([0.2, 0, -0.2]) * 255)
    assert np.abs(generated - expected.clip(0, 255)).max() <= 1


def test_edtalk_options_reach_network_and_paste(weights: Path, avatar: Avatar, frames: list[YuvFrame]) -> None:
    def generate(**options: Any) -> tuple[FacePatches, BoxChunk]:
        engine = make_engine(weights, **options)
        chunk = crop(engine, avatar, make_plan().slice(3, 4), frames)
        return engine.face_generator(ComputeResources()).generate(chunk), chunk

    red = [generate(weight=weight, match_colour=False)[0].uv[0, 1].astype(int).max() for weight in (0.0, 1.0)]
    assert red[1] > red[0] + 20
    soft, square = ((made.y[0] != chunk.y[0]).sum() for made, chunk in (generate(paste=p) for p in ("soft", "square")))
    assert square > 1.5 * soft
