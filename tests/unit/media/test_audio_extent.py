"""The upload check measures the length of audio in packets, not by what the header claims."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from config import MediaLimits
from errors import MediaError, MediaLimitError
from media.audio import extract_speech
from media.audio_extent import PROBE_TOLERANCE_SECONDS, AudioExtent
from media.probe import probe_audio
from tests.unit.media.bombs import write_chained_ogg, write_sound_with_gap
from tests.unit.media.clips import LIMITS, noise, write_audio
from tests.unit.media.test_audio import CODECS

SECONDS = 2.3


@pytest.mark.parametrize("name", CODECS)
def test_probe_audio_length_is_the_decoded_one(tmp_path: Path, name: str) -> None:
    """Padding does not count, and nothing is accepted that fails later, when it is decoded."""
    file, codec, rate, options = CODECS[name]
    path = write_audio(tmp_path / file, noise(SECONDS, rate)[None], rate, codec, **options)
    probe_audio(path, MediaLimits(max_audio_seconds=SECONDS))
    counted = probe_audio(path, LIMITS).duration_seconds
    assert counted == pytest.approx(SECONDS, abs=0.06)
    shortest = MediaLimits(max_audio_seconds=counted - PROBE_TOLERANCE_SECONDS + 0.06)  # padding of MP3
    probe_audio(path, shortest)
    extract_speech(path, tmp_path / "s.npy", shortest)
    with pytest.raises(MediaLimitError, match="of audio, found 2.3"):
        probe_audio(path, MediaLimits(max_audio_seconds=SECONDS - 0.5))


@pytest.mark.parametrize(("file", "codec"), [("gap.mka", "libopus"), ("gap.m4a", "aac"), ("gap.mkv", "aac")])
def test_probe_audio_long_gap_is_refused(tmp_path: Path, file: str, codec: str) -> None:
    path = write_sound_with_gap(tmp_path / file, 10_200, codec)
    with pytest.raises(MediaLimitError, match=r"^gap\.m..: expected at most 30\d s of gaps .* found 1\d+ s"):
        probe_audio(path, LIMITS)
    with pytest.raises(MediaLimitError, match="of gaps"):  # decoding all of it says the same
        extract_speech(path, tmp_path / "s.npy", LIMITS)
    assert probe_audio(path, MediaLimits(max_frozen_seconds=10_800)).duration_seconds == pytest.approx(10_201, abs=0.1)


@pytest.mark.parametrize(("file", "gap_seconds"), [("gap.ogg", 10_200), ("pause.mka", 60)])
def test_probe_audio_gap_counts_as_when_decoded(tmp_path: Path, file: str, gap_seconds: float) -> None:
    path = write_sound_with_gap(tmp_path / file, gap_seconds, "libopus")
    found = probe_audio(path, LIMITS).duration_seconds
    assert found == pytest.approx(extract_speech(path, tmp_path / "s.npy", LIMITS).duration_seconds, abs=0.1)
    if file == "pause.mka":
        assert found == pytest.approx(61, abs=0.1)


def test_audio_extent_allows_gaps_as_long_as_the_audio() -> None:
    extent = AudioExtent()
    extent.add(900.0, 0.0)
    assert extent.gap_seconds == 900
    for second in range(600):
        extent.add(900.0 + second, 1.0)
    extent.check("talk.mka", LIMITS)
    with pytest.raises(MediaLimitError):
        extent.check("talk.mka", MediaLimits(max_frozen_seconds=200))


def test_probe_audio_chained_ogg_that_changes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"^changes\.ogg: expected audio of one rate and layout"):
        probe_audio(write_chained_ogg(tmp_path / "changes.ogg"), LIMITS)
    same = write_chained_ogg(tmp_path / "same.ogg", (1, 1))
    assert probe_audio(same, LIMITS).duration_seconds == pytest.approx(1.2, abs=0.06)
    extract_speech(same, tmp_path / "s.npy", LIMITS)
    assert len(np.load(tmp_path / "s.npy", mmap_mode="r")) == pytest.approx(1.2 * 16000, abs=200)
