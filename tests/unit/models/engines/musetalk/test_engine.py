"""From an avatar and what is heard to patches."""

from __future__ import annotations

import pickle
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.engines.musetalk.audio import WhisperAudioEncoder, WhisperLiveAudioEncoder
from models.engines.musetalk.engine import MuseTalkEngine, face_boxes, jaw_outline
from models.engines.musetalk.options import MuseTalkOptions
from models.engines.musetalk.plan import ROWS_PER_FRAME, MuseTalkPlan, WhisperFeatures, first_rows
from models.engines.musetalk.whisper import WhisperEncoder
from models.engines.protocol import EngineClass, EngineSettings, FrameSpan, LiveEngine
from models.speech.level import measure_level
from models.speech.stream import LOOK_AHEAD_SECONDS, SpeechStream
from tests.unit.models.engines.brought import Brought
from tests.unit.models.engines.musetalk.test_whisper import speech_like
from tests.unit.models.still import Still, make_still

CLASS: EngineClass = MuseTalkEngine  # mypy checks here that it is an engine
NTSC = Fraction(30000, 1001)
SPAN = FrameSpan(NTSC, 30, 12, 100)


def engine_of(**options: Any) -> MuseTalkEngine:
    return MuseTalkEngine(EngineSettings(Brought({}), options))


@pytest.fixture(scope="session")
def talker(sample_portrait: Path) -> Still:
    return make_still(sample_portrait)


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
    assert np.array_equal(pickle.loads(pickle.dumps(plan)).features(), features)


def test_musetalk_plan_missing_rows_raises_value_error() -> None:
    with pytest.raises(ValueError, match="Expected rows"):
        MuseTalkPlan.of(heard(), FrameSpan(NTSC, 30, 13, 100), np.zeros(13, np.int32))
    with pytest.raises(ValueError, match="Expected 12 source frames"):
        MuseTalkPlan.of(heard(), SPAN, np.zeros(11, np.int32))


def test_face_boxes_centre_nose_bridge(talker: Still) -> None:
    points = talker.track.points
    ((x0, y0, x1, y1),) = face_boxes(points, MuseTalkOptions(model="1"))
    chin, nasion, tip, brow = (float(points[0, i, 1]) for i in (152, 168, 4, 105))
    assert abs(y1 - chin) < 0.02 * (y1 - y0)
    assert abs((y0 + y1) / 2 - (nasion + (tip - nasion) * 2 / 3)) < 0.02 * (y1 - y0)
    assert y0 < brow
    assert x0 == pytest.approx(points[0, [162, 234], 0].min(), abs=1)
    assert x1 == pytest.approx(points[0, [389, 454], 0].max(), abs=1)


def test_face_boxes_scale_margin_and_shift(talker: Still) -> None:
    points = talker.track.points
    old, new, shifted = (
        face_boxes(scaled, MuseTalkOptions.model_validate(options))
        for scaled, options in ((points, {"model": "1"}), (points, {}), (points, {"model": "1", "bbox_shift": 8}))
    )
    height = old[0, 3] - old[0, 1]
    assert new[0, 3] - old[0, 3] == pytest.approx(height * 10 / 256, rel=1e-4)
    assert np.array_equal(new[0, :3], old[0, :3])
    middle = (old[0, 1] + old[0, 3]) / 2
    assert (shifted[0, 1] + shifted[0, 3]) / 2 - middle == pytest.approx(height * 8 / 256, rel=1e-4)
    assert shifted[0, 3] == old[0, 3]
    assert np.allclose(face_boxes(points * 4, MuseTalkOptions()), new * 4, rtol=1e-5)


def test_jaw_outline_is_jaw_below_box_middle(talker: Still) -> None:
    points = talker.track.points
    boxes = face_boxes(points, MuseTalkOptions())
    outline = jaw_outline(points, boxes)
    assert outline[0, :, 1].min() == pytest.approx(boxes[0, [1, 3]].mean(), abs=1e-3)
    from cv2 import pointPolygonTest

    hull = outline[0, :, None]
    for inside in (61, 291, 13, 14, 17, 152):  # the lips and the chin
        assert pointPolygonTest(hull, tuple(float(value) for value in points[0, inside, :2]), False) > 0
    for outside in (33, 263, 168):  # the eyes
        assert pointPolygonTest(hull, tuple(float(value) for value in points[0, outside, :2]), False) < 0


def test_musetalk_box_options_change_version() -> None:
    assert engine_of().version == engine_of(batch_size=4).version
    assert len({engine_of(**options).version for options in ({}, {"model": "1"}, {"bbox_shift": 3})}) == 3


MAKER: type[LiveEngine] | EngineClass = MuseTalkEngine
RATE, NUM = 16000, 2


def _job(encoder: WhisperEncoder, speech: NDArray[np.int16], folder: Path, span: FrameSpan) -> NDArray[np.float32]:
    np.save(folder / "speech.npy", speech)
    level = measure_level(folder / "speech.npy")
    features = WhisperAudioEncoder(encoder).encode(folder / "speech.npy", level, span)
    return MuseTalkPlan.of(features, span, np.zeros(span.num, np.int32)).features()


def _live(encoder: WhisperEncoder, speech: NDArray[np.int16], span: FrameSpan) -> NDArray[np.float32]:
    """What drives the frames of a session that is `NUM` frames at a time ahead of its speech by the look-ahead."""
    stream, audio_encoder, made = SpeechStream(), WhisperLiveAudioEncoder(encoder), []
    for first in range(span.first, span.stop, NUM):
        start, stop = float(first / span.fps), float((first + NUM) / span.fps)
        stream.push(speech[stream.num_samples : round((stop + LOOK_AHEAD_SECONDS) * RATE)])
        features = audio_encoder.encode_live(stream.window(start, stop))
        piece = FrameSpan(span.fps, first, NUM, first + NUM)
        made.append(MuseTalkPlan.of(features, piece, np.zeros(NUM, np.int32)).features())
    return np.concatenate(made)


def _speech(seconds: float) -> NDArray[np.int16]:
    return (speech_like(seconds) * 32767).clip(-32768, 32767).astype(np.int16)


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001)])
def test_encode_live_whole_speech_in_window_equals_encode(
    small_whisper: WhisperEncoder, tmp_path: Path, fps: Fraction
) -> None:
    speech = _speech(1.2)
    first = int(1.2 * fps) - 5  # from here on, all of it has arrived
    span = FrameSpan(fps, first, 8, first + 8)
    job, live = _job(small_whisper, speech, tmp_path, span), _live(small_whisper, speech, span)
    assert live.shape == job.shape
    assert np.abs(live - job).max() < 1e-4


def test_encode_live_first_frames_begin_with_zero_rows(small_whisper: WhisperEncoder) -> None:
    features = WhisperLiveAudioEncoder(small_whisper).encode_live(SpeechStream().window(0.0, 0.08))
    plan = MuseTalkPlan.of(features, FrameSpan(Fraction(25), 0, NUM, NUM), np.zeros(NUM, np.int32))
    assert not plan.features().reshape(NUM, 10, -1)[0, :4].any()


def test_encode_live_mid_speech_is_close_to_encode(small_whisper: WhisperEncoder, tmp_path: Path) -> None:
    span = FrameSpan(Fraction(25), 100, 12, 112)
    speech = _speech(8.0)
    job, live = _job(small_whisper, speech, tmp_path, span), _live(small_whisper, speech, span)
    other = _job(small_whisper, speech, tmp_path, FrameSpan(Fraction(25), 130, 12, 142))
    distance = np.linalg.norm(live - job) / np.linalg.norm(other - job)
    assert distance < 0.25, "a quarter of the distance to other speech"


def test_encode_live_at_job_window_border_does_not_cut_speech(small_whisper: WhisperEncoder) -> None:
    stream = SpeechStream()
    stream.push(_speech(31.0))
    features = WhisperLiveAudioEncoder(small_whisper).encode_live(stream.window(30.0, 30.08))
    plan = MuseTalkPlan.of(features, FrameSpan(Fraction(25), 750, NUM, 752), np.zeros(NUM, np.int32))
    assert plan.features().any(axis=(1, 2)).all()
