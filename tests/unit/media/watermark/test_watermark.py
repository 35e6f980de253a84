"""The invisible watermark: what it changes, and that the detector reads it from a video alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.media.watermark.code import FALSE_POSITIVE_RATE, NUM_CODED, decode, encode
from lipwright.media.watermark.detector import (
    Detection,
    candidates,
    detect_in_frames,
    detect_watermark,
    search_observation,
)
from lipwright.media.watermark.embedder import (
    HALF_PERIOD_SECONDS,
    MAX_LEVELS,
    InvisibleWatermark,
    Pattern,
    public_pattern,
    sign_at,
    slot_of,
)
from lipwright.media.watermark.observation import Observation
from lipwright.media.watermark.region import Box, Region, region_around
from lipwright.media.yuv_frame import YuvFrame
from tests.unit.media.clips import LIMITS, info_of, planes_of
from tests.unit.media.watermark.marked_clip import (
    FPS,
    IDENTIFIER,
    SIZE,
    marked_lumas,
    planes_with,
    unmarked_lumas,
    write_lumas,
)


@pytest.fixture(scope="module")
def marked() -> list[NDArray[np.uint8]]:
    return list(marked_lumas())


def test_detect_re_encoded_video_returns_identifier(marked: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    found = detect_watermark(write_lumas(tmp_path / "a.mp4", marked, 28), LIMITS)
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
    assert detect_watermark(path, LIMITS).identifier == IDENTIFIER.hex()


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
    assert detect_watermark(path, LIMITS).identifier == IDENTIFIER.hex()


def test_detect_other_videos_returns_nothing(marked: list[NDArray[np.uint8]]) -> None:
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


def test_decode_returns_identifier_of_noisy_bits_only() -> None:
    identifiers, random = [bytes(8), bytes([255] * 8), b"abcdefgh"], np.random.default_rng(0)
    with pytest.raises(ValueError, match="8 bytes"):
        encode(b"abc")
    sent = np.stack([1 - 2.0 * encode(identifier) for identifier in identifiers])
    received = (0.8 * sent + random.normal(0, 1, sent.shape)).astype(np.float32)
    assert np.mean((received < 0) != (sent < 0)) > 0.15, "hard decisions are often wrong"
    assert decode(received) == identifiers
    received = np.tile(sent[2], (50, 1)).astype(np.float32)
    for row in received:
        row[random.choice(NUM_CODED, 11, replace=False)] *= -1  # (free distance - 1) // 2
    assert decode(received) == [b"abcdefgh"] * 50
    noise = random.normal(0, 1, (200, NUM_CODED)).astype(np.float32)
    constants = np.stack([np.full(NUM_CODED, level, np.float32) for level in (0, 1, -1)])
    assert decode(np.concatenate([noise, constants])) == [None] * 203


def test_invisible_watermark_is_faint_and_repeatable() -> None:
    before, after, again = (np.stack(list(lumas)) for lumas in (unmarked_lumas(60), marked_lumas(), marked_lumas()))
    after, again = after[:60], again[:60]
    change = after.astype(int) - before
    assert np.array_equal(after, again)
    assert np.abs(change).max() <= MAX_LEVELS
    assert 10 * np.log10(255**2 / np.mean(change**2)) > 44
    assert (change[:45] != 0).mean() > 0.5


@pytest.mark.parametrize("size", [(16, 16), (64, 300), (1920, 1080), (722, 406)])
def test_invisible_watermark_marks_luma_of_every_size(size: tuple[int, int]) -> None:
    before = planes_of(3, *size)
    after = YuvFrame(*(plane.copy() for plane in before))
    InvisibleWatermark(info_of(*size), IDENTIFIER).draw(after)
    assert np.array_equal(before.u, after.u) and np.array_equal(before.v, after.v)
    change = after.y.astype(int) - before.y
    assert 0 < np.abs(change).max() <= MAX_LEVELS


def test_invisible_watermark_flat_picture_changes_by_one_level() -> None:
    for level, levels in ((0, {0, 1}), (90, {89, 90, 91}), (255, {254, 255})):
        luma = np.full((96, 96), level, np.uint8)
        InvisibleWatermark(info_of(96, 96), IDENTIFIER, first_frame=12).draw(planes_with(luma))
        assert set(np.unique(luma)) == levels


def test_sign_at_changes_smoothly_with_time() -> None:
    assert sign_at(0) == sign_at(HALF_PERIOD_SECONDS - 0.5) == 1
    assert sign_at(HALF_PERIOD_SECONDS + 0.5) == -1
    assert sign_at(HALF_PERIOD_SECONDS) == 0
    steps = [sign_at(number / 100) for number in range(1000)]
    assert np.abs(np.diff(steps)).max() < 0.2
    slow, fast = ([sign_at(float(Fraction(n) / fps)) for n in range(0, 4 * fps, fps // 5)] for fps in (10, 50))
    assert slow == fast


def test_region_around_box_has_searched_sides() -> None:
    for box in ((0.1, 0.2, 0.9, 1.0), (0.2, 0.1, 0.7, 1.0)):
        assert region_around(box) == pytest.approx(box, abs=1e-3)
    assert region_around((0.0, 0.0, 0.7, 1.0)) == pytest.approx((0.0, 0.0, 0.75, 1.0), abs=1e-3)
    assert region_around((0.9, 0.8, 1.0, 1.0)) == pytest.approx((0.68, 0.68, 1.0, 1.0), abs=1e-3)
    assert region_around((0.1, 0.5, 0.9, 1.0)) == pytest.approx((0.0, 0.5, 1.0, 1.0), abs=1e-3)
    assert region_around((0.3, 0.4, 0.65, 1.0)) == pytest.approx((0.2442, 0.4, 0.7058, 1.0), abs=1e-3)


def test_draw_with_region_changes_only_the_region() -> None:
    luma = np.full((SIZE[1], SIZE[0]), 90, np.uint8)
    region = Region(0.25, 0.5, 1.0, 1.0)
    InvisibleWatermark(info_of(*SIZE, FPS), IDENTIFIER, region=region).draw(planes_with(luma))
    rows, columns = np.nonzero(luma != 90)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (80, 120, 320, 240)


@pytest.mark.parametrize("box", [(0.2, 0.1, 0.72, 0.9), (0.12, 0.2, 0.88, 1.0)])
def test_detect_person_over_colour_returns_identifier(box: Box) -> None:
    """What the watermark marks is seen in an ellipse, as a person in front of another background."""
    info, region = info_of(*SIZE, FPS), region_around(box)
    mark = InvisibleWatermark(info, IDENTIFIER, flat_levels=MAX_LEVELS, region=region)
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]]
    x = (columns / SIZE[0] - (box[0] + box[2]) / 2) / (box[2] - box[0])
    y = (rows / SIZE[1] - (box[1] + box[3]) / 2) / (box[3] - box[1])
    outside = x**2 + y**2 > 0.25
    frames = []
    for number, luma in enumerate(unmarked_lumas(150)):
        mark.draw(planes_with(luma))
        luma[outside] = 120
        frames.append((luma, number / float(FPS)))
    assert detect_in_frames(frames).identifier == IDENTIFIER.hex()
