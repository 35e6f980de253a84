"""The detector reads the identifier from a video alone, also after what platforms do to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from media.watermark.code import FALSE_POSITIVE_RATE, NUM_CODED, decode, encode
from media.watermark.detector import Detection, candidates, detect_in_frames, detect_watermark, search_observation
from media.watermark.embedder import Pattern, public_pattern, slot_of
from media.watermark.observation import Observation
from tests.unit.media.clips import LIMITS
from tests.unit.media.watermark.marked_clip import FPS, IDENTIFIER, SIZE, marked_lumas, unmarked_lumas, write_lumas


@pytest.fixture(scope="module")
def marked() -> list[NDArray[np.uint8]]:
    return list(marked_lumas())


def _detect(path: Path) -> Detection:
    return detect_watermark(path, LIMITS)


def test_detect_re_encoded_video_returns_identifier(marked: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    found = _detect(write_lumas(tmp_path / "a.mp4", iter(marked), 28))
    assert found.identifier == IDENTIFIER.hex()
    assert 0.7 < found.confidence <= 1
    assert 0 < found.false_positive_rate < 1e-6
    assert found.end_seconds - found.start_seconds == pytest.approx(8, abs=0.3)


def _cropped(luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    width, height = SIZE
    part = luma[height // 20 : -height // 20, width // 10 :]
    return np.asarray(cv2.resize(part, (352, 264), interpolation=cv2.INTER_AREA), np.uint8)


def _mirrored(luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(luma[:, ::-1])


def _letterboxed(luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """In a black frame of 9:16."""
    top, bottom = (568 - luma.shape[0]) // 2, (569 - luma.shape[0]) // 2
    return np.pad(luma, ((top, bottom), (0, 0)), constant_values=16)


def _small_and_mirrored(luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """At 60 % of its size in a frame of 16:9, with a background that moves."""
    background = cv2.resize(cv2.GaussianBlur(luma, (0, 0), 9), (426, 240))
    background[60:204, 40:232] = cv2.resize(_mirrored(luma), (192, 144), interpolation=cv2.INTER_AREA)
    return np.asarray(background, np.uint8)


@pytest.mark.parametrize("change", [_cropped, _mirrored, _letterboxed, _small_and_mirrored])
def test_detect_moved_or_mirrored_video_returns_identifier(
    marked: list[NDArray[np.uint8]], tmp_path: Path, change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
) -> None:
    path = write_lumas(tmp_path / "a.mp4", map(change, marked), 22)
    assert _detect(path).identifier == IDENTIFIER.hex()


def test_false_positive_rate_counts_every_decoded_alignment() -> None:
    seen = Observation()
    for number, luma in enumerate(unmarked_lumas(100)):
        seen.add(luma, number / float(FPS))
    decoded = sum(len(cells) for _, cells in candidates(public_pattern(), seen, seen.spans(20)))
    found = search_observation(seen, public_pattern())
    assert found == Detection(false_positive_rate=decoded * FALSE_POSITIVE_RATE)


def test_detect_other_rate_and_brightness_returns_identifier(marked: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    times = np.arange(0.7, 7.9, 1 / 30)
    frames = (cv2.convertScaleAbs(marked[int(time * FPS)], alpha=0.85, beta=20) for time in times)
    path = write_lumas(tmp_path / "a.mp4", frames, 26, Fraction(30))  # type: ignore[arg-type]
    assert _detect(path).identifier == IDENTIFIER.hex()


def test_detect_other_videos_returns_nothing(marked: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    assert not _detect(write_lumas(tmp_path / "a.mp4", unmarked_lumas(), 20)).identifier
    flat = ((np.full((64, 64), 90, np.uint8), number / 25) for number in range(100))
    assert not detect_in_frames(flat).identifier
    assert not detect_in_frames([(marked[0], 0.0)]).identifier
    timed = [(luma, number / 25) for number, luma in enumerate(marked)]
    assert detect_in_frames(timed).identifier == IDENTIFIER.hex()
    assert not detect_in_frames(timed, Pattern(b"another key")).identifier


def test_detect_two_watermarks_returns_both() -> None:
    second = bytes.fromhex("2223456789abcdef")
    assert slot_of(second) != slot_of(IDENTIFIER)

    def twice() -> Iterator[tuple[NDArray[np.uint8], float]]:
        pictures = zip(unmarked_lumas(), marked_lumas(), marked_lumas(second), strict=True)
        for number, (before, first, other) in enumerate(pictures):
            yield (first.astype(np.int16) + other - before).clip(0, 255).astype(np.uint8), number / 25

    found = detect_in_frames(twice())
    assert {found.identifier, *found.others} == {IDENTIFIER.hex(), second.hex()}


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
