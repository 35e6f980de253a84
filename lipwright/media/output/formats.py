"""The file formats of results: container, encoders, and what they can carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, Self, get_args

from lipwright.media.probe import VideoInfo

FormatName = Literal["mp4", "webm", "mov"]
H264Encoder = Literal["x264", "nvenc"]
Quality = Literal["fast", "balanced", "best"]
QUALITIES: Final[tuple[Quality, ...]] = get_args(Quality)
"""Trade-off of encoding: `fast` takes less CPU time than `balanced`; `best` takes more, and more bytes."""


@dataclass(frozen=True)
class OutputFormat:
    """One file format. Decoder processes are sent formats, so they can be pickled.

    Attributes:
        name: Its name in the API, which is the suffix of its files and FFmpeg's name of the muxer.
        media_type: Its media type.
        video_encoder: FFmpeg's name of the video encoder.
        pixel_format: What the encoder is given, without and with transparency; None where it has none.
        audio_encoder: FFmpeg's name of the audio encoder.
        muxer_options: Options of the muxer for the finished file.
        bits_per_pixel: More than its video needs by quality, sound aside, see `lipwright.jobs.forecast`.
        has_text_track: Whether subtitles can be a track of it.
        is_signed: Whether C2PA defines where a manifest is in it.
    """

    name: FormatName
    media_type: str
    video_encoder: str
    pixel_format: str
    alpha_pixel_format: str | None
    audio_encoder: str
    muxer_options: Mapping[str, str]
    bits_per_pixel: Mapping[Quality, float]
    has_text_track: bool
    is_signed: bool

    def with_encoder(self, encoder: H264Encoder, info: VideoInfo) -> Self:
        """Return the format with the H.264 encoder of the service, as far as that encodes pictures of this size."""
        is_nvenc = self.video_encoder == "libx264" and encoder == "nvenc"
        if not is_nvenc or not all(side in _NVENC_SIDES for side in (info.width, info.height)):
            return self
        return replace(self, video_encoder="h264_nvenc")

    def encoder_options(self, crf: int, preset: str, quality: Quality = "balanced") -> dict[str, str]:
        """Return the options of the video encoder.

        Args:
            crf: Constant rate factor of x264 for the quality `balanced`; the others, and those of NVENC and VP9, are
                relative to it.
            preset: Preset of x264 for `balanced`.
            quality: Changes both. ProRes has one quality.
        """
        if self.video_encoder == "libx264":
            made = _X264[quality]
            # `stitchable` keeps x264 from adapting its headers to the content, so SPS and PPS depend only on the
            # settings (x264 --fullhelp, "Don't optimize headers based on video content"). A closed GOP refers to
            # nothing before it.
            params = ":".join(("stitchable=1", "open-gop=0", *made.params))
            return {
                "crf": _limit_crf(crf + made.crf_offset, 51),
                "preset": made.preset or preset,
                "x264-params": params,
            }
        if self.video_encoder == "h264_nvenc":
            preset, cq_offset = _NVENC[quality]
            return {"preset": preset, "cq": _limit_crf(crf + cq_offset, 51), **_NVENC_OPTIONS}
        if self.video_encoder == "libvpx-vp9":
            # Alternate reference frames are not available with alpha (FFmpeg, libvpxenc.c).
            return {"crf": _limit_crf(crf + _VP9[quality], 63), "b": "0", **_VP9_OPTIONS}
        return {"profile": "4444", "alpha_bits": "16"}


class _X264Settings(NamedTuple):
    crf_offset: int = 0
    preset: str | None = None  # None: as configured
    params: tuple[str, ...] = ()


# Measured, see docs/performance.md. `fast` is x264's `ultrafast` with what the
# mouth needs most: deblocking, B-frames and small intra blocks. What it lacks, adaptive quantization above all, costs
# the grain of even areas.
_X264: Final[Mapping[Quality, _X264Settings]] = {
    "fast": _X264Settings(0, "ultrafast", ("no-deblock=0", "bframes=3", "partitions=i4x4,i8x8", "8x8dct=1")),
    "balanced": _X264Settings(),
    "best": _X264Settings(-7, "veryfast"),
}
# NVENC's presets go from p1 (fastest) to p7; its `cq` has the scale of crf. Not measured yet: it has not run on a GPU.
_NVENC: Final[Mapping[Quality, tuple[str, int]]] = {"fast": ("p1", 0), "balanced": ("p4", 0), "best": ("p7", -7)}
# Without B-frames, every GOP is closed, and packets are in the order of their frames. `b` 0: no limit beside `cq`.
_NVENC_OPTIONS: Final[Mapping[str, str]] = {"tune": "hq", "profile": "high", "rc": "vbr", "b": "0", "bf": "0"}
_NVENC_SIDES: Final = range(160, 4097)
"""Pixels per side of pictures that all GPUs with NVENC encode (NVIDIA, NVENC application note; minimum 145 x 49)."""
_VP9: Final[Mapping[Quality, int]] = {"fast": 6, "balanced": 6, "best": -4}
"""VP9's crf relative to that of x264; its scale has 64 steps, that of x264 has 52. There is no faster setting."""
# The "good" deadline takes ten times the CPU time and keeps less of the mouth in the same number of bytes.
_VP9_OPTIONS: Final[Mapping[str, str]] = {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "auto-alt-ref": "0"}


def _limit_crf(crf: int, most: int) -> str:
    return str(min(max(crf, 0), most))


# `AIGC` is written only with use_metadata_tags.
_MP4_OPTIONS: Final[Mapping[str, str]] = {"movflags": "+faststart+use_metadata_tags"}

# Measured: H.264 needs up to .2 bits per pixel on talking heads with noise, `best` up to .38, VP9 up to .15; quiet ones
# need a fifth. ProRes 4444 has a target of 330 Mbit/s for 1080p at 29.97 fps (Apple ProRes White Paper): 5.3, and alpha
# beside that.
MP4: Final = OutputFormat(
    "mp4",
    "video/mp4",
    "libx264",
    "yuv420p",
    None,
    "aac",
    _MP4_OPTIONS,
    {"fast": 0.25, "balanced": 0.25, "best": 0.5},
    has_text_track=True,
    is_signed=True,
)
WEBM: Final = OutputFormat(
    "webm",
    "video/webm",
    "libvpx-vp9",
    "yuv420p",
    "yuva420p",
    "libopus",
    {"cues_to_front": "1"},
    dict.fromkeys(QUALITIES, 0.2),
    has_text_track=False,
    is_signed=False,
)
MOV: Final = OutputFormat(
    "mov",
    "video/quicktime",
    "prores_ks",
    "yuv444p10le",
    "yuva444p10le",
    "pcm_s16le",
    _MP4_OPTIONS,
    dict.fromkeys(QUALITIES, 8.0),
    has_text_track=True,
    is_signed=True,
)
FORMATS: Final[Mapping[FormatName, OutputFormat]] = MappingProxyType({each.name: each for each in (MP4, WEBM, MOV)})
