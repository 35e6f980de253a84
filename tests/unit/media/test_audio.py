from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.config import MediaLimits
from lipwright.errors import MediaError, MediaLimitError
from lipwright.media.audio import SPEECH_SAMPLE_RATE, extract_speech, num_output_frames
from lipwright.media.audio_extent import PROBE_TOLERANCE_SECONDS, AudioExtent
from lipwright.media.audio_parts import AudioPart, Blocks, SoundFormat, decoded, extract_parts, mixed_parts
from lipwright.media.probe import probe_audio
from tests.unit.media.clips import (
    LIMITS,
    lag_seconds,
    noise,
    read_speech,
    wav,
    write_audio,
    write_chained_ogg,
    write_sound_with_gap,
)

SECONDS = 2.3
CODECS: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "wav": ("a.wav", "pcm_s16le", 44100, {"sample_format": "s16"}),
    "wav-float": ("a.wav", "pcm_f32le", 22050, {"sample_format": "flt"}),
    "wav-24-bit": ("a.wav", "pcm_s24le", 96000, {"sample_format": "s32"}),
    "mp3": ("a.mp3", "libmp3lame", 44100, {}),
    "m4a": ("a.m4a", "aac", 44100, {}),
    "m4a-16k": ("a.m4a", "aac", 16000, {}),
    "flac": ("a.flac", "flac", 48000, {"sample_format": "s16"}),
    "opus": ("a.opus", "libopus", 48000, {"sample_format": "flt", "container_format": "ogg"}),
    "ogg-flac": ("a.ogg", "flac", 44100, {"sample_format": "s16"}),
    "webm": ("a.webm", "libopus", 48000, {"sample_format": "flt"}),
}


@pytest.mark.parametrize(("name", "channels"), list(zip(CODECS, cycle((1, 2)), strict=False)))
def test_extract_speech_keeps_time_length_and_loudness(tmp_path: Path, name: str, channels: int) -> None:
    file, codec, rate, options = CODECS[name]
    path = write_audio(tmp_path / file, np.stack([noise(SECONDS, rate)] * channels), rate, codec, **options)
    info = extract_speech(path, tmp_path / "s.npy", LIMITS)
    assert (info.sample_rate, info.num_channels) == (rate, channels)
    assert info.duration_seconds == pytest.approx(SECONDS, abs=1e-4)
    speech = read_speech(tmp_path / "s.npy", 0.0, SECONDS)
    expected = noise(SECONDS, SPEECH_SAMPLE_RATE)
    assert speech.dtype == np.float32 and len(speech) == round(SECONDS * SPEECH_SAMPLE_RATE)
    assert lag_seconds(speech, expected, SPEECH_SAMPLE_RATE) == pytest.approx(0, abs=2e-4)
    assert speech.std() == pytest.approx(expected.std(), rel=0.08)
    # Padding does not count, and nothing is accepted that fails later, when it is decoded.
    probe_audio(path, MediaLimits(max_audio_seconds=SECONDS))
    counted = probe_audio(path, LIMITS).duration_seconds
    assert counted == pytest.approx(SECONDS, abs=0.06)
    shortest = MediaLimits(max_audio_seconds=counted - PROBE_TOLERANCE_SECONDS + 0.06)  # padding of MP3
    probe_audio(path, shortest)
    extract_speech(path, tmp_path / "s.npy", shortest)
    with pytest.raises(MediaLimitError, match="of audio, found 2.3"):
        probe_audio(path, MediaLimits(max_audio_seconds=SECONDS - 0.5))


@pytest.mark.parametrize("file", ["late.m4a", "late.mkv"])
def test_extract_speech_late_start_is_preceded_by_silence(tmp_path: Path, file: str) -> None:
    path = write_audio(tmp_path / file, noise(SECONDS, 48000)[None], 48000, "aac", start_seconds=0.5)
    speech = _speech_of(path)
    assert np.abs(speech[: round(0.45 * SPEECH_SAMPLE_RATE)]).max() < 1e-3
    assert lag_seconds(speech, noise(SECONDS, 16000), 16000) == pytest.approx(0.5, abs=2e-3)


def test_extract_speech_drops_nan_and_infinity(tmp_path: Path) -> None:
    samples = noise(1.0, 16000)
    samples[5000:5100], samples[9000] = np.nan, np.inf
    speech = _speech_of(write_audio(tmp_path / "a.wav", samples[None], 16000, "pcm_f32le", sample_format="flt"))
    assert np.abs(speech - np.nan_to_num(samples, nan=0.0, posinf=0.0)).max() < 1e-3


def test_extract_speech_too_long_or_empty_is_refused(tmp_path: Path) -> None:
    wav = write_audio(tmp_path / "a.wav", noise(2.0, 16000)[None], 16000, "pcm_s16le", sample_format="s16")
    with pytest.raises(MediaLimitError, match=r"a\.wav: expected at most 1 s"):
        extract_speech(wav, tmp_path / "s.npy", MediaLimits(max_audio_seconds=1.0))
    wav.write_bytes(wav.read_bytes()[: wav.read_bytes().index(b"data") + 4] + bytes(4))
    with pytest.raises(MediaError, match=r"a\.wav: expected"):
        extract_speech(wav, tmp_path / "s.npy", LIMITS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav"]


def test_num_output_frames_rounds_up() -> None:
    for fps, expected in (
        (Fraction(25), {10.0: 250, 10.0 + 1e-9: 250, 10.001: 251, 0.00001: 1, 160001 / 16000: 251}),
        (Fraction(10), {0.1 + 0.2: 3}),
        (Fraction(30000, 1001), {1.001: 30, 3600.0: 107893}),
    ):
        assert {seconds: num_output_frames(seconds, fps) for seconds in expected} == expected


def _speech_of(path: Path) -> NDArray[np.float32]:
    info = extract_speech(path, path.with_suffix(".npy"), LIMITS)
    assert sorted(other.name for other in path.parent.iterdir()) == sorted([path.name, path.with_suffix(".npy").name])
    return read_speech(path.with_suffix(".npy"), 0.0, info.duration_seconds)


@pytest.mark.parametrize(("left", "right"), [(1.0, -1.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_extract_speech_mixes_channels_without_cancelling(tmp_path: Path, left: float, right: float) -> None:
    voice = noise(1.0, 16000)
    channels = np.stack([left * voice, right * voice])
    heard = _speech_of(write_audio(tmp_path / "a.wav", channels, 16000, "pcm_s16le", sample_format="s16"))
    assert np.corrcoef(heard, voice)[0, 1] > 0.999
    assert heard.std() == pytest.approx(voice.std() * (abs(left) + abs(right)) / 2, rel=0.02)


def test_extract_speech_adds_two_talkers_and_keeps_silence(tmp_path: Path) -> None:
    channels = np.stack([noise(1.0, 16000, seed=1), noise(1.0, 16000, seed=2)])
    for factor in (0, 1):
        path = write_audio(tmp_path / "a.wav", factor * channels, 16000, "pcm_s16le", sample_format="s16")
        assert np.abs(_speech_of(path) - factor * channels.mean(0)).max() < 1e-3 * factor + 1e-9


def test_extract_speech_removes_a_constant_offset(tmp_path: Path) -> None:
    voice = noise(2.0, 16000) * 0.3
    voice[16000:24000] = 0.0
    heard = _speech_of(write_audio(tmp_path / "a.wav", voice[None] + 0.45, 16000, "pcm_s16le", sample_format="s16"))
    assert np.abs(heard[17600:24000]).max() < 1e-3
    assert np.corrcoef(heard, voice)[0, 1] > 0.99
    assert heard.std() == pytest.approx(voice.std(), rel=0.05)


def test_probe_audio_channels_without_a_layout_are_refused(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", noise(0.5, 16000)[None], 16000, "pcm_s16le", sample_format="s16")
    header = bytearray(path.read_bytes())
    header[22:24], header[32:34] = (40).to_bytes(2, "little"), (80).to_bytes(2, "little")  # channels, bytes of a block
    path.write_bytes(header)
    with pytest.raises(MediaError, match=r"a\.wav: expected mono, stereo .* found 40 channels"):
        probe_audio(path, LIMITS)
    with pytest.raises(MediaError, match="found 40 channels"):
        extract_speech(path, tmp_path / "s.npy", LIMITS)
    assert [other.name for other in tmp_path.iterdir()] == ["a.wav"]


def test_extract_speech_64_bit_pcm_equals_16_bit(tmp_path: Path) -> None:
    samples, path, speech = noise(1.0, 16000).astype(np.float64), tmp_path / "speech.wav", {}
    for bits in (16, 64):
        scaled = np.round(samples * 2.0 ** (bits - 1)).astype(f"<i{bits // 8}")
        path.write_bytes(wav(scaled.tobytes(), bits=bits))
        assert probe_audio(path, LIMITS).codec == f"pcm_s{bits}le"
        speech[bits] = _speech_of(path)
        assert sum(block.shape[1] for block in decoded(path, SoundFormat(48000, "stereo"), LIMITS)) == 48000
    assert len(speech[64]) == 16000
    np.testing.assert_allclose(speech[64], speech[16], atol=2 / 32768)


def test_extract_speech_speed_keeps_the_pitch(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(4 * 44100) / 44100).astype(np.float32)
    path = write_audio(tmp_path / "a.wav", tone[None], 44100, "pcm_s16le", sample_format="s16")
    info = extract_speech(path, tmp_path / "speech.npy", LIMITS, speed=1.25)
    samples = np.load(tmp_path / "speech.npy")
    assert info.duration_seconds == pytest.approx(3.2)
    assert len(samples) == pytest.approx(3.2 * 16000, abs=1)
    assert np.abs(np.fft.rfft(samples)).argmax() / 3.2 == pytest.approx(440, abs=3)


@pytest.mark.parametrize(("file", "codec"), [("gap.mka", "libopus"), ("gap.m4a", "aac"), ("gap.mkv", "aac")])
def test_probe_audio_long_gap_is_refused(tmp_path: Path, file: str, codec: str) -> None:
    path = write_sound_with_gap(tmp_path / file, 400, codec)
    with pytest.raises(MediaLimitError, match=r"^gap\.m..: expected at most 30\d s of gaps .* found \d{3} s"):
        probe_audio(path, LIMITS)
    with pytest.raises(MediaLimitError, match="of gaps"):  # decoding all of it says the same
        extract_speech(path, tmp_path / "s.npy", LIMITS)
    assert probe_audio(path, MediaLimits(max_frozen_seconds=600)).duration_seconds == pytest.approx(401, abs=0.1)


@pytest.mark.parametrize(("file", "gap_seconds"), [("gap.ogg", 400), ("pause.mka", 60)])
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


RATE = 16000
MONO = SoundFormat(RATE, "mono")
_FADE = RATE // 100  # longer than the fade at the ends of a part


def _file(path: Path, samples: NDArray[np.floating]) -> Path:
    return write_audio(path, samples[np.newaxis].astype(np.float32), RATE, "pcm_f32le", sample_format="flt")


def _mixed(parts: Sequence[AudioPart[Path]]) -> NDArray[np.float32]:
    blocks = mixed_parts(parts, MONO, partial(decoded, sound=MONO, limits=LIMITS))
    made: NDArray[np.float32] = np.concatenate(list(blocks), axis=1)[0]
    return made


def test_mixed_parts_are_placed_in_time_and_added(tmp_path: Path) -> None:
    first, second = 0.4 * noise(2.0, RATE), 0.4 * noise(3.0, RATE, seed=2)
    files = _file(tmp_path / "a.wav", first), _file(tmp_path / "b.wav", second)
    parts = AudioPart(files[1], 2.0, 3.5, file_start=1.0), AudioPart(files[0], 0.25, 1.0), AudioPart(files[0], 3.0)
    made, expected = _mixed(parts), np.zeros(5 * RATE)
    expected[RATE // 4 : RATE] = first[: 3 * RATE // 4]
    expected[2 * RATE : 7 * RATE // 2] = second[RATE : 5 * RATE // 2]
    expected[3 * RATE :] += first
    assert len(made) == len(expected)
    inside = np.ones(len(made), bool)
    for edge in (RATE // 4, RATE, 2 * RATE, 3 * RATE, 7 * RATE // 2):
        inside[edge - _FADE : edge + _FADE] = False
    np.testing.assert_allclose(made[inside], expected[inside], atol=1e-6)


def test_mixed_parts_gain_is_ignored_by_extract_parts(tmp_path: Path) -> None:
    file = _file(tmp_path / "a.wav", 0.1 * noise(1.0, RATE))
    plain, softer = AudioPart(file, 0.0, 1.0), AudioPart(file, 0.0, 1.0, gain_db=-20.0)
    np.testing.assert_allclose(_mixed([softer]), 0.1 * _mixed([plain]), atol=1e-6)
    np.testing.assert_allclose(_mixed([plain, softer]), 1.1 * _mixed([plain]), atol=1e-6)
    for name, part in (("plain", plain), ("softer", softer)):
        extract_parts([part], tmp_path / name, LIMITS, 1.0)
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "softer").read_bytes()


def test_mixed_parts_shared_part_of_a_file_is_mixed_once(tmp_path: Path) -> None:
    samples = noise(3.0, RATE)
    file = _file(tmp_path / "a.wav", samples)
    made = _mixed([AudioPart(file, 0.5, 2.0, 0.5), AudioPart(file, 1.0, 2.5, 1.0)])
    np.testing.assert_allclose(made[8000 + _FADE : 40000 - _FADE], samples[8000 + _FADE : 40000 - _FADE], atol=1e-6)


def test_mixed_parts_of_many_turns_open_each_file_once(tmp_path: Path) -> None:
    files = _file(tmp_path / "a.wav", noise(4.0, RATE)), _file(tmp_path / "b.wav", noise(4.0, RATE, seed=2))
    opened: list[Path] = []

    def decode(path: Path) -> Blocks:
        opened.append(path)
        return decoded(path, MONO, LIMITS)

    turns = [AudioPart(files[number % 2], number / 10, number / 10 + 0.1, number / 10) for number in range(40)]
    assert sum(block.shape[1] for block in mixed_parts(turns, MONO, decode)) == 4 * RATE
    assert sorted(opened) == sorted(files)


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
    np.testing.assert_allclose(made[RATE + _FADE : 24000 - _FADE], samples[_FADE : RATE // 2 - _FADE], atol=1e-4)
    assert not made[:RATE].any() and not made[3 * RATE // 2 :].any()
    assert extract_parts([AudioPart(file, 1.0)], tmp_path / "s.npy", LIMITS, 1.5).duration_seconds == 1.5
    file.write_text("no audio")
    with pytest.raises(MediaError, match=r"a\.wav"):
        extract_parts([AudioPart(file, 1.0)], tmp_path / "s.npy", LIMITS, 3.0)
