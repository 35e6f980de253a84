from __future__ import annotations

import time
from fractions import Fraction
from itertools import islice, repeat
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.codeccontext import AudioCodecContext
from av.container import OutputContainer
from numpy.typing import NDArray

from lipwright.media.audio_parts import AudioPart, Blocks, SoundFormat, decoded
from lipwright.media.result.concat import add_sound_track, sound_packets
from lipwright.media.result.sound_mix import ResultSound, SoundSettings
from lipwright.media.result.sound_pieces import PieceFiles
from tests.unit.media.clips import LIMITS, lag_seconds, noise, write_audio

RATE = 16000
MONO = SoundFormat(RATE, "mono")
_FRAME = RATE // 25
Samples = NDArray[np.float32]


def _tone(seconds: float, hertz: float, amplitude: float) -> Samples:
    phases = 2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE
    return np.asarray(amplitude * np.sin(phases), np.float32)


def _file(path: Path, samples: NDArray[np.float32]) -> Path:
    return write_audio(path, samples[None], RATE, "pcm_f32le", sample_format="flt")


def _made(sound: ResultSound, num_samples: int) -> Samples:
    made: NDArray[np.float32] = np.concatenate(list(sound.blocks(MONO, num_samples, _FRAME)), axis=1)[0]
    return made


def _mixed(folder: Path, settings: SoundSettings, num_samples: int, **sounds: Samples) -> Samples:
    """The result of a file of `speech`, and of `background` and `music`."""
    files = {name: _file(folder / f"{name}.wav", samples) for name, samples in sounds.items()}
    sound = ResultSound([AudioPart(files["speech"])], settings, files.get("background"), files.get("music"))
    return _made(sound, num_samples)


def _level_db(samples: NDArray[np.float32], hertz: float) -> float:
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
    made = _mixed(tmp_path, SoundSettings(-6.0), 6 * RATE, speech=speech, background=_tone(6.0, 1000, 0.2))
    assert len(made) == 6 * RATE
    expected = 20 * np.log10(0.2) - 6
    for pause in (slice(RATE, 2 * RATE), slice(5 * RATE, 6 * RATE)):
        assert _level_db(made[pause], 1000) == pytest.approx(expected, abs=0.2)
    assert expected - 17 < _level_db(made[round(2.5 * RATE) : 4 * RATE], 1000) < expected - 13
    assert _level_db(made[round(2.5 * RATE) : 4 * RATE], 440) == pytest.approx(20 * np.log10(amplitude), abs=0.2)


def test_result_sound_changed_speech_changes_the_mix_near_it(tmp_path: Path) -> None:
    sounds = {"speech": _tone(15.0, 440, 0.3), "background": noise(15.0, RATE)}
    before = _mixed(tmp_path, SoundSettings(-12.0), 15 * RATE, **sounds)
    sounds["speech"][4 * RATE : 6 * RATE] *= 0.8
    seconds = np.flatnonzero(before != _mixed(tmp_path, SoundSettings(-12.0), 15 * RATE, **sounds)) / RATE
    assert 3.99 < seconds.min() < 4.1 and 5.9 < seconds.max() < 14


def test_result_sound_mixing_does_not_delay(tmp_path: Path) -> None:
    speech = 0.3 * noise(3.0, RATE)
    made = _mixed(tmp_path, SoundSettings(0.0, -20.0), 3 * RATE, speech=speech, background=_tone(3.0, 1000, 0.01))
    assert lag_seconds(made, speech, RATE) == pytest.approx(0, abs=1 / RATE)


def test_result_sound_short_background_repeats_smoothly(tmp_path: Path) -> None:
    background = _tone(0.51, 333, 0.5)  # does not end where it began
    made = _mixed(tmp_path, SoundSettings(0.0), 4 * RATE, speech=np.zeros(RATE, np.float32), background=background)
    assert len(made) == 4 * RATE
    assert np.abs(np.diff(made)).max() <= 1.05 * np.abs(np.diff(background)).max()
    assert np.sqrt(np.square(made[3 * RATE :]).mean()) > 0.3


@pytest.mark.parametrize("seconds", [5.0, 5.04], ids=["whole steps of the meter", "a part of a step"])
def test_result_sound_has_the_requested_loudness(seconds: float, tmp_path: Path) -> None:
    made = _mixed(tmp_path, SoundSettings(None, -20.0), round(seconds * RATE), speech=_tone(seconds, 997, 0.02))
    # ITU-R BS.1770: a full-scale sine of 997 Hz in one channel has -3.01 LUFS.
    assert _level_db(made[RATE : 4 * RATE], 997) == pytest.approx(-20 + 3.01, abs=0.3)


def test_result_sound_does_not_clip_or_amplify_silence(tmp_path: Path) -> None:
    assert not _mixed(tmp_path, SoundSettings(None, -20.0), 2 * RATE, speech=np.zeros(2 * RATE, np.float32)).any()
    sounds = {"speech": _tone(2.0, 300, 0.9), "background": _tone(2.0, 310, 0.9)}
    assert np.abs(_mixed(tmp_path, SoundSettings(12.0, -9.0), 2 * RATE, **sounds)).max() <= 0.9


def test_native_format_covers_both_files(tmp_path: Path) -> None:
    speech = _file(tmp_path / "speech.wav", _tone(0.5, 300, 0.5))
    film = write_audio(tmp_path / "b.wav", np.stack([noise(0.5, 48000)] * 2), 48000, "pcm_s16le", sample_format="s16")
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


def test_result_sound_of_many_turns_is_scaled_quickly() -> None:
    parts = [AudioPart(Path("a"), number, number + 0.5) for number in range(20_000)]
    sound, background = ResultSound(parts, SoundSettings(keeps_source=True)), np.ones((1, 64), np.float32)
    started = time.process_time()
    assert len(list(sound._scale(repeat(background, 500), MONO))) == 500
    assert time.process_time() - started < 1


@pytest.mark.parametrize(("num_blocks", "num_opened"), [(4, 1), (5, 2)])
def test_result_sound_short_background_is_decoded_once(
    num_blocks: int, num_opened: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def decode(path: Path, *_: object) -> Blocks:
        opened.append(path)
        yield from repeat(np.zeros((1, 1 << 20), np.float32), num_blocks)

    monkeypatch.setattr("lipwright.media.result.sound_mix.decoded", decode)
    assert len(list(islice(ResultSound([])._repeat(Path("a"), MONO), num_blocks + 1))) == num_blocks + 1
    assert len(opened) == num_opened


def test_result_sound_music_repeats_under_speech_and_source(tmp_path: Path) -> None:
    film, music = (_file(tmp_path / "b.wav", _tone(6.0, 1000, 0.2)), _file(tmp_path / "c.wav", _tone(1.5, 700, 0.2)))
    parts = [AudioPart(_file(tmp_path / "speech.wav", _tone(2.0, 440, 0.3)), 2.0, 4.0)]
    made = _made(ResultSound(parts, SoundSettings(keeps_source=True, music_gain_db=-6.0), film, music), 6 * RATE)
    expected = 20 * np.log10(0.2) - 6
    for pause in (slice(RATE // 4, RATE), slice(round(4.8 * RATE), round(5.8 * RATE))):
        assert _level_db(made[pause], 1000) == pytest.approx(20 * np.log10(0.2), abs=0.2)
        assert _level_db(made[pause], 700) == pytest.approx(expected, abs=0.3)
    during = slice(round(3.1 * RATE), round(3.9 * RATE))
    assert _level_db(made[during], 1000) < -55
    assert expected - 16 < _level_db(made[during], 700) < expected - 8
    assert _level_db(made[during], 440) == pytest.approx(20 * np.log10(0.3), abs=0.2)


FPS, SPEECH_RATE, FRAME = Fraction(25), 24_000, 1024
SECONDS = 36
CHANGED = slice(20 * SPEECH_RATE, 22 * SPEECH_RATE)
Packets = list[tuple[int | None, int | None, bytes]]


@pytest.fixture(scope="module")
def speech(sample_speech: Path) -> Samples:
    once = np.concatenate(list(decoded(sample_speech, SoundFormat(SPEECH_RATE, "mono"), LIMITS)), axis=1)
    return np.tile(once, 1 + SECONDS * SPEECH_RATE // once.shape[1])[:, : SECONDS * SPEECH_RATE]


@pytest.fixture(scope="module")
def revised(speech: Samples) -> Samples:
    """The speech with other speech from 20 to 22 s."""
    changed = speech.copy()
    changed[:, CHANGED] = speech[:, ::-1][:, CHANGED]
    return changed


def _encoded(folder: Path, samples: Samples, pieces: PieceFiles | None, encoder: str = "aac") -> tuple[Packets, bytes]:
    file = write_audio(folder / "speech.wav", samples, SPEECH_RATE, "pcm_f32le")
    with av.open(str(folder / "out.mp4"), "w") as container:
        assert isinstance(container, OutputContainer)
        sound = ResultSound([AudioPart(file)], pieces=pieces)
        stream = add_sound_track(container, sound, encoder)
        num_frames = round(samples.shape[1] / stream.codec_context.sample_rate * FPS)
        packets: Packets = []
        for packet in sound_packets(sound, stream, num_frames, FPS):
            packets.append((packet.pts, packet.duration, bytes(packet)))
            container.mux(packet)
        return packets, stream.codec_context.extradata or b""


def _decoded(packets: Packets, headers: bytes) -> Samples:
    context = av.CodecContext.create("aac", "r")
    assert isinstance(context, AudioCodecContext)
    context.extradata = headers
    frames = [frame for _, _, content in packets for frame in context.decode(av.Packet(content))]
    return np.concatenate([frame.to_ndarray() for frame in frames], axis=1)[:, FRAME:].astype(np.float32)


def _error_db(packets: Packets, headers: bytes, samples: Samples) -> NDArray[np.float64]:
    """Return the error of each frame in dB of full scale."""
    num = samples.shape[1] // FRAME * FRAME
    error = (_decoded(packets, headers)[:, :num] - samples[:, :num]).reshape(-1, FRAME)
    return np.asarray(10 * np.log10(np.square(error).mean(1) + 1e-12))


@pytest.mark.parametrize("num_samples", [5 * SPEECH_RATE, 127 * FRAME, 128 * FRAME, 129 * FRAME + 1, 257 * FRAME, 960])
def test_sound_packets_with_pieces_equal_those_without(tmp_path: Path, speech: Samples, num_samples: int) -> None:
    whole, _ = _encoded(tmp_path, speech[:, :num_samples], None)
    made, _ = _encoded(tmp_path, speech[:, :num_samples], PieceFiles(tmp_path / "pieces"))
    again, _ = _encoded(tmp_path, speech[:, :num_samples], PieceFiles(tmp_path / "again", tmp_path / "pieces"))
    assert whole == made == again


def test_sound_packets_of_a_revision_differ_near_the_change(tmp_path: Path, speech: Samples, revised: Samples) -> None:
    first, headers = _encoded(tmp_path, speech, PieceFiles(tmp_path / "first"))
    second, _ = _encoded(tmp_path, revised, PieceFiles(tmp_path / "second", tmp_path / "first"))
    assert [packet[:2] for packet in first] == [packet[:2] for packet in second]
    times = [(pts or 0) / SPEECH_RATE for (pts, _, mine), (_, _, its) in zip(first, second, strict=True) if mine != its]
    piece = 128 * FRAME / SPEECH_RATE
    assert 20 - piece - 1 < min(times) <= 20 and 22 < max(times) < 22 + piece + 1
    whole, _ = _encoded(tmp_path, revised, None)
    expected, heard = _error_db(whole, headers, revised), _error_db(second, headers, revised)
    assert (heard - expected).max() < 4, "no frame, at a seam or elsewhere, is off"
    assert heard.mean() < expected.mean() + 0.2


def test_sound_packets_of_a_revision_encode_changed_pieces_only(
    tmp_path: Path, speech: Samples, revised: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    _encoded(tmp_path, speech, PieceFiles(tmp_path / "first"))
    encoded: list[int] = []
    add = "lipwright.media.result.sound_pieces._Encoder.add"
    monkeypatch.setattr(add, lambda encoder, frames: encoded.append(len(frames)))
    monkeypatch.setattr(
        "lipwright.media.result.sound_pieces._Encoder.packets", lambda encoder, piece: [b"x"] * len(piece)
    )
    _encoded(tmp_path, revised, PieceFiles(tmp_path / "second", tmp_path / "first"))
    assert 0 < sum(encoded) < 256 + 3 * 128 < SECONDS * SPEECH_RATE // FRAME


@pytest.mark.parametrize("harm", ["empty", "cut", "changed"])
def test_sound_packets_with_damaged_pieces_are_encoded(tmp_path: Path, speech: Samples, harm: str) -> None:
    speech = speech[:, : 12 * SPEECH_RATE]
    whole, _ = _encoded(tmp_path, speech, PieceFiles(tmp_path / "first"))
    content = bytearray((tmp_path / "first").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "first").write_bytes(bytes({"empty": b"", "cut": content[:1000], "changed": content}[harm]))
    again, _ = _encoded(tmp_path, speech, PieceFiles(tmp_path / "second", tmp_path / "first"))
    assert [packet[:2] for packet in whole] == [packet[:2] for packet in again]
    assert harm == "changed" or whole == again


def test_sound_packets_of_another_encoder_leave_no_pieces(tmp_path: Path, speech: Samples) -> None:
    _encoded(tmp_path, speech[:, :SPEECH_RATE], PieceFiles(tmp_path / "pieces"), "libopus")
    assert not (tmp_path / "pieces").exists()
