"""Sounds that the speech network must not mistake: other rooms, microphones and voices, noise and music.

Nothing here moves the sounds of speech in time but `change_voice`, which says by how much.
"""

from __future__ import annotations

from typing import Literal

import librosa
import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, fftconvolve, sosfilt

from lipwright.media.audio import SPEECH_SAMPLE_RATE

Samples = NDArray[np.float32]
NoiseKind = Literal["white", "pink", "brown", "hum", "music", "breath", "tones"]
NOISE_KINDS: tuple[NoiseKind, ...] = ("white", "pink", "brown", "hum", "music", "breath", "tones")

# Power of a noise's spectrum by frequency.
_SLOPES = {"white": 0.0, "pink": -0.5, "brown": -1.0}
_CHORD = (0, 3, 4, 7, 9, 12, 16, 19, 24)


def change_voice(samples: Samples, rng: np.random.Generator) -> tuple[Samples, float]:
    """Makes another voice of a voice, by playing it faster (pitch and formants rise together) or slower.

    Returns:
        The sound, and the factor by which it is faster: time t of the result is time t * factor of the original.
    """
    factor = float(np.exp(rng.uniform(np.log(0.8), np.log(1.3))))
    faster = librosa.resample(
        samples, orig_sr=round(SPEECH_SAMPLE_RATE * factor), target_sr=SPEECH_SAMPLE_RATE, res_type="soxr_mq"
    )
    return faster.astype(np.float32), factor


def change_microphone(samples: Samples, rng: np.random.Generator) -> Samples:
    """Tilts the spectrum, and now and then limits the band, bends loud samples or codes at 8 bits."""
    spectrum = np.fft.rfft(samples)
    octaves = np.log2(np.maximum(np.linspace(0, SPEECH_SAMPLE_RATE / 2, len(spectrum)), 50) / 1000)
    ripple = rng.uniform(0, 4) * np.cos(octaves * rng.uniform(0.5, 2) + rng.uniform(0, 6))
    heard = np.fft.irfft(spectrum * 10 ** ((octaves * rng.uniform(-4, 4) + ripple) / 20), len(samples))
    if rng.random() < 0.3:
        band = sorted(rng.uniform([60, 2800], [350, 7500]))
        heard = sosfilt(butter(2, band, "band", fs=SPEECH_SAMPLE_RATE, output="sos"), heard)
    peak = np.abs(heard).max() + 1e-6
    if rng.random() < 0.15:
        heard = np.tanh(heard / peak * rng.uniform(1, 4)) * peak
    if rng.random() < 0.15:
        heard = _mu_law(heard / peak) * peak
    return heard.astype(np.float32)


def add_room(samples: Samples, rng: np.random.Generator) -> Samples:
    """Adds the reverberation of a room of .12 to .7 seconds."""
    length = int(rng.uniform(0.12, 0.7) * SPEECH_SAMPLE_RATE)
    response = rng.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length)
    response[: int(0.003 * SPEECH_SAMPLE_RATE)] = 0
    response *= rng.uniform(0.15, 0.8) / np.sqrt(np.square(response).sum())
    response[0] = 1
    echoed: Samples = fftconvolve(samples, response)[: len(samples)].astype(np.float32)
    return echoed


def add_noise(samples: Samples, rng: np.random.Generator, babble: Samples | None = None) -> Samples:
    """Adds a noise, music, or now and then `babble`, at a signal-to-noise ratio of 3 to 35 dB."""
    if babble is not None and rng.random() < 0.2:
        noise = np.resize(np.roll(babble, -int(rng.integers(len(babble)))), len(samples))
    else:
        noise = make_noise(len(samples), NOISE_KINDS[rng.integers(len(NOISE_KINDS))], rng)
    rms = np.sqrt(np.square(samples).mean()) * 10 ** (-rng.uniform(3, 35) / 20)
    noisy: Samples = (samples + noise * rms).astype(np.float32)
    return noisy


def make_babble(voices: list[Samples], num_samples: int, rng: np.random.Generator) -> Samples:
    """Lets four of `voices` speak at once; the root mean square is 1."""
    mixed = np.zeros(num_samples, np.float32)
    for index in rng.integers(len(voices), size=4):
        mixed += np.resize(np.roll(voices[index], -int(rng.integers(len(voices[index])))), num_samples)
    babble: Samples = (mixed / (mixed.std() + 1e-9)).astype(np.float32)
    return babble


def make_noise(num_samples: int, kind: NoiseKind, rng: np.random.Generator) -> Samples:
    """Makes a sound without speech; its root mean square is 1."""
    time = np.arange(num_samples) / SPEECH_SAMPLE_RATE
    if kind == "music":
        noise = _music(num_samples, rng)
    elif kind == "hum":
        partials = np.arange(1, 9)[:, None]
        phases = 2 * np.pi * rng.choice([50, 60, 100, 120]) * partials * time + rng.uniform(0, 6, (8, 1))
        noise = (rng.uniform(0, 1, (8, 1)) / partials * np.sin(phases)).sum(0) + 0.05 * rng.standard_normal(num_samples)
    elif kind == "tones":  # that have nothing to do with each other, and swell
        count = int(rng.integers(10, 120))
        pitch = rng.uniform(80, rng.uniform(800, 6000), (count, 1))
        tones = rng.normal(size=(count, 1)) * np.sin(2 * np.pi * pitch * time + rng.uniform(0, 6, (count, 1)))
        swell = 1 + rng.uniform(0, 0.9) * np.sin(2 * np.pi * rng.uniform(0.3, 5) * time + rng.uniform(0, 6))
        noise = tones.sum(0) * swell
    elif kind == "breath":
        band = sorted(rng.uniform([200, 2000], [700, 7000]))
        sos = butter(1, band, "band", fs=SPEECH_SAMPLE_RATE, output="sos")
        swell = np.maximum(0, np.sin(2 * np.pi * rng.uniform(0.2, 0.8) * time + rng.uniform(0, 6))) ** 2
        noise = sosfilt(sos, rng.standard_normal(num_samples)) * (swell + 1e-3)
    else:
        spectrum = np.fft.rfft(rng.standard_normal(num_samples))
        noise = np.fft.irfft(spectrum * np.arange(1, len(spectrum) + 1) ** _SLOPES[kind], num_samples)
        if rng.random() < 0.3:  # gusts
            noise *= 1 + 0.8 * np.sin(2 * np.pi * rng.uniform(0.3, 6) * time + rng.uniform(0, 6))
    scaled: Samples = (noise / (noise.std() + 1e-9)).astype(np.float32)
    return scaled


def _music(num_samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Chords with a decay, some with a drum."""
    music = np.zeros(num_samples)
    beat, root = rng.uniform(0.2, 0.6), rng.uniform(80, 300)
    for start in range(0, num_samples, int(beat * SPEECH_SAMPLE_RATE)):
        length = min(num_samples - start, int(rng.uniform(0.2, 1.2) * SPEECH_SAMPLE_RATE))
        time = np.arange(length) / SPEECH_SAMPLE_RATE
        envelope = np.exp(-time * rng.uniform(1, 8)) * np.minimum(1, time * 200)
        for step in rng.choice(_CHORD, 3):
            fall = rng.uniform(0.8, 2)
            tones = [np.sin(2 * np.pi * root * 2 ** (step / 12) * k * time) / k**fall for k in range(1, 7)]
            music[start : start + length] += envelope * sum(tones)
        if rng.random() < 0.5:
            drum = min(length, 1600)
            music[start : start + drum] += 3 * rng.standard_normal(drum) * np.exp(-np.arange(drum) / 300)
    return music


def _mu_law(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Codes [-1, 1] at 8 bits, as telephones do (ITU-T G.711, mu = 255)."""
    code = np.round(np.sign(samples) * np.log1p(255 * np.abs(samples)) / np.log1p(255) * 64) / 64
    decoded: NDArray[np.float64] = np.sign(code) * (256 ** np.abs(code) - 1) / 255
    return decoded
