"""The fragments of a live session: whole at once, decodable one by one, picture and sound on the same time."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.media.live.audio import OPUS_SAMPLES, Downsampler, InputResampler
from lipwright.media.live.encoder import EncodedPictures, LiveEncoder, StreamWriter
from lipwright.media.probe import VideoInfo
from tests.unit.media.clips import flat_planes, info_of

SIDE, GROUP = 64, 3
INFO = info_of(SIDE, SIDE)
AUDIO_RATE = 48000


def group(first: int, num: int = GROUP, info: VideoInfo = INFO) -> EncodedPictures:
    made = LiveEncoder(info, 20, "veryfast")
    for number in range(first, first + num):
        made.write(flat_planes(SIDE, SIDE, 20 + number))
    return made.finish()


def clicks(num_samples: int) -> NDArray[np.int16]:
    """Silence with a short tone at each whole half second."""
    sound = np.zeros(num_samples, np.int16)
    tone = (20000 * np.sin(2 * np.pi * 1000 * np.arange(960) / AUDIO_RATE)).astype(np.int16)
    for start in range(AUDIO_RATE // 2, num_samples - 960, AUDIO_RATE // 2):
        sound[start : start + 960] = tone
    return sound


def stream(num_groups: int, info: VideoInfo = INFO) -> tuple[bytes, list[bytes]]:
    writer, fragments, head, left = StreamWriter(info), [], b"", 0
    sound = clicks(AUDIO_RATE * 10)
    for number in range(num_groups):
        pictures = group(number * GROUP, info=info)
        _, head = writer.head(pictures)
        stop = writer.num_audio_samples((number + 1) * GROUP)
        fragments.append(writer.fragment(number * GROUP, pictures, sound[left:stop]).mp4)
        left = stop
    return head, fragments


def lumas(data: bytes) -> Iterator[tuple[float, int]]:
    with av.open(io.BytesIO(data), "r") as container:
        for frame in container.decode(video=0):
            assert frame.pts is not None and frame.time_base is not None
            yield float(frame.pts * frame.time_base), round(float(frame.to_ndarray()[:SIDE].mean()))


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001), Fraction(60)])
def test_stream_writer_frames_have_their_times(fps: Fraction) -> None:
    head, fragments = stream(8, info_of(SIDE, SIDE, fps))
    frames = list(lumas(head + b"".join(fragments)))
    assert [luma for _, luma in frames] == pytest.approx([20 + number for number in range(8 * GROUP)], abs=1)
    assert [time for time, _ in frames] == pytest.approx([float(number / fps) for number in range(8 * GROUP)], abs=1e-4)


def test_fragment_is_one_moof_and_mdat_that_decodes_alone() -> None:
    head, fragments = stream(4)
    for number, data in enumerate(fragments):
        size, kind = struct.unpack(">I4s", data[:8])
        rest = struct.unpack(">I4s", data[size : size + 8])
        assert (kind, rest) == (b"moof", (len(data) - size, b"mdat"))
        assert struct.unpack(">I", data[20:24]) == (number + 1,)
    frames = list(lumas(head + fragments[3]))
    assert len(frames) == GROUP
    assert frames[0][0] == pytest.approx(3 * GROUP / 25)
    assert frames[0][1] == pytest.approx(20 + 3 * GROUP, abs=1)


def test_live_encoder_keyframes_only_on_request() -> None:
    encoder, writer, data = LiveEncoder(INFO, 20, "veryfast"), StreamWriter(INFO), b""
    keys = []
    for number in range(6):
        if number == 4:
            encoder.begin_with_key()
        encoder.write(flat_planes(SIDE, SIDE, 20 + 2 * number))
        encoder.write(flat_planes(SIDE, SIDE, 21 + 2 * number))
        pictures = encoder.finish()
        data = data or writer.head(pictures)[1]
        data += writer.fragment(2 * number, pictures, np.zeros(0, np.int16)).mp4
        keys.append(pictures.is_key)
    assert keys == [True, False, False, False, True, False]
    assert [luma for _, luma in lumas(data)] == pytest.approx([20 + number for number in range(12)], abs=1)
    with av.open(io.BytesIO(data), "r") as container:
        marked = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
    assert [number for number, is_key in enumerate(marked) if is_key] == [0, 8]


def test_stream_writer_audio_is_in_sync() -> None:
    head, fragments = stream(50)
    with av.open(io.BytesIO(head + b"".join(fragments)), "r") as container:
        frames = list(container.decode(audio=0))
    first = frames[0]
    assert first.pts is not None and first.time_base is not None
    start = float(first.pts * first.time_base)
    sound = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    loud = np.flatnonzero(np.abs(sound) > 0.2) / AUDIO_RATE + start
    found = [float(loud[loud > half][0]) for half in np.arange(0.49, 5.5, 0.5)]
    assert found == pytest.approx([round(2 * time) / 2 for time in found], abs=0.012), "a quarter of a frame at most"
    assert len(sound) / AUDIO_RATE == pytest.approx(6.0, abs=0.03)


def test_stream_writer_head_names_the_codecs() -> None:
    pictures = group(0)
    media_type, head = StreamWriter(INFO).head(pictures)
    assert media_type == f'video/mp4; codecs="avc1.{pictures.headers.sps[1:4].hex()}, opus"'
    assert head[4:12] == b"ftypiso6"
    assert group(30, 1).headers == pictures.headers, "all groups share one head"


def test_input_resampler_keeps_length_and_pitch() -> None:
    for rate in (8000, 16000, 22050, 24000, 44100, 48000):
        tone = (8000 * np.sin(2 * np.pi * 500 * np.arange(rate) / rate)).astype(np.int16)
        intake = InputResampler(rate)
        parts = [intake.push(tone[start : start + 777]) for start in range(0, rate, 777)]
        sound = np.concatenate([*parts, intake.end()])
        assert len(sound) == pytest.approx(AUDIO_RATE, abs=40), rate
        spectrum = np.abs(np.fft.rfft(sound[:AUDIO_RATE].astype(float), AUDIO_RATE))
        assert spectrum.argmax() == pytest.approx(500, abs=1)


def test_downsampler_removes_high_frequencies() -> None:
    seconds = np.arange(AUDIO_RATE) / AUDIO_RATE
    low, high = (np.sin(2 * np.pi * hertz * seconds) * 8000 for hertz in (1000, 13000))
    thinned = Downsampler()
    parts = [thinned.push((low + high).astype(np.int16)[at : at + 960]) for at in range(0, AUDIO_RATE, OPUS_SAMPLES)]
    third = np.concatenate(parts).astype(float)
    assert len(third) == AUDIO_RATE // 3
    spectrum = np.abs(np.fft.rfft(third[-8000:])) / 4000
    assert spectrum[500] == pytest.approx(8000, rel=0.05)  # 1 kHz
    assert spectrum[1500] < 80  # 3 kHz, where 13 kHz would fold to
