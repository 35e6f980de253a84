from pathlib import Path

import librosa
import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.errors import CancelledJobError, MediaError
from models.speech.activity import speech_activity
from models.speech.features import SpeechFeatures, log_mel, measure_level
from models.speech.level import SpeechLevel, cut_speech, open_speech
from tests.unit.models.speech.conftest import RATE, Samples

NUM_FEATURES = 1024


def _save(folder: Path, samples: Samples) -> tuple[Path, SpeechLevel]:
    path = folder / "speech.npy"
    np.save(path, samples)
    return path, measure_level(path)


def _gate(folder: Path, samples: Samples) -> NDArray[np.float32]:
    path, level = _save(folder, samples)
    return speech_activity(open_speech(path), level, 0, level.num_rows).gate


def test_cut_speech_outside_the_file_is_zero() -> None:
    part = cut_speech(np.full(1600, 16384, np.int16), -800, 2400)
    np.testing.assert_array_equal(part, np.pad(np.full(1600, 0.5, np.float32), 800))


def test_log_mel_equals_whisper(tmp_path: Path, voice: Samples) -> None:
    samples = open_speech(_save(tmp_path, voice)[0])
    power = librosa.feature.melspectrogram(y=voice / 32768, sr=RATE, n_fft=400, hop_length=160, n_mels=80)
    # At the ends of a file there is silence, where librosa and Whisper mirror the sound.
    levels = np.log10(np.maximum(power, 1e-10)).T[2:-2]
    expected = (np.maximum(levels, 1.5 - 8) + 4) / 4
    mel = log_mel(samples, 1.0, 2, 2 + len(expected))
    assert np.abs(mel - expected).max() < 1e-3
    assert expected.min() > (1.5 - 8 + 4) / 4 - 1e-6
    assert (log_mel(samples, 10.0, 2, 40) - log_mel(samples, 1.0, 2, 40)).max() > 0.49


@pytest.mark.parametrize("edges", [(0.0, 0.777, 2.0, 9.0), (0.0, 0.01, 0.03, 3.333), (4.9, 5.0, 5.1, 12.3)])
def test_extract_blocks_equal_the_whole_file(
    tmp_path: Path, voice: Samples, features: SpeechFeatures, monkeypatch: pytest.MonkeyPatch, edges: tuple[float, ...]
) -> None:
    voice = np.tile(voice, 1 + 13 * RATE // len(voice))  # several windows of the encoder
    path, level = _save(tmp_path, voice)
    with monkeypatch.context() as patch:
        patch.setattr("models.speech.level._PIECES_PER_MAP", 77)
        assert measure_level(path) == level, "whichever parts are mapped"
    whole = features.extract(path, level, 0, len(voice) / RATE)
    assert whole.features.shape == (level.num_rows, NUM_FEATURES) and whole.features.std() > 0.1
    for start, stop in zip(edges, edges[1:], strict=False):
        block = features.extract(path, level, start, stop)
        rows = slice(block.first_row, block.first_row + len(block.features))
        assert np.abs(block.features - whole.features[rows]).max() < 1e-4
        assert np.abs(block.activity.gate - whole.activity.gate[rows]).max() < 1e-6


def test_extract_of_the_next_block_encodes_new_windows_only(tmp_path: Path, voice: Samples) -> None:
    features = SpeechFeatures()
    path, level = _save(tmp_path, np.tile(voice, 1 + 30 * RATE // len(voice)))
    features.extract(path, level, 0, 10)
    assert features._encoded.cache_info().misses == 3, "a window of 5 s beyond the block is its context"
    features.extract(path, level, 10, 20)
    assert features._encoded.cache_info().misses == 5, "the windows at 5 and 10 s were encoded before"


def test_extract_ignores_loudness_and_distant_sound(tmp_path: Path, voice: Samples, features: SpeechFeatures) -> None:
    long = np.tile(voice, 1 + 20 * RATE // len(voice))
    path, level = _save(tmp_path, long)
    before = features.extract(path, level, 0, 3)
    stops = [False, False, True]
    with pytest.raises(CancelledJobError):
        features.extract(path, level, 0, 20, lambda: stops.pop(0))
    assert not stops, "four windows cover twenty seconds"
    long[7 * RATE :] = long[7 * RATE :][::-1]
    after = features.extract(_save(tmp_path, long)[0], level, 0, 3)
    assert (before.features == after.features).all()
    quiet = features.extract(*_save(tmp_path, long // 8), 0, 3).features
    assert np.corrcoef(before.features.ravel(), quiet.ravel())[0, 1] > 0.99
    assert np.abs(before.features).mean() == pytest.approx(np.abs(quiet).mean(), rel=0.02)


@pytest.mark.parametrize("num_samples", [1, 80, 320, 799, 6000])
def test_extract_short_sound_or_silence_is_finite(tmp_path: Path, features: SpeechFeatures, num_samples: int) -> None:
    for loudness in (3000, 0):
        path, level = _save(tmp_path, np.full(num_samples, loudness, np.int16))
        block = features.extract(path, level, 0, num_samples / RATE)
        assert block.features.shape == (level.num_rows, NUM_FEATURES)
        assert block.activity.gate.shape == (level.num_rows,)
        assert np.isfinite(block.features).all() and np.isfinite([level.gain, level.speech_db]).all()
    assert (block.activity.gate == 0).all()


def test_measure_level_of_rare_speech_is_the_speechs(tmp_path: Path, voice: Samples) -> None:
    _, alone = _save(tmp_path, voice)
    # Ten minutes of a faint room with five seconds of speech in them: less than one frame in a hundred.
    long = np.random.default_rng(0).normal(0, 8, 600 * RATE).astype(np.int16)
    long[300 * RATE : 300 * RATE + len(voice)] += voice
    _, level = _save(tmp_path, long)
    assert level.gain == pytest.approx(alone.gain, rel=0.1)
    assert level.speech_db == pytest.approx(alone.speech_db, abs=6)


def test_speech_activity_gate_spans_gaps_and_faint_speech(tmp_path: Path, voice: Samples) -> None:
    silence = np.zeros(2 * RATE, np.int16)
    gate = _gate(tmp_path, np.concatenate([silence, voice, silence]))
    assert (gate[:70] == 0).all() and (gate[-75:] == 0).all()
    assert gate[100 : 100 + len(voice) * 50 // RATE].mean() > 0.95
    faint = np.rint(voice * 0.003).astype(np.int16)  # its loud parts at -60 dBFS
    assert -70 < _save(tmp_path, faint)[1].speech_db < -55
    assert _gate(tmp_path, faint).mean() > 0.9
    room = np.random.default_rng(0).normal(0, 3, 3 * RATE).astype(np.int16)  # -81 dBFS
    assert (_gate(tmp_path, room) == 0).all()


def test_speech_activity_gate_opens_half_a_second_ahead(tmp_path: Path) -> None:
    samples = np.zeros(4 * RATE, np.int16)
    samples[2 * RATE : 3 * RATE] = np.random.default_rng(0).normal(0, 3000, RATE)
    gate = _gate(tmp_path, samples)
    is_open = np.flatnonzero(gate > 0.5)
    assert 22 <= 100 - is_open[0] <= 27 and 10 <= is_open[-1] - 150 <= 15
    path, level = _save(tmp_path, samples)
    assert np.array_equal(speech_activity(open_speech(path), level, 60, 90).gate, gate[60:90])


def test_measure_level_and_extract_refuse_other_files(tmp_path: Path, voice: Samples, features: SpeechFeatures) -> None:
    for wrong in (np.zeros(100, np.float32), np.zeros((10, 2), np.int16), np.zeros(0, np.int16)):
        np.save(tmp_path / "wrong.npy", wrong)
        with pytest.raises(MediaError, match=r"wrong\.npy"):
            measure_level(tmp_path / "wrong.npy")
    with pytest.raises(MediaError, match=r"missing\.npy"):
        measure_level(tmp_path / "missing.npy")
    path, level = _save(tmp_path, voice)
    for start, stop in ((-0.1, 1.0), (1.0, 1.0), (2.0, 1.0)):
        with pytest.raises(ValueError, match="start < stop"):
            features.extract(path, level, start, stop)
    with pytest.raises(MediaError, match="samples"):
        features.extract(_save(tmp_path, voice[:-1])[0], level, 0, 1)
