from __future__ import annotations

import errno
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.container import InputContainer
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from lipwright.media.audio import extract_speech
from lipwright.media.audio_parts import AudioPart
from lipwright.media.labels.watermark import Watermark, WatermarkStyle
from lipwright.media.output.formats import FORMATS, MP4, QUALITIES, WEBM, FormatName, Quality
from lipwright.media.output.framing import Framing
from lipwright.media.output.picture import PictureMaker, YuvaFrame
from lipwright.media.probe import probe_video
from lipwright.media.reader import FrameReader
from lipwright.media.result.concat import concat_segments
from lipwright.media.result.sound_mix import ResultSound
from lipwright.media.writer import SegmentWriter
from tests.unit.media.clips import LIMITS, info_of, lag_seconds, noise, number_of, planes_of, read_speech, write_audio

LENGTHS = [12, 1, 11]
NUM = sum(LENGTHS)
W, H = 192, 128


def _result(folder: Path, name: FormatName, *, has_alpha: bool = False) -> Path:
    info, file_format, number, segments = info_of(W, H), FORMATS[name], 0, []
    marks = [Watermark(info, WatermarkStyle("en", 0.1), ["bottom_right"])] if has_alpha else []
    for index, length in enumerate(LENGTHS):
        draw = PictureMaker(Framing(W, H, W, H)).draw
        writer = SegmentWriter(info, 20, "veryfast", file_format=file_format, has_alpha=has_alpha, draw=draw)
        for _ in range(length):
            frame = planes_of(number, W, H)
            alpha = np.zeros((H, W), np.uint8)
            alpha[:, 96:], alpha[:, : 3 * number] = 128, 255
            writer.write(YuvaFrame.of(frame, alpha) if has_alpha else frame, marks=marks)
            number += 1
        segments.append(folder / f"{index}.{name}")
        segments[-1].write_bytes(writer.finish())
    sound = write_audio(folder / "speech.wav", noise(NUM / 25, 22050)[None], 22050, "pcm_s16le", sample_format="s16")
    out, tags = folder / f"out.{name}", {"AIGC": "{}", "comment": "made"}
    concat_segments(segments, ResultSound([AudioPart(sound)]), out, info, NUM, tags, file_format=file_format)
    return out


@pytest.mark.parametrize(("name", "codec", "sound"), [("webm", "vp9", "opus"), ("mov", "prores", "pcm_s16le")])
def test_concat_result_of_each_format_reads_back(tmp_path: Path, name: FormatName, codec: str, sound: str) -> None:
    out = _result(tmp_path, name)
    info = probe_video(out, LIMITS)
    assert (info.codec, info.num_frames, info.fps, info.width) == (codec, NUM, Fraction(25), W)
    with FrameReader(out, info, 0) as reader:
        assert [number_of(planes) for planes in reader.read(range(NUM))] == list(range(NUM))
    with av.open(out) as container:
        assert container.streams.audio[0].codec_context.name == sound
        tags = {name.lower(): value for name, value in container.metadata.items()}
        assert (tags["aigc"], tags["comment"]) == ("{}", "made")
    assert abs(extract_speech(out, tmp_path / "heard.npy", LIMITS).duration_seconds - NUM / 25) < 1 / 25
    assert abs(lag_seconds(read_speech(tmp_path / "heard.npy", 0, NUM / 25), noise(NUM / 25, 16000), 16000)) < 0.001


@pytest.mark.parametrize(("name", "decoder"), [("webm", "libvpx-vp9"), ("mov", "prores")])
def test_concat_alpha_reads_back_with_an_opaque_label(tmp_path: Path, name: FormatName, decoder: str) -> None:
    out = _result(tmp_path, name, has_alpha=True)
    if name == "webm":
        assert b"\x53\xc0\x81\x01" in out.read_bytes(), "AlphaMode of the track, without which players ignore it"
    alphas = []
    with av.open(out) as container:
        assert isinstance(container, InputContainer)
        stream: VideoStream = container.streams.video[0]
        created = VideoCodecContext.create(decoder, "r")
        assert isinstance(created, VideoCodecContext)
        context = created if name == "webm" else stream.codec_context
        for packet in container.demux(stream):
            for frame in context.decode(packet):
                plane = frame.planes[3]
                kind, scale = (np.uint8, 1.0) if name == "webm" else (np.uint16, 4095 / 255)
                alpha = np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)[:, :W]
                alphas.append(alpha.astype(np.float64) / scale)
    assert len(alphas) == NUM
    for number, alpha in enumerate(alphas):
        edge = 3 * number
        assert np.abs(alpha[:80, : max(0, edge - 4)] - 255).max(initial=0) < 3
        assert np.abs(alpha[:80, edge + 4 : 92]).max(initial=0) < 3
        assert np.abs(alpha[:80, 100:] - 128).max() < 3
    assert alphas[0][-30:, 100:].max() > 240, "the visible label is opaque"


def test_with_encoder_nvenc_replaces_only_x264() -> None:
    info = info_of(1920, 1080)
    nvenc = MP4.with_encoder("nvenc", info)
    assert (nvenc.video_encoder, nvenc.muxer_options) == ("h264_nvenc", MP4.muxer_options)
    assert WEBM.with_encoder("nvenc", info) is WEBM
    assert MP4.with_encoder("x264", info) is MP4
    for size in ((144, 1080), (4098, 256)):
        assert MP4.with_encoder("nvenc", info_of(*size)) is MP4


@pytest.mark.parametrize("quality", QUALITIES)
def test_encoder_options_are_known_to_ffmpeg(quality: Quality) -> None:
    """FFmpeg ignores unknown names."""
    for file_format in (*FORMATS.values(), MP4.with_encoder("nvenc", info_of(W, 192))):
        options = file_format.encoder_options(20, "superfast", quality)
        supported = VideoCodecContext.create(file_format.video_encoder, "w").supported_options
        known = {option.name for option in (*supported.generic, *supported.private)}
        assert options.keys() <= known, file_format.video_encoder


@pytest.mark.parametrize("quality", QUALITIES)
def test_encoder_options_of_nvenc_have_valid_values(quality: Quality) -> None:
    """FFmpeg parses them before it looks for a GPU: EINVAL and ERANGE are about values, EPERM is about the machine."""
    options = MP4.with_encoder("nvenc", info_of(W, 192)).encoder_options(20, "superfast", quality)
    assert options["cq"] == ("13" if quality == "best" else "20")
    context = VideoCodecContext.create("h264_nvenc", "w")
    context.width, context.height, context.pix_fmt, context.time_base = 256, 256, "yuv420p", Fraction(1, 25)
    context.options = options
    try:
        context.open()
    except FFmpegError as error:
        assert error.errno not in (errno.EINVAL, errno.ERANGE), error
