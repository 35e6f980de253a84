from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from media.audio_parts import AudioPart, SoundFormat
from media.result.sound_mix import ResultSound, SoundSettings
from tests.unit.media.clips import lag_seconds, noise, write_audio

RATE = 16000
MONO = SoundFormat(RATE, "mono")
_FRAME = RATE // 25


def _tone(seconds: float, hertz: float, amplitude: float) -> NDArray[np.float32]:
    phases = 2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE
    return np.asarray(amplitude * np.sin(phases), np.float32)


def _file(path: Path, samples: NDArray[np.float32]) -> Path:
    return write_audio(path, samples[np.newaxis], RATE, "pcm_f32le", sample_format="flt")


def _made(sound: ResultSound, num_samples: int) -> NDArray[np.float32]:
    made: NDArray[np.float32] = np.concatenate(list(sound.blocks(MONO, num_samples, _FRAME)), axis=1)[0]
    return made


def _level_db(samples: NDArray[np.float32], hertz: float) -> float:
    """Level of one frequency, in dB relative to a sine of amplitude 1."""
    window = np.hanning(len(samples))
    carrier = np.exp(-2j * np.pi * hertz * np.arange(len(samples)) / RATE)
    return float(20 * np.log10(2 * abs((samples * window * carrier).sum()) / window.sum()))


def test_result_sound_default_is_the_speech_then_silence(tmp_path: Path) -> None:
    speech = noise(1.0, RATE).astype(np.float32)
    sound = ResultSound([AudioPart(_file(tmp_path / "speech.wav", speech))])
    np.testing.assert_array_equal(_made(sound, RATE + _FRAME - 1), speech)
    np.testing.assert_array_equal(_made(sound, 3 * RATE), np.pad(speech, (0, 2 * RATE)))


@pytest.mark.parametrize("amplitude", [0.3, 0.02])
def test_result_sound_speech_of_any_level_ducks_the_background(amplitude: float, tmp_path: Path) -> None:
    speech = np.pad(_tone(2.0, 440, amplitude), (2 * RATE, 2 * RATE))
    background = _tone(6.0, 1000, 0.2)
    files = _file(tmp_path / "speech.wav", speech), _file(tmp_path / "video.wav", background)
    made = _made(ResultSound([AudioPart(files[0])], SoundSettings(-6.0), files[1]), 6 * RATE)
    assert len(made) == 6 * RATE
    expected = 20 * np.log10(0.2) - 6
    assert _level_db(made[RATE : 2 * RATE], 1000) == pytest.approx(expected, abs=0.2)
    assert _level_db(made[5 * RATE :], 1000) == pytest.approx(expected, abs=0.2)
    assert expected - 17 < _level_db(made[round(2.5 * RATE) : 4 * RATE], 1000) < expected - 13
    assert _level_db(made[round(2.5 * RATE) : 4 * RATE], 440) == pytest.approx(20 * np.log10(amplitude), abs=0.2)


def test_result_sound_changed_speech_changes_the_mix_near_it(tmp_path: Path) -> None:
    speech, background = _tone(20.0, 440, 0.3), _file(tmp_path / "video.wav", noise(20.0, RATE).astype(np.float32))
    changed = speech.copy()
    changed[8 * RATE : 10 * RATE] *= 0.8
    made = [
        _made(
            ResultSound([AudioPart(_file(tmp_path / "speech.wav", each))], SoundSettings(-12.0), background), 20 * RATE
        )
        for each in (speech, changed)
    ]
    seconds = np.flatnonzero(made[0] != made[1]) / RATE
    assert 7.99 < seconds.min() < 8.1 and 9.9 < seconds.max() < 18


def test_result_sound_mixing_does_not_delay(tmp_path: Path) -> None:
    speech = 0.3 * noise(3.0, RATE).astype(np.float32)
    files = _file(tmp_path / "speech.wav", speech), _file(tmp_path / "video.wav", _tone(3.0, 1000, 0.01))
    made = _made(ResultSound([AudioPart(files[0])], SoundSettings(0.0, -20.0), files[1]), 3 * RATE)
    assert lag_seconds(made, speech, RATE) == pytest.approx(0, abs=1 / RATE)


def test_result_sound_short_background_repeats_smoothly(tmp_path: Path) -> None:
    background = _tone(0.51, 333, 0.5)  # does not end where it began
    files = _file(tmp_path / "speech.wav", np.zeros(RATE, np.float32)), _file(tmp_path / "video.wav", background)
    made = _made(ResultSound([AudioPart(files[0])], SoundSettings(0.0), files[1]), 4 * RATE)
    assert len(made) == 4 * RATE
    assert np.abs(np.diff(made)).max() <= 1.05 * np.abs(np.diff(background)).max()
    assert np.sqrt(np.square(made[3 * RATE :]).mean()) > 0.3


@pytest.mark.parametrize("seconds", [5.0, 5.04], ids=["whole steps of the meter", "a part of a step"])
def test_result_sound_has_the_requested_loudness(seconds: float, tmp_path: Path) -> None:
    speech = _file(tmp_path / "speech.wav", _tone(seconds, 997, 0.02))
    made = _made(ResultSound([AudioPart(speech)], SoundSettings(None, -20.0)), round(seconds * RATE))
    # ITU-R BS.1770: a full-scale sine of 997 Hz in one channel has -3.01 LUFS.
    assert _level_db(made[RATE : 4 * RATE], 997) == pytest.approx(-20 + 3.01, abs=0.3)


def test_result_sound_does_not_clip_or_amplify_silence(tmp_path: Path) -> None:
    silent = _file(tmp_path / "silent.wav", np.zeros(2 * RATE, np.float32))
    assert not _made(ResultSound([AudioPart(silent)], SoundSettings(None, -20.0)), 2 * RATE).any()
    files = _file(tmp_path / "speech.wav", _tone(2.0, 300, 0.9)), _file(tmp_path / "video.wav", _tone(2.0, 310, 0.9))
    made = _made(ResultSound([AudioPart(files[0])], SoundSettings(12.0, -9.0), files[1]), 2 * RATE)
    assert np.abs(made).max() <= 0.9


def test_native_format_covers_both_files(tmp_path: Path) -> None:
    speech = _file(tmp_path / "speech.wav", _tone(0.5, 300, 0.5))
    film = write_audio(
        tmp_path / "film.wav", np.stack([noise(0.5, 48000)] * 2), 48000, "pcm_s16le", sample_format="s16"
    )
    assert ResultSound([AudioPart(speech)], SoundSettings(), film).native_format() == (RATE, 1)
    assert ResultSound([AudioPart(speech)], SoundSettings(-6.0), film).native_format() == (48000, 2)


def test_result_sound_keeps_source_between_turns(tmp_path: Path) -> None:
    files = _file(tmp_path / "speech.wav", _tone(2.0, 440, 0.3)), _file(tmp_path / "video.wav", _tone(6.0, 1000, 0.2))
    parts = [AudioPart(files[0], 1.0, 2.0), AudioPart(files[0], 2.02, 3.0), AudioPart(files[0], 4.5, 5.0)]
    made = _made(ResultSound(parts, SoundSettings(keeps_source=True), files[1]), 6 * RATE)
    quiet, heard = (slice(round(1.1 * RATE), round(2.9 * RATE)), slice(round(3.1 * RATE), round(4.4 * RATE)))
    assert _level_db(made[quiet], 1000) < -60
    for stretch in (slice(0, round(0.9 * RATE)), heard, slice(round(5.1 * RATE), 6 * RATE)):
        assert _level_db(made[stretch], 1000) == pytest.approx(20 * np.log10(0.2), abs=0.1)
        assert _level_db(made[stretch], 440) < -60
    under = _made(ResultSound(parts, SoundSettings(-20.0, keeps_source=True), files[1]), 6 * RATE)
    assert -20 - 16 - 14 < _level_db(under[quiet], 1000) < -20 - 13
    assert np.abs(np.diff(made)).max() < 0.3


def test_result_sound_music_is_ducked_and_repeats(tmp_path: Path) -> None:
    speech = np.pad(_tone(2.0, 440, 0.3), (2 * RATE, 2 * RATE))
    files = _file(tmp_path / "speech.wav", speech), _file(tmp_path / "music.wav", _tone(1.5, 1000, 0.2))
    made = _made(ResultSound([AudioPart(files[0])], SoundSettings(music_gain_db=-6.0), music=files[1]), 6 * RATE)
    expected = 20 * np.log10(0.2) - 6
    for stretch in (slice(RATE // 4, RATE), slice(round(4.8 * RATE), round(5.8 * RATE))):
        assert _level_db(made[stretch], 1000) == pytest.approx(expected, abs=0.3)
    assert expected - 16 < _level_db(made[round(3.1 * RATE) : round(3.9 * RATE)], 1000) < expected - 8
    assert _level_db(made[round(2.5 * RATE) : 4 * RATE], 440) == pytest.approx(20 * np.log10(0.3), abs=0.2)


def test_result_sound_music_and_source_are_mixed(tmp_path: Path) -> None:
    parts = [AudioPart(_file(tmp_path / "speech.wav", _tone(1.0, 440, 0.3)), 1.0, 2.0)]
    film, music = (
        _file(tmp_path / "film.wav", _tone(4.0, 1000, 0.2)),
        _file(tmp_path / "music.wav", _tone(4.0, 700, 0.2)),
    )
    settings = SoundSettings(keeps_source=True, music_gain_db=-12.0)
    made = _made(ResultSound(parts, settings, film, music), 4 * RATE)
    after, during = slice(3 * RATE, 4 * RATE), slice(round(1.4 * RATE), round(1.9 * RATE))
    assert _level_db(made[after], 1000) == pytest.approx(20 * np.log10(0.2), abs=0.2)
    assert _level_db(made[after], 700) == pytest.approx(20 * np.log10(0.2) - 12, abs=0.3)
    assert _level_db(made[during], 1000) < -55
    assert _level_db(made[during], 700) < 20 * np.log10(0.2) - 20
