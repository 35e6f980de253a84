"""Detects the watermark in a video of any origin, without metadata."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lipwright.config import MediaLimits
from lipwright.media.probe import probe_video
from lipwright.media.reader import FrameReader
from lipwright.media.watermark.code import FALSE_POSITIVE_RATE, decode, encode
from lipwright.media.watermark.embedder import NUM_SLOTS, Pattern, public_pattern, slot_of
from lipwright.media.watermark.observation import NO_ZOOM, NUM_PHASES, Observation
from lipwright.media.watermark.search import ZOOMS, GridSearch, aligned_cells

MAX_SECONDS: Final = 60.0
"""How much of a video is examined, from its start."""
_SPAN_SECONDS: Final = 20.0
"""Parts of this length are also examined separately, in case the video was cut."""
_MAX_FPS: Final = 30.0
"""More frames per second are not measured."""
NUM_CANDIDATES: Final = 16
"""Alignments of cropped, scaled and padded frames that are decoded."""
_MAX_PIXELS: Final = 1920 * 1080 * 30 * 60
"""Of all frames together: of larger frames, fewer are examined."""
_READER_CACHE_BYTES: Final = 64 * 1024**2


@dataclass(frozen=True)
class Detection:
    """Result of a search for the watermark.

    Attributes:
        identifier: What it carries, hexadecimal; empty if no watermark was found.
        confidence: Share of the coded bits that were received without error, before error correction; 0 if no
            watermark was found.
        false_positive_rate: Upper bound of the probability that a video without a watermark gives a result.
        start_seconds: Start of the part of the video in which it was found.
        end_seconds: End of it.
        others: Further identifiers in the same part: those of a marked video that was used as a source.
    """

    identifier: str = ""
    confidence: float = 0.0
    false_positive_rate: float = 0.0
    start_seconds: float = 0.0
    end_seconds: float = 0.0
    others: tuple[str, ...] = ()


def detect_watermark(path: Path, limits: MediaLimits) -> Detection:
    """Search the first MAX_SECONDS of a video.

    Raises:
        MediaError: It is not a video that can be decoded.
        MediaLimitError: It exceeds a limit.
    """
    info = probe_video(path, limits)
    step = max(1, round(float(info.fps) / _MAX_FPS))
    max_frames = min(MAX_SECONDS * float(info.fps), _MAX_PIXELS * step / (info.width * info.height))
    indices = range(0, min(info.num_frames, int(max_frames)), step)
    with FrameReader(path, info, _READER_CACHE_BYTES, limits=limits) as reader:
        lumas = (planes.y for planes in reader.read(indices))
        return detect_in_frames(zip(lumas, (index / float(info.fps) for index in indices), strict=True))


def detect_in_frames(frames: Iterable[tuple[NDArray[np.uint8], float]], pattern: Pattern | None = None) -> Detection:
    """Search frames.

    Args:
        frames: (H, W) luma and time in seconds from the first frame, in order.
        pattern: The pattern of a key; by default the public one.
    """
    seen = Observation()
    for luma, seconds in frames:
        seen.add(luma, seconds)
    return search_observation(seen, pattern or public_pattern())


def search_observation(seen: Observation, pattern: Pattern) -> Detection:
    """Search what was measured: complete frames first, then cropped, scaled and padded ones."""
    spans = seen.spans(_SPAN_SECONDS)
    # Each candidate is one chance of a false positive; of its NUM_SLOTS decoded words, one in NUM_SLOTS fits its slot.
    rate = len(spans) * (2 * NUM_PHASES + NUM_CANDIDATES) * FALSE_POSITIVE_RATE
    for span, cells in candidates(pattern, seen, spans):
        if found := read_identifiers(pattern, cells):
            best, *others = sorted(found, key=lambda identifier: -found[identifier])
            names = tuple(other.hex() for other in others)
            return Detection(best.hex(), found[best], rate, *seen.seconds_of(span), names)
    return Detection(false_positive_rate=rate)


def read_identifiers(pattern: Pattern, cells: NDArray[np.float32]) -> dict[bytes, float]:
    """Return the identifiers in (B, NUM_CELLS, NUM_CELLS) measured cells with their confidence."""
    found: dict[bytes, float] = {}
    for slot in range(NUM_SLOTS):
        soft = pattern.soft_bits(cells, slot)
        for bits, identifier in zip(soft, decode(soft), strict=True):
            if identifier is not None and slot_of(identifier) == slot:
                confidence = float(np.mean((bits < 0) == encode(identifier)))
                found[identifier] = max(confidence, found.get(identifier, 0.0))
    return found


def candidates(pattern: Pattern, seen: Observation, spans: list[range]) -> Iterator[tuple[range, NDArray[np.float32]]]:
    """Yield spans with the (B, NUM_CELLS, NUM_CELLS) cells of the most promising alignments."""
    search, changing = GridSearch(pattern), []
    for span in spans:
        fields = {NO_ZOOM: seen.fields(span)}
        if fields[NO_ZOOM].any():  # else it is too short, or nothing changes
            changing.append(span)
            yield span, aligned_cells(fields, search.unmoved(fields[NO_ZOOM]))
    for span in changing:
        fields = {zoom: seen.fields(span, zoom) for zoom in ZOOMS}
        yield span, aligned_cells(fields, search.moved(fields, NUM_CANDIDATES))
