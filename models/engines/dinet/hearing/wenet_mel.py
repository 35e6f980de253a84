"""The front end of HeyGem's speech encoder: log-mel frames every 10 ms.

Constants of HeyGem-Linux-Python-Hack, wenet/tools/_extract_feats.py and train_conformer_multi_cn.yaml: preemphasis
0.97, Hann window of 800 samples in an FFT of 1024, 160 samples a frame, 80 Slaney bands from 0 to 8000 Hz of the power,
10 log10(p + 1e-5) - 20. It is not Kaldi's filter bank, and nothing is normalised by statistics.

Mel frame m stands at sample 160 m - 6400 of the file: the encoder is given 0.4 s of silence ahead of it.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from media.audio import SPEECH_SAMPLE_RATE
from models.engines.dinet.io_shapes import NUM_BANDS
from models.speech.level import cut_speech

PADDING_SAMPLES: Final = 6400
MEL_HOP: Final = 160
_FFT, _WINDOW, _PREEMPHASIS, _TINY_POWER, _REFERENCE_DB = 1024, 800, 0.97, 1e-5, 20


def mel_of_file(samples: NDArray[np.int16], first: int, stop: int) -> NDArray[np.float32]:
    """Compute mel frames [first, stop) of a file between two silences; a frame is the same whatever the range.

    Args:
        samples: (N,) int16, the whole file at 16 kHz.
        first: First frame.
        stop: Frame after the last.

    Returns:
        (stop - first, 80) float32.
    """
    start = first * MEL_HOP - PADDING_SAMPLES - _FFT // 2
    end = (stop - 1) * MEL_HOP - PADDING_SAMPLES + _FFT // 2
    sound = cut_speech(samples, start - 1, end)
    return _mel_of_frames(sound[1:] - np.float32(_PREEMPHASIS) * sound[:-1])


def mel_of_chunk(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the mel frames of one chunk as HeyGem does: nothing is known before its first sample, edges mirror.

    Args:
        sound: (S,) float32 in [-1, 1), more than 512 samples.

    Returns:
        (1 + S // 160, 80) float32.
    """
    lifted = sound.copy()
    lifted[1:] -= np.float32(_PREEMPHASIS) * sound[:-1]
    return _mel_of_frames(np.pad(lifted, _FFT // 2, mode="reflect"))


def _mel_of_frames(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    import librosa  # costs seconds, and one process of the graph needs it

    spectrum = librosa.stft(sound, n_fft=_FFT, hop_length=MEL_HOP, win_length=_WINDOW, window="hann", center=False)
    power = _mel_bank() @ (np.square(spectrum.real) + np.square(spectrum.imag))  # (80, M)
    return np.ascontiguousarray(10 * np.log10(power.T + _TINY_POWER) - _REFERENCE_DB, np.float32)


@cache
def _mel_bank() -> NDArray[np.float32]:
    """(80, 513) weights of the spectrum's bins."""
    import librosa

    bank: NDArray[np.float32] = librosa.filters.mel(
        sr=SPEECH_SAMPLE_RATE, n_fft=_FFT, n_mels=NUM_BANDS, fmin=0, fmax=8000
    )
    return bank
