from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.config import MediaLimits
from lipwright.media.audio import extract_speech
from models.avatar.source_sync import SourceSync, measure_sync, sample_rows
from models.speech.features import SpeechFeatures, measure_level
from models.speech.level import ROWS_PER_SECOND
from models.speech.speech_to_mouth import MouthBlock, SpeechToMouth
from models.track.face_track import FaceTrack, finish_track
from tests.unit.models.conftest import Filmed

RATE = 16000
FPS = Fraction(25)
Samples = NDArray[np.int16]
Hear = Callable[[Samples], MouthBlock]


@pytest.fixture(scope="module")
def hear(tmp_path_factory: pytest.TempPathFactory) -> Hear:
    """Predicts mouths from samples."""
    path, features, mouth = tmp_path_factory.mktemp("ear") / "speech.npy", SpeechFeatures(), SpeechToMouth()

    def hear(samples: Samples) -> MouthBlock:
        np.save(path, samples)
        seconds = len(samples) / RATE
        block = features.extract(path, measure_level(path), 0.0, seconds)
        return mouth.predict(block, Fraction(ROWS_PER_SECOND), 0, int(seconds * ROWS_PER_SECOND))

    return hear


@pytest.fixture(scope="module")
def track(filmed_sample: Filmed) -> FaceTrack:
    return finish_track(filmed_sample.raw.points, filmed_sample.raw.present)


@pytest.fixture(scope="module")
def sound(sample_video: Path, tmp_path_factory: pytest.TempPathFactory) -> Samples:
    path = tmp_path_factory.mktemp("sound") / "own.npy"
    extract_speech(sample_video, path, MediaLimits())
    samples: Samples = np.load(path)
    return samples


def moved(samples: Samples, num_frames: float) -> Samples:
    """The sound, later by a number of frames at 25 fps, as long as before."""
    num = round(abs(num_frames) / 25 * RATE)
    gap = np.zeros(num, np.int16)
    return np.concatenate([gap, samples[: len(samples) - num]] if num_frames >= 0 else [samples[num:], gap])


def sync_of(track: FaceTrack, mouth: MouthBlock) -> SourceSync:
    return measure_sync(track.shape, track.visible, FPS, mouth.shape, mouth.gate)


def test_measure_sync_finds_a_moved_sound(track: FaceTrack, sound: Samples, hear: Hear) -> None:
    moves, offsets = (-8, 0, 0.5, 4.25), []
    for num_frames in moves:
        sync = sync_of(track, hear(moved(sound, num_frames)))
        assert sync.offset_seconds is not None, sync
        offsets.append(sync.offset_seconds * 25)
        assert sync.confidence >= 0.6 and sync.speech_seconds > 3
    assert offsets == pytest.approx(moves, abs=0.5)
    assert np.diff(offsets)[1:] == pytest.approx([0.5, 3.75], abs=0.3)


def test_measure_sync_of_another_sound_is_unknown(
    track: FaceTrack, sound: Samples, hear: Hear, samples: Path, tmp_path: Path
) -> None:
    extract_speech(samples / "speech_short.wav", tmp_path / "other.npy", MediaLimits())
    other = np.tile(np.load(tmp_path / "other.npy"), 4)[: len(sound)]
    noise = np.random.default_rng(2).normal(0, 2000, len(sound)).astype(np.int16)
    for wrong in (other, sound[::-1].copy(), noise, moved(sound, 40)):
        assert sync_of(track, hear(wrong)).offset_seconds is None
    assert sync_of(track, hear(np.zeros_like(sound))) == SourceSync(None, 0.0, 0.0, 0.0)
    word = sync_of(track, hear(sound[:RATE]))
    assert word.offset_seconds is None and 0 < word.speech_seconds < 1.5


def test_measure_sync_ignores_absent_frames_and_rest(track: FaceTrack, sound: Samples, hear: Hear) -> None:
    present = track.visible.copy()
    present[30:45] = False
    shape = track.shape.copy()
    shape[30:45] = 5.0
    mouth = hear(moved(sound, 3))
    sync = measure_sync(shape, present, FPS, mouth.shape, mouth.gate)
    assert sync.offset_seconds is not None and sync.offset_seconds * 25 == pytest.approx(3, abs=0.6)
    still = measure_sync(np.zeros_like(track.shape), track.visible, FPS, mouth.shape, mouth.gate)
    assert still.offset_seconds is None
    with pytest.raises(ValueError, match="Expected"):
        measure_sync(track.shape, track.visible[1:], FPS, track.shape, np.ones(len(track.shape), np.float32))


def test_measure_sync_offset_is_in_seconds_at_any_rate(track: FaceTrack, sound: Samples, hear: Hear) -> None:
    mouth = hear(moved(sound, -4))
    for fps in (Fraction(30000, 1001), Fraction(50), Fraction(15)):
        times = np.arange(int(3.9 * fps)) / float(fps) * 25
        rows = [np.interp(times, np.arange(len(track.shape)), channel) for channel in track.shape.T]
        shape = np.stack(rows, 1).astype(np.float32)
        sync = measure_sync(shape, np.ones(len(shape), np.bool_), fps, mouth.shape, mouth.gate)
        assert sync.offset_seconds is not None
        assert sync.offset_seconds == pytest.approx(-0.16, abs=0.025)
    ramp = np.arange(10, dtype=np.float32)
    np.testing.assert_allclose(sample_rows(ramp, np.array([-1.0, 0.03, 0.05, 9.0])), [0, 1.5, 2.5, 9], atol=1e-5)
    assert sample_rows(np.tile(ramp[:, None], 8), np.array([0.1])).shape == (1, 8)
