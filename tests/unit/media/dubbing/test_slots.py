from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path
from struct import pack

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.media_files import write_wav
from lipwright.config import MediaLimits
from lipwright.errors import MediaError
from lipwright.media.audio import AudioTrack
from lipwright.media.dubbing.slots import RATE, DubWriter, FittedSpeech, SpeechSlot, fit, fit_speech
from lipwright.media.playback import MAX_SPEED
from tests.unit.media.clips import write_audio


def _voice(path: Path, seconds: float, silence: float = 0.0, rate: int = 24000) -> Path:
    """A tone of `seconds`, between silences."""
    tone = 0.5 * np.sin(2 * np.pi * 220 * np.arange(round(seconds * rate)) / rate)
    samples = np.pad(tone, round(silence * rate))
    return write_wav(path, (samples * 32767).astype(np.int16), rate)


def _fitted(path: Path, slot: SpeechSlot) -> FittedSpeech:
    return FittedSpeech.from_bytes(fit_speech(path, slot, MediaLimits()))


def _loud(fitted: FittedSpeech) -> NDArray[np.float64]:
    return np.flatnonzero(np.abs(fitted.samples.astype(int)) > 3000) / RATE


def test_fit_returns_speed_length_cut() -> None:
    slot = SpeechSlot(1, 4, 5)
    assert fit(2.0, slot) == pytest.approx((1, 2, 0))
    assert fit(3.6, slot) == pytest.approx((1.2, 3, 0))
    assert fit(4.5, slot) == pytest.approx((MAX_SPEED, 4.5 / MAX_SPEED, 0))
    assert fit(8.0, slot) == pytest.approx((MAX_SPEED, 4, 8 / MAX_SPEED - 4))
    assert fit(8.0, SpeechSlot(1, None, math.inf)) == pytest.approx((1, 8, 0))
    assert fit(4.4, SpeechSlot(1, None, 5)) == pytest.approx((1.1, 4, 0))


@pytest.mark.parametrize("rate", [22050, 24000, 48000])
def test_fit_speech_trims_silence_at_the_start(tmp_path: Path, rate: int) -> None:
    voice = _voice(tmp_path / "a.wav", 1.0, silence=0.4, rate=rate)
    fitted = _fitted(voice, SpeechSlot(10, 12, 20))
    assert (fitted.seconds, fitted.speed, fitted.cut_seconds) == (2, 1, 0)
    loud = _loud(fitted)
    assert loud[0] < 0.04
    assert loud[-1] == pytest.approx(1.0, abs=0.03)


def test_fit_speech_stereo_keeps_its_level(tmp_path: Path) -> None:
    tone = np.sin(2 * np.pi * 220 * np.arange(24000) / 24000, dtype=np.float32) * np.float32(0.9)
    voice = write_audio(tmp_path / "a.wav", np.stack([tone, tone]), 24000, "pcm_s16le", sample_format="s16")
    assert np.abs(_fitted(voice, SpeechSlot(0, 1, 2)).samples).max() == pytest.approx(0.9 * 32767, rel=0.01)


def test_fit_speech_long_speech_is_sped_up(tmp_path: Path) -> None:
    fitted = _fitted(_voice(tmp_path / "a.wav", 1.2), SpeechSlot(0, 1, 2))
    assert fitted.speed == pytest.approx(1.2, abs=0.03)
    assert (fitted.seconds, fitted.cut_seconds) == (1, 0)
    spectrum = np.abs(np.fft.rfft(fitted.samples))
    assert spectrum.argmax() == pytest.approx(220, abs=3)  # one bin per hertz


def test_fit_speech_too_long_is_cut_with_a_fade(tmp_path: Path) -> None:
    fitted = _fitted(_voice(tmp_path / "a.wav", 3.0), SpeechSlot(5, 6, 6.5))
    assert (fitted.speed, fitted.seconds) == (MAX_SPEED, 1.5)
    assert fitted.cut_seconds == pytest.approx(3 / MAX_SPEED - 1.5, abs=0.03)
    tail = fitted.samples[-4800:] / 32768
    assert np.abs(tail[-480:]).max() < 0.25 < np.abs(tail[:2400]).max()
    assert np.abs(np.diff(tail)).max() < 0.03  # no click: the tone changes by at most 0.015 per sample


def test_fit_speech_silence_fills_the_slot_and_no_audio_raises(tmp_path: Path) -> None:
    fitted = _fitted(_voice(tmp_path / "a.wav", 0, silence=2), SpeechSlot(0, 1, 2))
    assert (fitted.seconds, fitted.speed, fitted.cut_seconds) == (1, 1, 0)
    assert not fitted.samples.any()
    (tmp_path / "a.wav").write_bytes(b"no audio")
    with pytest.raises(MediaError, match="a.wav"):
        fit_speech(tmp_path / "a.wav", SpeechSlot(0, 1, 2), MediaLimits())


@pytest.mark.parametrize("content", [b"", b"x" * 25, bytes(26), pack("<ddd", math.nan, 0, 0), pack("<ddd", 1, 0, -1)])
def test_fitted_speech_from_other_bytes_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="expected"):
        FittedSpeech.from_bytes(content)


def test_dub_writer_file_has_all_slots(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-9000, 9000, (2, 50_000), dtype=np.int16)
    out = tmp_path / "dub.flac"
    with DubWriter(out) as writer:
        for part in samples:
            writer.write(part)
        assert writer.seconds == 100_000 / RATE
    with closing(AudioTrack(out, MediaLimits())) as track:
        found = np.concatenate(list(track.blocks(RATE, "mono", "s16p")), axis=1)[0]
    assert np.array_equal(found, samples.ravel())
