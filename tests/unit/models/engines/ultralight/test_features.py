from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from models.engines.protocol import FrameSpan
from models.engines.ultralight.audio import UltralightFeatures, frame_rows, num_job_samples, wanted_ids
from models.engines.ultralight.variants import AudioKind, Variant


def make_heard(audio_kind: AudioKind, span: FrameSpan, num_rows: int) -> UltralightFeatures:
    """Rows that hold their own number plus one, so that zeros are what is not there."""
    ids = wanted_ids(audio_kind, span, num_rows)
    width = 1024 if audio_kind == "hubert" else 16 * 512
    rows = np.repeat((ids + 1).astype(np.float32)[:, None], width, 1)
    return UltralightFeatures(audio_kind, frame_rows(audio_kind, span), ids, rows, np.ones(span.num, np.float32))


@pytest.mark.parametrize("frame", [0, 3, 4, 50, 97, 99])
def test_hubert_windows_at_25_fps_equal_published(frame: int) -> None:
    """features[i - 4 : i + 4] of (T, 2, 1024) with zeros beyond the ends, reshaped to (16, 32, 32)."""
    features = np.repeat(np.arange(1, 201, dtype=np.float32)[:, None], 1024, 1).reshape(100, 2, 1024)
    padded = np.concatenate([np.zeros((4, 2, 1024)), features, np.zeros((4, 2, 1024))])
    span = FrameSpan(Fraction(25), frame, 1, 100)
    got = make_heard("hubert", span, 200).windows(Variant("hubert"))
    assert np.array_equal(got[0], padded[frame : frame + 8].reshape(16, 32, 32))


def test_windows_of_older_variant_have_16_frames() -> None:
    span = FrameSpan(Fraction(25), 30, 1, 100)
    got = make_heard("hubert", span, 200).windows(Variant("hubert", 16))
    assert got.shape == (1, 32, 32, 32)
    assert got[0, :, 0, 0].tolist() == list(range(2 * 22 + 1, 2 * 38 + 1))


@pytest.mark.parametrize("frame", [0, 5, 38, 39])
def test_wenet_windows_at_20_fps_equal_published(frame: int) -> None:
    """Chunk i starts at frame 5 i of the filter bank; features[i - 4 : i + 4] of (T, 16, 512)."""
    chunks = np.repeat(np.arange(40, dtype=np.float32)[:, None] * 5 + 1, 16 * 512, 1).reshape(40, 16, 512)
    padded = np.concatenate([np.zeros((4, 16, 512)), chunks, np.zeros((4, 16, 512))])
    span = FrameSpan(Fraction(20), frame, 1, 40)
    got = make_heard("wenet", span, 200).windows(Variant("wenet"))
    assert np.array_equal(got[0], padded[frame : frame + 8].reshape(128, 16, 32))


def test_frame_rows_other_rates_keep_time() -> None:
    """After an hour at 29.97 fps the middle of the window still lies within half a row of the frame."""
    span = FrameSpan(Fraction(30000, 1001), 107_892, 3, 200_000)
    for audio_kind, per_second in (("hubert", 50), ("wenet", 100)):
        rows = frame_rows(audio_kind, span)  # type: ignore[arg-type]
        seconds = [float(frame / span.fps) for frame in range(span.first, span.stop)]
        assert np.abs(rows / per_second - seconds).max() <= 0.5 / per_second


def test_features_slice_keeps_windows_with_fewer_rows() -> None:
    heard = make_heard("hubert", FrameSpan(Fraction(30), 40, 60, 200), 400)
    part = heard.slice(20, 24)
    for variant in (Variant("hubert"), Variant("hubert", 16)):
        assert np.array_equal(part.windows(variant), heard.windows(variant)[20:24])
    assert len(part.rows) < len(heard.rows) / 2
    assert not np.shares_memory(part.rows, heard.rows)


def test_windows_without_rows_are_zero() -> None:
    heard = make_heard("hubert", FrameSpan(Fraction(25), 50, 2, 52), 0)
    assert not heard.windows(Variant("hubert")).any()


def test_num_job_samples_ends_with_last_frame() -> None:
    assert num_job_samples(100, FrameSpan(Fraction(25), 0, 1, 2), 16_000) == 1280
    assert num_job_samples(5000, FrameSpan(Fraction(25), 0, 1, 2), 16_000) == 5000
