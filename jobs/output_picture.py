"""How the pictures of a job's result are made: a message from the Director to the stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from jobs.model.job_settings import JobSettings
from media.output.backgrounds import TRANSPARENT
from media.output.formats import FORMATS, FormatName, OutputFormat, Quality
from media.output.framing import Framing, OutputSize, output_info
from media.output.sizes import parse_aspect, parse_size
from media.probe import VideoInfo


@dataclass(frozen=True)
class OutputPicture:
    """The video of a result."""

    info: VideoInfo  # its size, rate, colours and pixel aspect
    framing: Framing  # which part of the source it shows
    format_name: FormatName = "mp4"
    has_alpha: bool = False  # whether it is transparent where the person is not
    quality: Quality = "balanced"  # of its encoding

    @classmethod
    def of(cls, settings: JobSettings, source: VideoInfo) -> Self:
        """Return what the options of a job mean for a source."""
        size = OutputSize(
            None if settings.size is None else parse_size(settings.size),
            None if settings.crop is None else parse_aspect(settings.crop),
        )
        framing = size.framing(source)
        info, has_alpha = output_info(source, framing, settings.fps), settings.background == TRANSPARENT
        return cls(info, framing, settings.format, has_alpha, settings.quality)

    @property
    def file_format(self) -> OutputFormat:
        """The format of its files."""
        return FORMATS[self.format_name]

    def is_source(self, source: VideoInfo) -> bool:
        """Return whether frames of the source could be copied into it without decoding them."""
        framing = self.framing
        is_whole = not framing.crops(source) and not framing.is_scaled
        return is_whole and self.format_name == "mp4" and self.info.fps == source.fps
