"""Parts of audio files, placed in time and mixed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from config import MediaLimits
from errors import MediaError
from media.audio import read_speech
from media.audio_parts import AudioPart, Blocks, SoundFormat, decoded, extract_parts, mixed_parts
from tests.unit.media.clips import noise, write_audio

RATE = 16000
MONO = SoundFormat(RATE, "mono")
LIMITS = MediaLimits()
_FADE = RATE // 100  # longer than the fade at the ends of a part


def _file(path: Path, samples: NDArray[np.floating]) -> Path:
    return write_audio(path, samples[np.newaxis].astype(np.float32), RATE, "pcm_f32le", sample_format="flt")


class _Opened:
    """Decodes files, and counts how often each is opened."""

    def __init__(self) -> None:
        self.paths: list[Path] = []

    def __call__(self, path: Path) -> Blocks:
        self.paths.append(path)
        return decoded(path, MONO, LIMITS)


def _mixed(parts: Sequence[AudioPart[Path]], opened: _Opened | None = None) -> NDArray[np.float32]:
    made: NDArray[np.float32] = np.concatenate(list(mixed_parts(parts, MONO, opened or _Opened())), axis=1)[0]
    return made


def test_mixed_parts_are_placed_in_time(tmp_path: Path) -> None:
    first, second = noise(2.0, RATE), noise(3.0, RATE, seed=2)
    files = _file(tmp_path / "a.wav", first), _file(tmp_path / "b.wav", second)
    made = _mixed([AudioPart(files[1], 2.0, 3.5, file_start=1.0), AudioPart(files[0], 0.25, 1.0)])
    expected = np.zeros(round(3.5 * RATE))
    expected[RATE // 4 : RATE] = first[: 3 * RATE // 4]
    expected[2 * RATE : 7 * RATE // 2] = second[RATE : 5 * RATE // 2]
    assert len(made) == len(expected)
    inside = np.ones(len(made), bool)
    for edge in (RATE // 4, RATE, 2 * RATE, 7 * RATE // 2):
        inside[max(edge - _FADE, 0) : edge + _FADE] = False
    np.testing.assert_allclose(made[inside], expected[inside], atol=1e-6)


def test_mixed_parts_gain_is_ignored_by_extract_parts(tmp_path: Path) -> None:
    file = _file(tmp_path / "a.wav", 0.1 * noise(1.0, RATE))
    plain, softer = AudioPart(file, 0.0, 1.0), AudioPart(file, 0.0, 1.0, gain_db=-20.0)
    np.testing.assert_allclose(_mixed([softer]), 0.1 * _mixed([plain]), atol=1e-6)
    np.testing.assert_allclose(_mixed([plain, softer]), 1.1 * _mixed([plain]), atol=1e-6)
    for name, part in (("plain", plain), ("softer", softer)):
        extract_parts([part], tmp_path / name, LIMITS, 1.0)
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "softer").read_bytes()


def test_mixed_parts_overlapping_are_added(tmp_path: Path) -> None:
    first, second = 0.4 * noise(2.0, RATE), 0.4 * noise(2.0, RATE, seed=2)
    files = _file(tmp_path / "a.wav", first), _file(tmp_path / "b.wav", second)
    made = _mixed([AudioPart(files[0]), AudioPart(files[1], 1.0)])
    assert len(made) == 3 * RATE
    np.testing.assert_allclose(made[RATE + _FADE : 2 * RATE], first[RATE + _FADE :] + second[_FADE:RATE], atol=1e-6)


def test_mixed_parts_shared_part_of_a_file_is_mixed_once(tmp_path: Path) -> None:
    samples = noise(3.0, RATE)
    file = _file(tmp_path / "a.wav", samples)
    made = _mixed([AudioPart(file, 0.5, 2.0, 0.5), AudioPart(file, 1.0, 2.5, 1.0)])
    np.testing.assert_allclose(
        made[RATE // 2 + _FADE : 5 * RATE // 2 - _FADE], samples[RATE // 2 + _FADE : 5 * RATE // 2 - _FADE], atol=1e-6
    )


def test_mixed_parts_of_many_turns_open_each_file_once(tmp_path: Path) -> None:
    files = _file(tmp_path / "a.wav", noise(4.0, RATE)), _file(tmp_path / "b.wav", noise(4.0, RATE, seed=2))
    opened = _Opened()
    turns = [AudioPart(files[number % 2], number / 10, number / 10 + 0.1, number / 10) for number in range(40)]
    _mixed(turns, opened)
    assert sorted(opened.paths) == sorted(files)


def test_mixed_parts_whole_or_out_of_order_are_unchanged(tmp_path: Path) -> None:
    samples = noise(2.0, RATE)
    file = _file(tmp_path / "a.wav", samples)
    np.testing.assert_array_equal(_mixed([AudioPart(file)]), samples.astype(np.float32))
    made = _mixed([AudioPart(file, 0.0, 1.0, 1.0), AudioPart(file, 1.0, 2.0, 0.0)])
    np.testing.assert_allclose(made[_FADE : RATE - _FADE], samples[RATE + _FADE : 2 * RATE - _FADE], atol=1e-6)
    np.testing.assert_allclose(made[RATE + _FADE : -_FADE], samples[_FADE : RATE - _FADE], atol=1e-6)


def test_mixed_parts_fade_at_their_ends(tmp_path: Path) -> None:
    file = _file(tmp_path / "a.wav", np.full(2 * RATE, 0.5))
    made = _mixed([AudioPart(file, 0.5, 1.5, 0.25)])
    assert np.abs(np.diff(made)).max() < 0.5 / 40


def test_extract_parts_have_the_length_of_the_video(tmp_path: Path) -> None:
    samples = noise(1.0, RATE)
    file = _file(tmp_path / "a.wav", samples)
    info = extract_parts([AudioPart(file, 1.0, 1.5)], tmp_path / "s.npy", LIMITS, 3.0)
    assert info.duration_seconds == 3.0
    made = read_speech(tmp_path / "s.npy", 0, 4)
    np.testing.assert_allclose(
        made[RATE + _FADE : 3 * RATE // 2 - _FADE], samples[_FADE : RATE // 2 - _FADE], atol=1e-4
    )
    assert not made[:RATE].any() and not made[3 * RATE // 2 :].any()
    assert extract_parts([AudioPart(file, 1.0)], tmp_path / "s.npy", LIMITS, 1.5).duration_seconds == 1.5


def test_extract_parts_file_without_audio_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("hello")
    with pytest.raises(MediaError, match=r"text\.wav"):
        extract_parts([AudioPart(tmp_path / "text.wav", 1.0)], tmp_path / "s.npy", LIMITS, 3.0)
