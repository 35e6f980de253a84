"""Identifiers survive noise, and noise alone is no identifier."""

from __future__ import annotations

import numpy as np
import pytest

from media.watermark.code import NUM_CODED, decode, encode

IDENTIFIERS = [bytes(8), bytes([255] * 8), b"abcdefgh"]


def test_decode_noisy_bits_returns_the_identifier() -> None:
    noise = np.random.default_rng(0).normal(0, 1, (len(IDENTIFIERS), NUM_CODED))
    sent = np.stack([1 - 2.0 * encode(identifier) for identifier in IDENTIFIERS])
    received = (0.8 * sent + noise).astype(np.float32)
    assert np.mean((received < 0) != (sent < 0)) > 0.15, "hard decisions are often wrong"
    assert decode(received) == IDENTIFIERS


def test_decode_noise_or_constants_returns_none() -> None:
    noise = np.random.default_rng(1).normal(0, 1, (200, NUM_CODED)).astype(np.float32)
    constants = np.stack([np.full(NUM_CODED, level, np.float32) for level in (0, 1, -1)])
    assert decode(np.concatenate([noise, constants])) == [None] * 203


def test_decode_corrects_eleven_errors() -> None:
    received = np.tile(1 - 2.0 * encode(b"abcdefgh"), (50, 1)).astype(np.float32)
    random = np.random.default_rng(2)
    for row in received:
        row[random.choice(NUM_CODED, 11, replace=False)] *= -1  # (free distance - 1) // 2
    assert decode(received) == [b"abcdefgh"] * 50


def test_encode_other_length_is_refused() -> None:
    with pytest.raises(ValueError, match="8 bytes"):
        encode(b"abc")
