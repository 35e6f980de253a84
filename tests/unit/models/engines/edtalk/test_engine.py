from __future__ import annotations

import pickle
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from errors import CancelledJobError, ConfigError, WeightsError
from media.yuv_frame import YuvFrame
from models.avatar.avatar import Avatar
from models.engines.edtalk.engine import EdTalkEngine
from models.engines.edtalk.generator import EdTalkGenerator
from models.engines.edtalk.weights import GENERATOR_ROLE
from models.engines.paste.crop import BoxPlan
from models.engines.protocol import ComputeResources, EngineClass, EngineSettings, FrameSpan, TensorTable
from models.speech.level import measure_level
from tests.random_weights.edtalk import save_edtalk
from tests.unit.models.engines.brought import Brought
from tests.unit.models.engines.paste.face_scene import (
    SOURCE,
    analyse,
    crop,
    luma,
    pasted,
)


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


@pytest.mark.parametrize("paste", ["soft", "square"])
def test_edtalk_generate_changes_only_face(weights: Path, avatar: Avatar, frames: list[YuvFrame], paste: str) -> None:
    engine = make_engine(weights, paste=paste, match_colour=False)
    chunk = crop(engine, avatar, make_plan(), frames)
    patches = engine.face_generator(ComputeResources()).generate(pickle.loads(pickle.dumps(chunk)))
    shown = luma(patches, SOURCE, frames)
    assert patches.patch(2) is None
    for t, i in enumerate(SOURCE):
        changed = np.argwhere(shown[t] != frames[i].y)
        if avatar.track.driving_weight[i] <= 0:
            assert not len(changed)
            continue
        row = chunk.row[t]
        x0, y0, x1, y1 = chunk.boxes[row]
        square = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)
        edge = chunk.outline[row] if paste == "soft" else square
        hull = cv2.convexHull(edge + chunk.origins[row].astype(np.float32))
        assert len(changed) > 1000
        assert min(cv2.pointPolygonTest(hull, (float(x), float(y)), True) for y, x in changed) > -2.5


def test_edtalk_generate_in_chunks_gives_same_bytes(weights: Path, avatar: Avatar, frames: list[YuvFrame]) -> None:
    engine, plan = make_engine(weights), make_plan()
    face_generator = engine.face_generator(ComputeResources())
    whole = luma(face_generator.generate(crop(engine, avatar, plan, frames)), SOURCE, frames)
    again = luma(engine.face_generator(ComputeResources()).generate(crop(engine, avatar, plan, frames)), SOURCE, frames)
    parts: list[NDArray[np.uint8]] = []
    for start, stop in ((0, 2), (2, 5), (5, 6)):
        chunk = crop(engine, avatar, plan.slice(start, stop), frames)
        parts += luma(face_generator.generate(chunk), SOURCE[start:stop], frames)
    for t in range(len(SOURCE)):
        assert np.array_equal(whole[t], again[t])
        assert np.array_equal(whole[t], parts[t])


def test_edtalk_generate_stop_raises_before_next_face(weights: Path, avatar: Avatar, frames: list[YuvFrame]) -> None:
    engine = make_engine(weights)
    chunk = crop(engine, avatar, make_plan(), frames)
    with pytest.raises(CancelledJobError, match=r"2 of \d faces"):
        engine.face_generator(ComputeResources()).generate(chunk, iter((False, False, True)).__next__)


def test_edtalk_weight_option_reaches_network(weights: Path, avatar: Avatar, frames: list[YuvFrame]) -> None:
    plan = make_plan().slice(3, 4)
    red = []
    for weight in (0.0, 1.0):
        engine = make_engine(weights, weight=weight, match_colour=False)
        patches = engine.face_generator(ComputeResources()).generate(crop(engine, avatar, plan, frames))
        red.append(patches.uv[0, 1].astype(int).max())
    assert red[1] > red[0] + 20


def test_edtalk_other_network_reports_expected_and_found(tmp_path: Path) -> None:
    path = save_edtalk(tmp_path / "edtalk_512.onnx", side=512)
    with pytest.raises(WeightsError, match=r"edtalk_512\.onnx: expected .*256, 256.*found .*512, 512"):
        EdTalkGenerator(path, ComputeResources(), 0.5)


def test_edtalk_role_accepts_only_its_network() -> None:
    def table(*inputs: tuple[int, ...], output: tuple[int, ...] = (1, 3, 256, 256)) -> TensorTable:
        return TensorTable("onnx", {}, inputs, (output,))

    mel, face = (1, 1, 80, 16), (1, 3, 256, 256)
    assert GENERATOR_ROLE.mismatch(table(mel, face, (1,))) is None
    assert GENERATOR_ROLE.mismatch(table((-1,), (-1, 3, 256, 256), (-1, 1, 80, 16), output=(-1, -1, 256, 256))) is None
    for other in (
        table(mel, (1, 6, 96, 96), output=(1, 3, 96, 96)),  # Wav2Lip as facefusion exports it
        table(mel, face),
        table(mel, face, (1,), output=(1, 1)),
        TensorTable("torch", {"weight": (1,)}),
    ):
        assert "expected" in str(GENERATOR_ROLE.mismatch(other))
        assert "found" in str(GENERATOR_ROLE.mismatch(other))


def test_edtalk_options_invalid_value_raises_config_error(weights: Path) -> None:
    with pytest.raises(ConfigError, match=r"^engines\.edtalk\.weight: .*, found 3$"):
        make_engine(weights, weight=3)
    with pytest.raises(ConfigError, match=r"^engines\.edtalk\.colour: "):
        make_engine(weights, colour=1)


def test_edtalk_encode_plan_crop_generate_gives_patches(
    weights: Path, avatar: Avatar, frames: list[YuvFrame], tmp_path: Path
) -> None:
    maker: EngineClass = EdTalkEngine
    engine = maker(EngineSettings(Brought({"generator": weights}), {"mel_offset": -1}))
    speech = tmp_path / "speech.npy"
    np.save(speech, np.random.default_rng(0).integers(-9000, 9000, 8_000).astype(np.int16))
    span = FrameSpan(Fraction(25), 0, 12, 12)
    features = engine.audio_encoder(ComputeResources()).encode(speech, measure_level(speech), span)
    analyse(engine, avatar)
    planned = engine.plan(avatar, pickle.loads(pickle.dumps(features)), span, np.arange(12, dtype=np.int32), None)
    assert planned.measures.num_frames == 12
    part = planned.plan.slice(7, 9)
    patches = engine.face_generator(ComputeResources()).generate(engine.crop(avatar, part, [frames[7], frames[8]]))
    assert (pasted(frames[8], patches.patch(1)) != frames[8].y).any()
