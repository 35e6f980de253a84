"""The log-mel spectrum of one window of speech, as Whisper's feature extractor makes it.

It equals `WhisperFeatureExtractor` of transformers (`models/whisper/feature_extraction_whisper.py`), which MuseTalk
uses, to 1e-4. `models.speech_features` differs from it on purpose: there no row depends on sounds far from it.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import torch
from torch import Tensor

from media.audio import SPEECH_SAMPLE_RATE

WINDOW_SECONDS: Final = 30
WINDOW_SAMPLES: Final = WINDOW_SECONDS * SPEECH_SAMPLE_RATE
NUM_BANDS: Final = 80
# whisper/audio.py: 25 ms Hann window, 10 ms hop; decimal logarithm, at most 8 below the loudest of the window, plus 4,
# over 4. The frame that stands at the end of the window is left out.
_FFT_SAMPLES, _HOP_SAMPLES = 400, 160
_RANGE, _TINY_POWER = 8.0, 1e-10


def log_mel(samples: Tensor) -> Tensor:
    """Compute the spectrum of a window.

    Args:
        samples: (480000,) float32 in [-1, 1), zeros after the end of the speech.

    Returns:
        (80, 3000) float32, about -1.5 to 1.5.
    """
    if samples.shape != (WINDOW_SAMPLES,):
        raise ValueError(f"Expected ({WINDOW_SAMPLES},) samples, got {tuple(samples.shape)}.")
    window = torch.hann_window(_FFT_SAMPLES, device=samples.device)
    spectrum = torch.stft(samples, _FFT_SAMPLES, _HOP_SAMPLES, window=window, return_complex=True)  # (201, 3001)
    power = _mel_bank().to(samples.device) @ spectrum[:, :-1].abs().square()  # (80, 3000)
    levels = power.clamp(min=_TINY_POWER).log10()
    return (torch.maximum(levels, levels.max() - _RANGE) + 4) / 4


@cache
def _mel_bank() -> Tensor:
    """(80, 201) weights of the spectrum's bins: Slaney bands of unit area from 0 to 8000 Hz."""
    import librosa  # costs seconds, and only what hears needs it

    return torch.from_numpy(librosa.filters.mel(sr=SPEECH_SAMPLE_RATE, n_fft=_FFT_SAMPLES, n_mels=NUM_BANDS))
