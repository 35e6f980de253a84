"""Segmentation of people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from media.output.dynamic_range import from_sdr_rgb, to_sdr_rgb
from media.probe import ColourTags, probe_video
from media.reader import FrameReader
from models.matting.person import PersonSegmenter
from tests.unit.media.clips import LIMITS


@pytest.mark.parametrize("transfer", [16, 18], ids=["pq", "hlg"])
def test_person_segmenter_hdr_equals_sdr(sample_video: Path, transfer: int) -> None:
    hdr = ColourTags(9, False, 9, transfer)
    info = probe_video(sample_video, LIMITS)
    with FrameReader(sample_video, info, cache_bytes=1) as reader:
        (frame,) = reader.read([0])
        segmenter = PersonSegmenter(num_threads=1)
        expected = segmenter(frame, info.colour)
        found = segmenter(from_sdr_rgb(to_sdr_rgb(frame, info.colour), hdr), hdr)
    assert np.abs(found - expected).mean() < 0.0035
