"""Synthesized speech in its slots: speed, pauses, cuts, and when it starts."""

from __future__ import annotations

import math
import wave
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from config import MediaLimits
from errors import MediaError, MediaLimitError
from media.audio import AudioTrack
from media.dubbing import MAX_SPEED, FittedSpeech, SpeechSlot, fit, fitted_speech, write_dub

RATE = 24000


def _voice(path: Path, seconds: float, silence: float = 0.0, rate: int = RATE) -> Path:
    """A tone of `seconds`, between silences."""
    tone = 0.5 * np.sin(2 * np.pi * 220 * np.arange(round(seconds * rate)) / rate)
    samples = np.pad(tone, round(silence * rate))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


def _dub(folder: Path, voices: list[Path], slots: list[SpeechSlot]) -> tuple[list[FittedSpeech], NDArray[np.float32]]:
    out = folder / "dub.flac"
    fits = fitted_speech(write_dub(voices, slots, out, MediaLimits()))
    track = AudioTrack(out, MediaLimits())
    samples = np.concatenate(list(track.blocks(RATE, "mono", "fltp")), axis=1)[0]
    track.close()
    return fits, samples


@pytest.mark.parametrize(
    ("seconds", "slot", "expected"),
    [
        (2.0, SpeechSlot(1, 4, 5), (1, 2, 0)),
        (3.6, SpeechSlot(1, 4, 5), (1.2, 3, 0)),
        (4.5, SpeechSlot(1, 4, 5), (MAX_SPEED, 4.5 / MAX_SPEED, 0)),
        (8.0, SpeechSlot(1, 4, 5), (MAX_SPEED, 4, 8 / MAX_SPEED - 4)),
        (8.0, SpeechSlot(1, None, math.inf), (1, 8, 0)),
        (4.4, SpeechSlot(1, None, 5), (1.1, 4, 0)),
    ],
)
def test_fit(seconds: float, slot: SpeechSlot, expected: tuple[float, float, float]) -> None:
    assert fit(seconds, slot) == pytest.approx(expected)


def test_silence_is_trimmed_and_speech_starts_with_its_slot(tmp_path: Path) -> None:
    voices = [_voice(tmp_path / "a.wav", 1.0, silence=0.4), _voice(tmp_path / "b.wav", 0.5, silence=0.3, rate=22050)]
    fits, samples = _dub(tmp_path, voices, [SpeechSlot(10, 12, 20), SpeechSlot(30, 31, 40)])
    assert [fitted.end for fitted in fits] == [12, 31]
    assert [fitted.audio_start for fitted in fits] == [0, 2]
    for fitted, seconds in zip(fits, (1.0, 0.5), strict=True):
        loud = np.flatnonzero(np.abs(samples[round(fitted.audio_start * RATE) :]) > 0.1) / RATE
        assert loud[0] < 0.04
        assert (fitted.speed, fitted.cut_seconds) == (1, 0)
        assert loud[np.diff(loud, append=math.inf) > 0.1][0] == pytest.approx(seconds, abs=0.03)
    assert len(samples) == 3 * RATE


def test_long_speech_is_faster_and_then_cut_with_a_fade(tmp_path: Path) -> None:
    voices = [_voice(tmp_path / "a.wav", 1.2), _voice(tmp_path / "b.wav", 3.0)]
    fits, samples = _dub(tmp_path, voices, [SpeechSlot(0, 1, 2), SpeechSlot(5, 6, 6.5)])
    assert fits[0].speed == pytest.approx(1.2, abs=0.03)
    assert fits[0].cut_seconds == 0
    assert fits[0].end == 1
    assert fits[1].speed == MAX_SPEED
    assert fits[1].end == 6.5
    assert fits[1].cut_seconds == pytest.approx(3 / MAX_SPEED - 1.5, abs=0.03)
    assert len(samples) == 2.5 * RATE
    assert np.abs(samples[-240:]).max() < 0.25 < np.abs(samples[-2400:-1200]).max()
    assert np.abs(np.diff(samples[-2400:])).max() < 0.06  # no click: the tone changes by at most 0.03 per sample


def test_silent_speech_is_kept_short(tmp_path: Path) -> None:
    fits, samples = _dub(tmp_path, [_voice(tmp_path / "a.wav", 0, silence=2)], [SpeechSlot(0, 1, 2)])
    assert fits == [FittedSpeech(0, 1, 1, 0)]
    assert len(samples) == RATE


def test_a_file_without_audio(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"no audio")
    with pytest.raises(MediaError, match="a.wav"):
        write_dub([tmp_path / "a.wav"], [SpeechSlot(0, 1, 2)], tmp_path / "out.flac", MediaLimits())


def test_too_much_speech(tmp_path: Path) -> None:
    voice, slot = _voice(tmp_path / "a.wav", 1), SpeechSlot(0, 40, 50)
    with pytest.raises(MediaLimitError, match="at most 60 s of speech"):
        write_dub([voice] * 2, [slot] * 2, tmp_path / "out.flac", MediaLimits(max_audio_seconds=60))
