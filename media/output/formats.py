"""The file formats of results: container, encoders, and what they can carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

FormatName = Literal["mp4", "webm", "mov"]


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
        bits_per_pixel: More than its video needs, sound aside, see `jobs.forecast`.
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
    bits_per_pixel: float
    has_text_track: bool
    is_signed: bool

    def encoder_options(self, crf: int, preset: str) -> dict[str, str]:
        """Return the options of the video encoder for the quality that `crf` and `preset` mean to x264."""
        if self.video_encoder == "libx264":
            # `stitchable` keeps x264 from adapting its headers to the content, so SPS and PPS depend only on the
            # settings (x264 --fullhelp, "Don't optimize headers based on video content"). A closed GOP refers to
            # nothing before it.
            return {"crf": str(crf), "preset": preset, "x264-params": "stitchable=1:open-gop=0"}
        if self.video_encoder == "libvpx-vp9":
            # Alternate reference frames are not available with alpha (FFmpeg, libvpxenc.c).
            vp9 = {"deadline": "good", "cpu-used": _VP9_SPEED, "row-mt": "1", "auto-alt-ref": "0"}
            return {"crf": str(min(crf + _VP9_CRF_OFFSET, 63)), "b": "0", **vp9}
        return {"profile": "4444", "alpha_bits": "16"}


_VP9_CRF_OFFSET: Final = 11
"""VP9's scale of crf has 64 steps where that of x264 has 52, and 31 is its usual value where 20 is that of x264."""
_VP9_SPEED: Final = "5"
"""The fastest of the "good" settings (libvpx, vpxenc --help)."""
# `AIGC` is written only with use_metadata_tags.
_MP4_OPTIONS: Final[Mapping[str, str]] = {"movflags": "+faststart+use_metadata_tags"}

# H.264 at crf 20 stays below .15 bits a pixel on talking heads with a noisy background; quiet ones need a fifth.
# ProRes 4444 has a target of 330 Mbit/s for 1080p at 29.97 fps (Apple ProRes White Paper): 5.3, and alpha beside that.
MP4: Final = OutputFormat(
    "mp4", "video/mp4", "libx264", "yuv420p", None, "aac", _MP4_OPTIONS, 0.15, has_text_track=True, is_signed=True
)
WEBM: Final = OutputFormat(
    "webm",
    "video/webm",
    "libvpx-vp9",
    "yuv420p",
    "yuva420p",
    "libopus",
    {"cues_to_front": "1"},
    0.2,
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
    8.0,
    has_text_track=True,
    is_signed=True,
)
FORMATS: Final[Mapping[FormatName, OutputFormat]] = MappingProxyType({each.name: each for each in (MP4, WEBM, MOV)})
