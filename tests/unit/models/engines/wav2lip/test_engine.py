from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from media.yuv_frame import YuvFrame
from models.avatar.avatar import Avatar
from models.engines.paste.crop import BoxPlan
from models.engines.protocol import ComputeResources, EngineSettings, FrameSpan
from models.engines.wav2lip.audio import MelAudioEncoder, plan_windows
from models.engines.wav2lip.engine import Wav2LipEngine
from models.speech.level import measure_level
from tests.unit.models.engines.brought import Brought
from tests.unit.models.engines.paste.face_scene import crop
from tests.unit.models.engines.wav2lip.networks import save_onnx


def test_paste_option_rectangle_writes_whole_box(tmp_path: Path, avatar: Avatar, frames: list[YuvFrame]) -> None:
    weights = Brought({"generator": save_onnx(tmp_path / "generator.onnx", size=32)})
    engine = Wav2LipEngine(EngineSettings(weights, {"paste": "rectangle"}))
    chunk = crop(engine, avatar, BoxPlan(0, np.array([3], np.int32), np.ones((1, 80, 16), np.float32)), frames)
    done = engine.face_generator(ComputeResources()).generate(chunk)
    x0, y0, x1, y1 = chunk.boxes[0]
    lower = np.s_[int((y0 + y1) / 2) + 3 : int(y1) - 1, int(x0) + 1 : int(x1) - 1]
    assert (done.y[0][lower] != chunk.y[0][lower]).mean() > 0.9


def test_mel_offset_option_shifts_windows(tmp_path: Path) -> None:
    path, span = tmp_path / "speech.npy", FrameSpan(Fraction(25), 0, 20, 20)
    np.save(path, (3000 * np.random.default_rng(8).normal(size=12_800)).astype(np.int16))
    heard, none = MelAudioEncoder().encode(path, measure_level(path), span), np.zeros(span.num, np.int32)
    stock, training = (plan_windows(heard, span, none, offset).features for offset in (0, -1))
    assert np.array_equal(training[6::5], stock[5:-1:5])  # every fifth window starts at a whole column
    engine = Wav2LipEngine(EngineSettings(Brought({}), {"mel_offset": -1}))
    assert np.array_equal(engine.plan_frames(heard, span, none).features, training)
