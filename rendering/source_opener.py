"""Opens the frames of an avatar's source in a decoder process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from config import PipelineConfig
from media.decoding.decoder import Decoders
from media.decoding.decoder_reader import DecoderReader, FrameSettings
from media.frame_source import FrameSource
from media.probe import VideoInfo
from models.avatar.avatar import Avatar


@dataclass(frozen=True)
class SourceOpener:
    """Implements `rendering.segment_renderer.OpenSource`.

    Attributes:
        config: The settings of decoders.
        decoders: Where frames are decoded.
        num_threads: Threads of one decoder.
        timeout_s: Limit of one read.
    """

    config: PipelineConfig
    decoders: Decoders
    num_threads: int
    timeout_s: float

    def __call__(self, path: Path, info: VideoInfo, avatar: Avatar) -> FrameSource:
        """Open the frames of `avatar` whose source is at `path`; the caller closes them."""
        settings = FrameSettings.of(self.config, self.num_threads, self.timeout_s)
        return avatar.frames(DecoderReader(self.decoders, path, info, settings))
