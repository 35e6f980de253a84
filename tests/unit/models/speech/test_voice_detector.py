from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.config import MediaLimits
from lipwright.media.audio import extract_speech
from models.speech.level import measure_level, open_speech
from models.speech.voice_detector import VoiceDetector

RATE = 16000
PHRASES = ((2.0, 4.0), (6.5, 8.0), (9.2, 11.2))
NUM_SAMPLES = 13 * RATE
LOUDNESS = 1600  # RMS of the speech, in units of 16 bit samples: -26 dBFS
Sound = NDArray[np.float64]


def _pink_noise(dbfs: float) -> Sound:
    """Noise with the same power in each octave from 40 Hz."""
    spectrum = np.fft.rfft(np.random.default_rng(1).standard_normal(NUM_SAMPLES))
    frequency = np.fft.rfftfreq(NUM_SAMPLES, 1 / RATE)
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(frequency, 40.0)), NUM_SAMPLES)
    return np.asarray(noise / np.sqrt(np.mean(noise**2)) * 32768 * 10 ** (dbfs / 20))


def _music(db: float) -> Sound:
    """Plucked notes, two a second, at a level relative to the speech."""
    random, times = np.random.default_rng(1), np.arange(NUM_SAMPLES) / RATE
    music = np.zeros(NUM_SAMPLES)
    for beat in np.arange(0, times[-1], 0.5):
        since = times - beat
        envelope = np.where(since >= 0, np.exp(-3 * since.clip(0)) * (since / 0.01).clip(0, 1), 0)
        tone = 110 * 2 ** (random.integers(0, 24) / 12)
        music += envelope * sum(np.sin(2 * np.pi * tone * harmonic * times) / harmonic for harmonic in (1, 2, 3, 4))
    return np.asarray(music / np.sqrt(np.mean(music**2)) * LOUDNESS * 10 ** (db / 20))


@pytest.fixture(scope="module")
def speech(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Sound:
    """Phrases of the sample, cut off sharply, between digital silence."""
    path = tmp_path_factory.mktemp("voice") / "speech.npy"
    extract_speech(samples / "speech.wav", path, MediaLimits())
    spoken = open_speech(path).astype(np.float64)
    loud = np.flatnonzero(np.abs(spoken) > 0.05 * np.abs(spoken).max())[0]
    sound = np.zeros(NUM_SAMPLES)
    for start, stop in PHRASES:
        part = slice(round(start * RATE), round(stop * RATE))
        sound[part] = spoken[loud : loud + part.stop - part.start]
    return np.asarray(sound * LOUDNESS / np.sqrt(np.mean(sound[sound != 0] ** 2)))


def _detected(tmp_path: Path, sound: Sound, step: int = 10**6) -> NDArray[np.bool_]:
    np.save(tmp_path / "speech.npy", sound.clip(-32768, 32767).astype(np.int16))
    level, samples = measure_level(tmp_path / "speech.npy"), open_speech(tmp_path / "speech.npy")
    starts, stop = range(0, level.num_rows, step), level.num_rows
    return np.concatenate([VoiceDetector().detect(samples, level, at, min(step, stop - at)) for at in starts])


BACKGROUNDS = {
    "digital silence": np.zeros(NUM_SAMPLES),
    "room tone at -55 dBFS": _pink_noise(-55.0),
    "room tone at -42 dBFS": _pink_noise(-42.0),
    "room tone at -35 dBFS": _pink_noise(-35.0),
    "music 12 dB below the speech": _music(-12.0),
}


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_detect_in_noise_finds_where_speech_begins_and_ends(tmp_path: Path, speech: Sound, background: str) -> None:
    rows = np.flatnonzero(_detected(tmp_path, speech + BACKGROUNDS[background]))
    parts = np.split(rows, np.flatnonzero(np.diff(rows) > 25) + 1)  # pauses of half a second
    found = np.array([(part[0] / 50, (part[-1] + 1) / 50) for part in parts if len(part) >= 10])
    assert found.shape == (len(PHRASES), 2), found
    assert np.abs(found - np.array(PHRASES)).max() < 0.6
    assert np.median(np.abs(found - np.array(PHRASES))) < 0.15


def test_detect_quiet_speech_or_blocks_return_the_same(tmp_path: Path, speech: Sound) -> None:
    loud, quiet = _detected(tmp_path, speech), _detected(tmp_path, speech / 50)
    assert (loud == quiet).mean() > 0.95
    noisy = speech + BACKGROUNDS["room tone at -42 dBFS"]
    assert (_detected(tmp_path, noisy) == _detected(tmp_path, noisy, 137)).mean() > 0.99
