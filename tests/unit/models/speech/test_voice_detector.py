from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from config import MediaLimits
from media.audio import extract_speech
from models.speech.level import measure_level, open_speech
from models.speech.voice_detector import VoiceDetector

RATE = 16000
PHRASES = ((2.0, 4.0), (6.5, 8.0), (9.2, 11.2))
SECONDS = 13.0
Sound = NDArray[np.float64]


class Background(NamedTuple):
    """What is heard all the time: pink noise at a level in dBFS, or music at one relative to the speech."""

    name: str
    noise_dbfs: float | None = None
    music_db: float | None = None


BACKGROUNDS = (
    Background("digital silence"),
    Background("room tone at -55 dBFS", -55.0),
    Background("room tone at -42 dBFS", -42.0),
    Background("room tone at -35 dBFS", -35.0),
    Background("music 12 dB below the speech", None, -12.0),
)


def _mixed(speech: Sound, background: Background) -> Sound:
    """The speech with a background, in units of 16 bit samples."""
    random, sound = np.random.default_rng(1), speech.copy()
    if background.noise_dbfs is not None:
        sound += _pink_noise(len(sound), random) * 32768 * 10 ** (background.noise_dbfs / 20)
    if background.music_db is not None:
        loud = np.sqrt(np.mean(speech[speech != 0] ** 2))
        sound += _music(len(sound), random) * loud * 10 ** (background.music_db / 20)
    return sound


def _pink_noise(num_samples: int, random: np.random.Generator) -> Sound:
    """Noise with the same power in each octave from 40 Hz, and an RMS of 1."""
    spectrum = np.fft.rfft(random.standard_normal(num_samples))
    frequency = np.fft.rfftfreq(num_samples, 1 / RATE)
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(frequency, 40.0)), num_samples)
    return np.asarray(noise / np.sqrt(np.mean(noise**2)))


def _music(num_samples: int, random: np.random.Generator) -> Sound:
    """Plucked notes, two a second, with an RMS of 1."""
    times = np.arange(num_samples) / RATE
    music = np.zeros(num_samples)
    for beat in np.arange(0, times[-1], 0.5):
        since = times - beat
        envelope = np.where(since >= 0, np.exp(-3 * since.clip(0)) * (since / 0.01).clip(0, 1), 0)
        tone = 110 * 2 ** (random.integers(0, 24) / 12)
        music += envelope * sum(np.sin(2 * np.pi * tone * harmonic * times) / harmonic for harmonic in (1, 2, 3, 4))
    return np.asarray(music / np.sqrt(np.mean(music**2)))


@pytest.fixture(scope="module")
def speech(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Sound:
    """Phrases of the sample, cut off sharply, between digital silence, at -26 dBFS."""
    path = tmp_path_factory.mktemp("voice") / "speech.npy"
    extract_speech(samples / "speech.wav", path, MediaLimits())
    spoken = open_speech(path).astype(np.float64)
    loud = np.flatnonzero(np.abs(spoken) > 0.05 * np.abs(spoken).max())[0]
    sound = np.zeros(round(SECONDS * RATE))
    for start, stop in PHRASES:
        part = slice(round(start * RATE), round(stop * RATE))
        sound[part] = spoken[loud : loud + part.stop - part.start]
    return np.asarray(sound * 1600 / np.sqrt(np.mean(sound[sound != 0] ** 2)))


def _detected(tmp_path: Path, sound: Sound, step: int = 10**6) -> NDArray[np.bool_]:
    np.save(tmp_path / "speech.npy", sound.clip(-32768, 32767).astype(np.int16))
    level, samples = measure_level(tmp_path / "speech.npy"), open_speech(tmp_path / "speech.npy")
    starts, stop = range(0, level.num_rows, step), level.num_rows
    return np.concatenate([VoiceDetector().detect(samples, level, at, min(step, stop - at)) for at in starts])


@pytest.mark.parametrize("background", BACKGROUNDS, ids=lambda each: each.name)
def test_detect_with_pauses_finds_where_speech_begins_and_ends(
    tmp_path: Path, speech: Sound, background: Background
) -> None:
    rows = np.flatnonzero(_detected(tmp_path, _mixed(speech, background)))
    parts = np.split(rows, np.flatnonzero(np.diff(rows) > 25) + 1)  # pauses of half a second
    found = np.array([(part[0] / 50, (part[-1] + 1) / 50) for part in parts if len(part) >= 10])
    assert found.shape == (len(PHRASES), 2), found
    assert np.abs(found - np.array(PHRASES)).max() < 0.6
    assert np.median(np.abs(found - np.array(PHRASES))) < 0.15


def test_detect_quiet_speech_or_blocks_return_the_same(tmp_path: Path, speech: Sound) -> None:
    loud, quiet = _detected(tmp_path, speech), _detected(tmp_path, speech / 50)
    assert (loud == quiet).mean() > 0.95
    noisy = _mixed(speech, BACKGROUNDS[2])
    assert (_detected(tmp_path, noisy) == _detected(tmp_path, noisy, 137)).mean() > 0.99
