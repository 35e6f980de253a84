from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.codeccontext import AudioCodecContext
from av.container import OutputContainer
from numpy.typing import NDArray

from media.audio_parts import AudioPart, SoundFormat, decoded
from media.result.concat import add_sound_track, sound_packets
from media.result.sound_mix import ResultSound
from media.result.sound_pieces import PieceFiles
from tests.unit.media.clips import LIMITS, write_audio

FPS, RATE, FRAME = Fraction(25), 24_000, 1024
SECONDS = 48
CHANGED = slice(20 * RATE, 22 * RATE)
Samples = NDArray[np.float32]
Packets = list[tuple[int | None, int | None, bytes]]


@pytest.fixture(scope="module")
def speech(sample_speech: Path) -> Samples:
    """(1, N) of speech with pauses."""
    once = np.concatenate(list(decoded(sample_speech, SoundFormat(RATE, "mono"), LIMITS)), axis=1)
    return np.tile(once, 1 + SECONDS * RATE // once.shape[1])[:, : SECONDS * RATE]


@pytest.fixture(scope="module")
def revised(speech: Samples) -> Samples:
    """The speech with other speech from 20 to 22 s."""
    changed = speech.copy()
    changed[:, CHANGED] = speech[:, ::-1][:, CHANGED]
    return changed


def _encoded(folder: Path, samples: Samples, pieces: PieceFiles | None, encoder: str = "aac") -> tuple[Packets, bytes]:
    """Return the packets of a sound, and what a decoder needs beside them."""
    file = write_audio(folder / "speech.wav", samples, RATE, "pcm_f32le")
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


@pytest.mark.parametrize("num_samples", [5 * RATE, 127 * FRAME, 128 * FRAME, 129 * FRAME + 1, 257 * FRAME, 960])
def test_sound_packets_with_pieces_equal_those_without(tmp_path: Path, speech: Samples, num_samples: int) -> None:
    whole, _ = _encoded(tmp_path, speech[:, :num_samples], None)
    made, _ = _encoded(tmp_path, speech[:, :num_samples], PieceFiles(tmp_path / "pieces"))
    again, _ = _encoded(tmp_path, speech[:, :num_samples], PieceFiles(tmp_path / "again", tmp_path / "pieces"))
    assert whole == made == again


def test_sound_packets_of_a_revision_differ_near_the_change_only(
    tmp_path: Path, speech: Samples, revised: Samples
) -> None:
    first, headers = _encoded(tmp_path, speech, PieceFiles(tmp_path / "first"))
    second, _ = _encoded(tmp_path, revised, PieceFiles(tmp_path / "second", tmp_path / "first"))
    assert [packet[:2] for packet in first] == [packet[:2] for packet in second]
    times = [(pts or 0) / RATE for (pts, _, mine), (_, _, its) in zip(first, second, strict=True) if mine != its]
    piece = 128 * FRAME / RATE
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
    add = "media.result.sound_pieces._Encoder.add"
    monkeypatch.setattr(add, lambda encoder, frames: encoded.append(len(frames)))
    monkeypatch.setattr("media.result.sound_pieces._Encoder.packets", lambda encoder, piece: [b"x"] * len(piece))
    _encoded(tmp_path, revised, PieceFiles(tmp_path / "second", tmp_path / "first"))
    assert 0 < sum(encoded) < 256 + 3 * 128 < SECONDS * RATE // FRAME


@pytest.mark.parametrize("harm", ["empty", "cut", "changed"])
def test_sound_packets_with_damaged_pieces_are_encoded(tmp_path: Path, speech: Samples, harm: str) -> None:
    whole, _ = _encoded(tmp_path, speech, PieceFiles(tmp_path / "first"))
    content = bytearray((tmp_path / "first").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "first").write_bytes(bytes({"empty": b"", "cut": content[:1000], "changed": content}[harm]))
    again, _ = _encoded(tmp_path, speech, PieceFiles(tmp_path / "second", tmp_path / "first"))
    assert [packet[:2] for packet in whole] == [packet[:2] for packet in again]
    assert harm == "changed" or whole == again


def test_sound_packets_of_another_encoder_leave_no_pieces(tmp_path: Path, speech: Samples) -> None:
    _encoded(tmp_path, speech[:, :RATE], PieceFiles(tmp_path / "pieces"), "libopus")
    assert not (tmp_path / "pieces").exists()
