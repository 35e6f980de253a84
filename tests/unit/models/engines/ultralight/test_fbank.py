from __future__ import annotations

import numpy as np

from models.engines.ultralight.wenet import fbank


def test_fbank_equals_kaldi() -> None:
    """Values of kaldi-native-fbank 1.23 (dither 0, 80 bands, snip_edges) for the same samples."""
    n = np.arange(1200)
    samples = (((n * n * 7 + n * 13) % 4001) - 2000).astype(np.float32)
    samples[700:] *= 0.25
    rows = fbank(samples)
    assert rows.shape == (6, 80)
    expected = [
        [12.8454, 13.9204, 14.6742, 19.2904, 20.9754, 22.9125],
        [11.5143, 11.9947, 12.2603, 18.9513, 22.2666, 22.0327],
        [6.9380, 7.3326, 10.8086, 16.4173, 19.0169, 20.1813],
    ]
    assert np.abs(rows[[0, 2, 5]][:, [0, 1, 7, 40, 63, 79]] - expected).max() < 2e-4
    assert abs(float(rows.mean()) - 17.522074) < 1e-4


def test_fbank_silence_is_kaldi_floor() -> None:
    assert np.allclose(fbank(np.zeros(800, np.float32)), -15.942385)
