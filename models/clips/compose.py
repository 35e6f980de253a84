"""Makes the composite source of an avatar: its clips one after the other, and the bridges between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from media.frame_source import FrameSource
from media.probe import VideoInfo
from models.clips.graph import ClipGraph, ClipKind
from models.track.face_track import FaceTrack


@dataclass(frozen=True)
class ClipSource:
    """One clip: its frames, and the face in each of them. The first one is the avatar's own video."""

    name: str
    kind: ClipKind | None
    reader: FrameSource
    info: VideoInfo
    track: FaceTrack


def compose_clips(sources: Sequence[ClipSource], path: Path) -> ClipGraph:
    """Write the composite source to `path`, and return what it holds.

    It has the size, the frame rate and the colours of the first clip.

    Raises:
        OptionError: A clip does not fit, with its name and the reason.
    """
    raise NotImplementedError
