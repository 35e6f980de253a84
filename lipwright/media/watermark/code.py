"""Error correction of the watermark's identifier: CRC-32 and a convolutional code with soft-decision decoding."""

from __future__ import annotations

import zlib
from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

IDENTIFIER_BYTES: Final = 8
_CRC_BYTES: Final = 4
# Rate 1/4, constraint length 9, free distance 24 (Proakis, Digital Communications, table 8.2-3).
_GENERATORS: Final = (0o463, 0o535, 0o733, 0o745)
_CONSTRAINT: Final = 9
_NUM_STATES: Final = 1 << (_CONSTRAINT - 1)
_NUM_INFO: Final = 8 * (IDENTIFIER_BYTES + _CRC_BYTES)
_NUM_STEPS: Final = _NUM_INFO + _CONSTRAINT - 1  # zeros at the end return the encoder to state 0
NUM_CODED: Final = _NUM_STEPS * len(_GENERATORS)
"""Coded bits of one identifier."""
FALSE_POSITIVE_RATE: Final = 2.0 ** (-8 * _CRC_BYTES)
"""Probability that `decode` returns an identifier for soft bits that carry none: a wrong word has a random CRC."""


def encode(identifier: bytes) -> NDArray[np.uint8]:
    """Return the (NUM_CODED,) bits of an identifier of IDENTIFIER_BYTES bytes.

    Raises:
        ValueError: The identifier has a different length.
    """
    if len(identifier) != IDENTIFIER_BYTES:
        raise ValueError(f"Expected an identifier of {IDENTIFIER_BYTES} bytes, got {len(identifier)}.")
    word = identifier + zlib.crc32(identifier).to_bytes(_CRC_BYTES, "big")
    info = np.unpackbits(np.frombuffer(word, np.uint8))
    # A generator is a filter over the bits: its most significant tap multiplies the newest one.
    taps = [[generator >> delay & 1 for delay in range(_CONSTRAINT)] for generator in _GENERATORS]
    streams = [np.convolve(info, filter_taps) & 1 for filter_taps in taps]
    return np.stack(streams, axis=1).reshape(-1).astype(np.uint8)  # (_NUM_STEPS * 4,)


def decode(soft: NDArray[np.float32]) -> list[bytes | None]:
    """Decode by the Viterbi algorithm.

    Args:
        soft: (B, NUM_CODED) estimates: positive for a coded 0, negative for a 1; larger ones are more certain.

    Returns:
        B identifiers; None if the CRC does not match.
    """
    return [read_word(word) for word in most_likely_words(soft)]


def most_likely_words(soft: NDArray[np.float32]) -> list[bytes]:
    """Return the B most likely words, identifier and CRC, for (B, NUM_CODED) soft bits."""
    bits = _most_likely(soft.reshape(len(soft), _NUM_STEPS, len(_GENERATORS)))
    return [row.tobytes() for row in np.packbits(bits, axis=1)]


def read_word(word: bytes, num_crc_bytes: int = _CRC_BYTES) -> bytes | None:
    """Return the identifier of a word; None if the first `num_crc_bytes` of its CRC do not match."""
    identifier, crc = word[:IDENTIFIER_BYTES], word[IDENTIFIER_BYTES:]
    expected = zlib.crc32(identifier).to_bytes(_CRC_BYTES, "big")
    return identifier if crc[:num_crc_bytes] == expected[:num_crc_bytes] else None


class _Trellis(NamedTuple):
    """Transitions into each state, from its two predecessors.

    Attributes:
        predecessors: (2, S) states.
        outputs: (4, 2 * S) float32, coded bits of the transitions: 1 for a 0, -1 for a 1.
    """

    predecessors: NDArray[np.intp]
    outputs: NDArray[np.float32]


@cache
def _trellis() -> _Trellis:
    states = np.arange(_NUM_STATES)  # the last 8 bits, the newest one in the lowest place
    predecessors = np.stack([states >> 1, states >> 1 | _NUM_STATES >> 1])
    registers = predecessors << 1 | states & 1
    parities = np.stack([np.bitwise_count(registers & generator) & 1 for generator in _GENERATORS])
    return _Trellis(predecessors, (1 - 2.0 * parities).reshape(len(_GENERATORS), -1).astype(np.float32))


def _most_likely(steps: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the (B, _NUM_INFO) information bits of the most likely paths for (B, _NUM_STEPS, 4) soft bits."""
    predecessors, outputs = _trellis()
    num = len(steps)
    metrics = np.full((num, _NUM_STATES), -np.inf, np.float32)
    metrics[:, 0] = 0
    came_from = np.empty((_NUM_STEPS, num, _NUM_STATES), bool)
    for step in range(_NUM_STEPS):
        gains = (steps[:, step] @ outputs).reshape(num, 2, _NUM_STATES)
        paths = metrics[:, predecessors] + gains  # (B, 2, S)
        came_from[step] = paths[:, 1] > paths[:, 0]
        metrics = paths.max(axis=1)
    state, rows = np.zeros(num, np.intp), np.arange(num)
    bits = np.empty((num, _NUM_STEPS), np.uint8)
    for step in reversed(range(_NUM_STEPS)):
        bits[:, step] = state & 1
        state = predecessors[came_from[step, rows, state].astype(np.intp), state]
    return bits[:, :_NUM_INFO]
