import pickle
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import librosa
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.engines.musetalk.audio import WhisperAudioEncoder
from models.engines.musetalk.engine import MuseTalkEngine, face_boxes, jaw_outline
from models.engines.musetalk.options import MuseTalkOptions
from models.engines.musetalk.plan import ROWS_PER_FRAME, MuseTalkPlan, WhisperFeatures, first_rows
from models.engines.musetalk.whisper import WINDOW_SAMPLES, WhisperEncoder, encoder_tensors, log_mel
from models.engines.protocol import EngineClass, EngineSettings, FrameSpan, LiveEngine
from models.speech.level import measure_level
from models.speech.stream import SpeechStream
from tests.unit.models.engines.brought import Brought
from tests.unit.models.engines.musetalk.conftest import SMALL_WHISPER
from tests.unit.models.speech.live_windows import live_windows
from tests.unit.models.still import Still

CLASS: type[LiveEngine] | EngineClass = MuseTalkEngine  # mypy checks here that it is an engine, for live sessions, too
NTSC = Fraction(30000, 1001)
Floats = NDArray[np.float32]

SPAN = FrameSpan(NTSC, 30, 12, 100)


def heard(span: FrameSpan = SPAN) -> WhisperFeatures:
    first = int(first_rows(span.fps, span.first, 1)[0])
    num = int(first_rows(span.fps, span.stop - 1, 1)[0]) + ROWS_PER_FRAME - first
    rows = np.add.outer(np.arange(first, first + num), np.arange(3) / 10)[..., None].repeat(8, 2).astype(np.float32)
    return WhisperFeatures(first, rows, np.ones(span.num, np.float32))


def test_musetalk_plan_slices_keep_rows_of_frames() -> None:
    plan = MuseTalkPlan.of(heard(), SPAN, np.zeros(12, np.int32))
    features = plan.features()
    assert features.shape == (12, 30, 8)
    starts = first_rows(NTSC, 30, 12)
    # Rows one after the other, the states of each side by side.
    assert np.allclose(features[:, :, 0], starts[:, None] + np.repeat(np.arange(10), 3) + np.tile([0, 0.1, 0.2], 10))
    for start, stop in ((0, 12), (3, 7), (11, 12), (5, 5)):
        part = plan.slice(start, stop)
        assert len(part) == stop - start
        assert part.first_frame == 30 + start
        assert np.array_equal(part.features(), features[start:stop])
        assert not np.shares_memory(part.rows, plan.rows)
    assert np.array_equal(plan.slice(2, 9).slice(1, 4).features(), features[3:6])
    assert len(pickle.dumps(plan.slice(3, 5))) < len(pickle.dumps(plan)) / 1.5
    with pytest.raises(ValueError, match="Expected rows"):
        MuseTalkPlan.of(heard(), FrameSpan(NTSC, 30, 13, 100), np.zeros(13, np.int32))
    with pytest.raises(ValueError, match="Expected 12 source frames"):
        MuseTalkPlan.of(heard(), SPAN, np.zeros(11, np.int32))


def test_face_boxes_centre_nose_bridge(still: Still) -> None:
    points = still.track.points
    ((x0, y0, x1, y1),) = face_boxes(points, MuseTalkOptions(model="1"))
    chin, nasion, tip, brow = (float(points[0, i, 1]) for i in (152, 168, 4, 105))
    assert abs(y1 - chin) < 0.02 * (y1 - y0)
    assert abs((y0 + y1) / 2 - (nasion + (tip - nasion) * 2 / 3)) < 0.02 * (y1 - y0)
    assert y0 < brow
    assert x0 == pytest.approx(points[0, [162, 234], 0].min(), abs=1)
    assert x1 == pytest.approx(points[0, [389, 454], 0].max(), abs=1)


def test_face_boxes_scale_margin_and_shift(still: Still) -> None:
    points = still.track.points
    all_options: tuple[dict[str, Any], ...] = ({"model": "1"}, {"model": 1.5}, {"model": 1, "bbox_shift": 8})
    old, new, shifted = (face_boxes(points, MuseTalkOptions.model_validate(options)) for options in all_options)
    height = old[0, 3] - old[0, 1]
    assert new[0, 3] - old[0, 3] == pytest.approx(height * 10 / 256, rel=1e-4)
    assert np.array_equal(new[0, :3], old[0, :3])
    middle = (old[0, 1] + old[0, 3]) / 2
    assert (shifted[0, 1] + shifted[0, 3]) / 2 - middle == pytest.approx(height * 8 / 256, rel=1e-4)
    assert shifted[0, 3] == old[0, 3]
    assert np.allclose(face_boxes(points * 4, MuseTalkOptions()), new * 4, rtol=1e-5)
    engines = [MuseTalkEngine(EngineSettings(Brought({}), options)) for options in ({"batch_size": 4}, *all_options)]
    versions = [engine.version for engine in engines]
    assert versions[0] == versions[2] and len(set(versions)) == 3


def test_jaw_outline_is_jaw_below_box_middle(still: Still) -> None:
    points = still.track.points
    boxes = face_boxes(points, MuseTalkOptions())
    outline = jaw_outline(points, boxes)
    assert outline[0, :, 1].min() == pytest.approx(boxes[0, [1, 3]].mean(), abs=1e-3)
    hull = outline[0, :, None]
    for inside in (61, 291, 13, 14, 17, 152):  # the lips and the chin
        assert cv2.pointPolygonTest(hull, tuple(float(value) for value in points[0, inside, :2]), False) > 0
    for outside in (33, 263, 168):  # the eyes
        assert cv2.pointPolygonTest(hull, tuple(float(value) for value in points[0, outside, :2]), False) < 0


NUM = 2


def _both(encoder: WhisperEncoder, seconds: float, folder: Path, span: FrameSpan) -> tuple[Floats, Floats]:
    """What drives frames of a job, and of a session that is `NUM` frames at a time ahead of its speech."""
    path, speech = folder / "speech.npy", _speech(seconds)
    np.save(path, speech)
    job = _features(WhisperAudioEncoder(encoder).encode(path, measure_level(path), span), span)
    pieces = live_windows(speech, span.fps, range(span.first, span.stop), NUM)
    encode = WhisperAudioEncoder(encoder).encode_live
    return job, np.concatenate([_features(encode(window), piece) for piece, window in pieces])


def _speech(seconds: float) -> NDArray[np.int16]:
    return (speech_like(seconds) * 32767).clip(-32768, 32767).astype(np.int16)


@pytest.mark.parametrize("fps", [Fraction(25), NTSC])
def test_encode_live_whole_speech_in_window_equals_encode(
    small_whisper: WhisperEncoder, tmp_path: Path, fps: Fraction
) -> None:
    first = int(1.2 * fps) - 5  # from here on, all of it has arrived
    job, live = _both(small_whisper, 1.2, tmp_path, FrameSpan(fps, first, 8, first + 8))
    assert live.shape == job.shape and np.abs(live - job).max() < 1e-4


def test_encode_live_mid_speech_is_close_to_encode(small_whisper: WhisperEncoder, tmp_path: Path) -> None:
    job, live = _both(small_whisper, 8.0, tmp_path, FrameSpan(Fraction(25), 100, 12, 112))
    other, _ = _both(small_whisper, 8.0, tmp_path, FrameSpan(Fraction(25), 130, 12, 142))
    distance = np.linalg.norm(live - job) / np.linalg.norm(other - job)
    assert distance < 0.25, "a quarter of the distance to other speech"


def test_encode_live_start_is_empty_and_job_border_is_not(small_whisper: WhisperEncoder) -> None:
    encoder, stream = WhisperAudioEncoder(small_whisper), SpeechStream()
    features = encoder.encode_live(stream.window(0.0, 0.08))
    assert not _features(features, FrameSpan(Fraction(25), 0, NUM, NUM)).reshape(NUM, 10, -1)[0, :4].any()
    stream.push(_speech(31.0))
    features = encoder.encode_live(stream.window(30.0, 30.08))
    assert _features(features, FrameSpan(Fraction(25), 750, NUM, 752)).any(axis=(1, 2)).all()


def _features(heard: WhisperFeatures, span: FrameSpan) -> Floats:
    return MuseTalkPlan.of(heard, span, np.zeros(span.num, np.int32)).features()


def speech_like(seconds: float, seed: int = 1) -> Floats:
    """Voiced and noisy stretches with pauses, 16 kHz in [-1, 1)."""
    time = np.arange(int(seconds * 16000)) / 16000
    noise = np.random.default_rng(seed).normal(0, 0.05, len(time))
    voice = 0.3 * np.sin(2 * np.pi * (150 + 20 * np.sin(time)) * time) * (np.sin(2.1 * time) > 0)
    return (voice + noise * (np.sin(3 * time) > 0)).astype(np.float32)


def padded(sound: Floats) -> torch.Tensor:
    return torch.from_numpy(np.pad(sound, (0, WINDOW_SAMPLES - len(sound))))


def test_log_mel_equals_whisper_formula_for_one_frame() -> None:
    mel = log_mel(padded(speech_like(9.0)))
    assert mel.shape == (80, 3000) and mel.dtype == torch.float32
    # By hand, in double: frame 100 covers 400 samples around sample 16000.
    window = np.hanning(401)[:400]
    piece = speech_like(9.0).astype(np.float64)[16000 - 200 : 16000 + 200] * window
    power = librosa.filters.mel(sr=16000, n_fft=400, n_mels=80) @ np.abs(np.fft.rfft(piece)) ** 2
    wanted = (np.log10(np.maximum(power, 1e-10)) + 4) / 4
    shown = mel[:, 100].numpy()
    floor = float(mel.min())
    assert np.abs(shown - np.maximum(wanted, floor)).max() < 1e-4
    assert floor == pytest.approx(float(mel.max()) - 2.0, abs=1e-6)  # 8 decades, a quarter of each
    assert torch.all(log_mel(torch.zeros(WINDOW_SAMPLES)) == -1.5)
    with pytest.raises(ValueError, match="480000"):
        log_mel(torch.zeros(16000))


def test_whisper_encoder_returns_all_states_last_normed(small_whisper: WhisperEncoder) -> None:
    mel = log_mel(padded(speech_like(9.0)))[None]
    with torch.inference_mode():
        states = small_whisper(mel)
        below = states[:, :, 1]
        last = small_whisper.layer_norm(small_whisper.layers[1](below))
        first = small_whisper.layers[0](states[:, :, 0])
    assert states.shape == (1, 1500, SMALL_WHISPER.num_layers + 1, SMALL_WHISPER.width)
    assert torch.allclose(states[:, :, 2], last, atol=1e-6)
    assert torch.allclose(below, first, atol=1e-6)


def test_encoder_tensors_openai_equals_transformers(small_whisper: WhisperEncoder) -> None:
    state = small_whisper.state_dict()
    attention = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "out"}
    theirs = {f"self_attn.{ours}": f"attn.{name}" for ours, name in attention.items()}
    theirs |= {"self_attn_layer_norm": "attn_ln", "fc1": "mlp.0", "fc2": "mlp.2", "final_layer_norm": "mlp_ln"}
    theirs |= {"embed_positions.weight": "positional_embedding"}
    openai = {}
    for name, tensor in state.items():
        renamed = name.replace("layers.", "blocks.")
        for ours, other in theirs.items():
            renamed = renamed.replace(ours, other) if f".{ours}." in f".{renamed}." else renamed
        renamed = renamed.replace("layer_norm.", "ln_post.") if renamed.startswith("layer") else renamed
        openai[f"encoder.{renamed}"] = tensor
    openai["decoder.ln.weight"] = torch.zeros(3)
    for stored in (openai, {f"model.encoder.{name}": tensor for name, tensor in state.items()}):
        found = encoder_tensors(stored)
        assert found.keys() == state.keys()
        assert all(torch.equal(found[name], state[name]) for name in state)


Encode = Callable[..., WhisperFeatures]


@pytest.fixture(scope="module")
def encode(tmp_path_factory: pytest.TempPathFactory) -> Encode:
    """Encodes frames of 31 seconds: one window of the encoder and a little of the next."""
    path = tmp_path_factory.mktemp("speech") / "speech.npy"
    np.save(path, _speech(31.0))
    level = measure_level(path)

    def encode(encoder: WhisperAudioEncoder, first: int, stop: int, fps: Fraction = NTSC) -> WhisperFeatures:
        return encoder.encode(path, level, FrameSpan(fps, first, stop - first, 940))

    return encode


def test_first_rows_any_rate_begin_80_ms_ahead() -> None:
    assert first_rows(Fraction(25), 0, 4).tolist() == [-4, -2, 0, 2]
    assert first_rows(Fraction(24), 24, 1).tolist() == [46]
    assert first_rows(Fraction(60), 60, 1).tolist() == [46]
    # After an hour of 29.97; with int(fps), 29, it would hear what is said two minutes later.
    frame = 107892
    assert first_rows(NTSC, frame, 1)[0] == int(frame * 50 * 1001 / 30000) - 4


def test_whisper_encode_span_equals_rows_of_whole(encode: Encode, small_whisper: WhisperEncoder) -> None:
    whole = encode(WhisperAudioEncoder(small_whisper), 0, 928)
    assert whole.first_row == -4 and not whole.rows[:4].any()
    assert whole.gate.max() == 1.0 and whole.rows[4:].all(2).all()
    for first, stop in ((0, 100), (100, 333), (880, 928)):
        part = encode(WhisperAudioEncoder(small_whisper), first, stop)
        offset = part.first_row - whole.first_row
        assert np.array_equal(part.rows, whole.rows[offset : offset + len(part.rows)])
        assert np.array_equal(part.gate, whole.gate[first:stop])
        starts = first_rows(NTSC, first, stop - first)
        assert part.first_row == starts[0]
        assert part.first_row + len(part.rows) == starts[-1] + ROWS_PER_FRAME


def test_whisper_encode_past_end_reads_silence(encode: Encode, small_whisper: WhisperEncoder) -> None:
    encoder = WhisperAudioEncoder(small_whisper)
    late = encode(encoder, 1850, 1860, Fraction(25))  # 74 s: a window of silence alone
    later = encode(encoder, 1850 + 750, 1860 + 750, Fraction(25))
    assert not late.gate.any()
    assert np.array_equal(late.rows, later.rows)
    assert late.rows.all(2).all()
    encoder = WhisperAudioEncoder(small_whisper)  # runs each window once
    rows = [encode(encoder, first, first + 10).rows for first in (0, 100, 0)]
    assert len(encoder._kept) == 1
    assert np.array_equal(rows[0], rows[2])
