from __future__ import annotations

import pickle
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from errors import ConfigError, WeightsError
from media.yuv_frame import YuvFrame
from models.avatar.avatar import Avatar
from models.engines.paste.crop import BoxChunk
from models.engines.patches import FacePatches
from models.engines.protocol import ComputeResources, Engine, EngineClass, EngineSettings, FrameSpan
from models.engines.wav2lip.audio import plan_windows
from models.engines.wav2lip.engine import Wav2LipEngine
from models.speech.level import measure_level
from tests.unit.models.engines.brought import Brought
from tests.unit.models.engines.wav2lip.avatars import NUM_FRAMES, frame, make_avatar, talking_track
from tests.unit.models.engines.wav2lip.networks import save_onnx

MAKER: EngineClass = Wav2LipEngine  # mypy checks here that it is an engine
SPAN = FrameSpan(Fraction(25), 0, 20, 20)


def _engine(tmp_path: Path, **options: Any) -> Wav2LipEngine:
    path = tmp_path / "generator.onnx"
    return Wav2LipEngine(EngineSettings(Brought({"generator": save_onnx(path, size=32)}), options))


@pytest.fixture
def avatar(tmp_path: Path) -> Avatar:
    """Analysed; without a face in frames 8 to 10."""
    found = make_avatar(tmp_path, talking_track(absent=(8, 9, 10)))
    engine = _engine(tmp_path)
    found.folder_of(engine).mkdir(parents=True)
    engine.analyse(found, None, None, lambda: False)  # type: ignore[arg-type]
    return found


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """A hiss that comes and goes."""
    time = np.arange(12_800) / 16000
    path = tmp_path / "speech.npy"
    np.save(path, (3000 * np.random.default_rng(8).normal(size=len(time)) * np.sin(10 * time) ** 2).astype(np.int16))
    return path


def _chunk(engine: Wav2LipEngine, avatar: Avatar, speech: Path, frames: list[int]) -> BoxChunk:
    source = np.arange(SPAN.num, dtype=np.int32) % NUM_FRAMES
    heard = engine.audio_encoder(ComputeResources()).encode(speech, measure_level(speech), SPAN)
    plan = plan_windows(heard, SPAN, source, 0)
    part = plan.slice(frames[0], frames[-1] + 1)
    return engine.crop(avatar, part, [frame(int(i)) for i in part.source_index])


def _patched(patches: FacePatches, i: int) -> YuvFrame | None:
    patch = patches.patch(i)
    return None if patch is None else patch.planes


def test_wav2lip_encode_plan_crop_generate_gives_patches(tmp_path: Path, avatar: Avatar, speech: Path) -> None:
    engine = _engine(tmp_path)
    chunk = pickle.loads(pickle.dumps(_chunk(engine, avatar, speech, list(range(4, 12)))))
    assert chunk.row.tolist() == [0, 1, 2, 3, -1, -1, -1, 4]
    patches = engine.face_generator(ComputeResources()).generate(chunk)
    assert len(patches) == 8
    assert patches.patch(4) is None
    own, done = chunk.region(0), _patched(patches, 0)
    assert done is not None
    changed = done.y != own.y
    assert 0.02 < changed.mean() < 0.5
    rows = np.flatnonzero(changed.any(1))
    middle = (chunk.boxes[0, 1] + chunk.boxes[0, 3]) / 2
    assert rows.min() >= middle - 1  # the lower half alone
    # Beside the gap the picture fades: the same change, fainter.
    faint = _patched(patches, 3)
    assert faint is not None
    assert chunk.opacity[3] < 1
    full, part = (np.abs(a.astype(int) - b).max() for a, b in ((done.y, own.y), (faint.y, chunk.region(3).y)))
    assert 0 < part < full


def test_wav2lip_generate_in_chunks_gives_same_bytes(tmp_path: Path, avatar: Avatar, speech: Path) -> None:
    engine = _engine(tmp_path)
    face_generator = engine.face_generator(ComputeResources())
    whole = face_generator.generate(_chunk(engine, avatar, speech, list(range(0, 8))))
    for first, last in ((0, 2), (3, 7)):
        part = face_generator.generate(_chunk(engine, avatar, speech, list(range(first, last + 1))))
        for i in range(first, last + 1):
            a, b = _patched(whole, i), _patched(part, i - first)
            assert a is not None and b is not None
            assert all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


def test_wav2lip_crop_repeated_frame_is_stored_once(tmp_path: Path, avatar: Avatar, speech: Path) -> None:
    engine = _engine(tmp_path, match_colour=False)  # the made-up network's speech is brightness
    heard = engine.audio_encoder(ComputeResources()).encode(speech, measure_level(speech), SPAN)
    plan = plan_windows(heard, SPAN, np.repeat(np.arange(10, dtype=np.int32), 2), 0).slice(0, 4)
    shown = [frame(0), frame(1)]
    chunk = engine.crop(avatar, plan, [shown[0], shown[0], shown[1], shown[1]])
    assert (chunk.num_faces, len(chunk.y)) == (4, 2)
    patches = engine.face_generator(ComputeResources()).generate(chunk)
    first, second = _patched(patches, 0), _patched(patches, 1)
    assert first is not None and second is not None
    assert not np.array_equal(first.y, second.y)  # another moment of the speech


def test_paste_option_rectangle_writes_whole_box(tmp_path: Path, avatar: Avatar, speech: Path) -> None:
    engine = _engine(tmp_path, paste="rectangle")
    chunk = _chunk(engine, avatar, speech, [0, 1])
    done = _patched(engine.face_generator(ComputeResources()).generate(chunk), 0)
    assert done is not None
    x0, y0, x1, y1 = chunk.boxes[0]
    lower = np.s_[int((y0 + y1) / 2) + 3 : int(y1) - 1, int(x0) + 1 : int(x1) - 1]
    assert (done.y[lower] != chunk.region(0).y[lower]).mean() > 0.9


def test_wav2lip_plan_measures_block(tmp_path: Path, avatar: Avatar, speech: Path) -> None:
    engine = _engine(tmp_path, mel_offset=-1)
    heard = engine.audio_encoder(ComputeResources()).encode(speech, measure_level(speech), SPAN)
    source = np.arange(SPAN.num, dtype=np.int32)
    planned = engine.plan(avatar, heard, SPAN, source, None)
    assert planned.state is None
    assert len(planned.plan) == SPAN.num
    assert planned.measures.num_frames == SPAN.num
    assert planned.plan.features.tobytes() == plan_windows(heard, SPAN, source, -1).features.tobytes()


def test_mel_offset_option_shifts_windows(tmp_path: Path, speech: Path) -> None:
    heard = _engine(tmp_path).audio_encoder(ComputeResources()).encode(speech, measure_level(speech), SPAN)
    none = np.zeros(SPAN.num, np.int32)
    stock, training = (plan_windows(heard, SPAN, none, offset).features for offset in (0, -1))
    assert np.array_equal(training[6::5], stock[5:-1:5])  # every fifth window starts at a whole column


@pytest.mark.parametrize("options", [{"mel_offset": 9}, {"paste": "poisson"}, {"batch_size": -1}, {"speed": 1}])
def test_wav2lip_options_invalid_value_raises_config_error(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"^engines\.wav2lip\.{next(iter(options))}\b.*, found .*$"):
        _engine(tmp_path, **options)


def test_wav2lip_without_weights_raises_weights_error() -> None:
    engine: Engine = MAKER(EngineSettings(Brought({}), {}))
    assert [role.name for role in MAKER.weights] == ["generator"]
    with pytest.raises(WeightsError, match="generator"):
        engine.face_generator(ComputeResources())
