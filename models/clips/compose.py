"""Makes the composite source of an avatar: its clips one after the other, and the bridges between them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from lipwright.config import MediaLimits
from lipwright.media.frame_source import FrameSource
from lipwright.media.probe import VideoInfo, probe_video
from lipwright.media.reader import FrameReader
from lipwright.media.result.concat import concat_segments
from lipwright.media.writer import SegmentWriter
from lipwright.media.yuv_frame import YuvFrame
from models.clips.bridge import bridge_frames
from models.clips.fitting import FittedClip, fit_clip
from models.clips.graph import Clip, ClipGraph, ClipKind, Transition
from models.clips.transitions import FrameFeatures, Match, find_matches
from models.track.face_track import FaceTrack

COMPOSITE_VERSION: Final = "3"
"""Increment it when a change here or in the modules beside it invalidates composites that are stored."""

_CRF, _PRESET = 12, "veryfast"
_GOP_FRAMES: Final = 12
"""A path jumps between frames, and each jump decodes from a keyframe."""
_SEGMENT_FRAMES: Final = 240  # encoded in memory
_READER_BYTES: Final = 2**26


@dataclass(frozen=True)
class ClipSource:
    """One clip: its frames, and the face in each of them. The first one is the avatar's own video."""

    name: str
    kind: ClipKind | None
    reader: FrameSource
    info: VideoInfo
    track: FaceTrack


def compose_clips(
    sources: Sequence[ClipSource], path: Path, should_stop: Callable[[], bool] = lambda: False
) -> ClipGraph:
    """Write the composite source to `path`, and return what it holds.

    It has the size, the frame rate and the colours of the first clip, and no sound. A clip with other proportions is
    cropped, and one whose face is smaller is enlarged; see `models.clips.fitting`. If clips are moved to align them,
    all are enlarged until no edge of a picture shows.

    Raises:
        OptionError: A clip does not fit, with its name and the reason.
        CancelledJobError: `should_stop` returned true while transitions were searched.
    """
    own = sources[0]
    fitted = [fit_clip(each.name, each.info, each.track, own.info, own.track) for each in sources]
    moved = (
        clip.aligned(each.reader, fitted[0], own.reader) for each, clip in zip(sources[1:], fitted[1:], strict=True)
    )
    fitted = [fitted[0], *moved]
    if margin := max(clip.margin for clip in fitted):
        fitted = [clip.enlarged(margin) for clip in fitted]
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        writer = _VideoWriter(Path(folder), own.info)
        clips, pictures = [], []
        for source, clip in zip(sources, fitted, strict=True):
            start = writer.num_frames
            for frame in writer.written(clip.frames(source.reader)):
                pictures.append(FrameFeatures.of(frame, clip.points[writer.num_frames - start - 1]))
            clips.append(Clip(source.name, source.kind, start, writer.num_frames))
        both = Path(folder) / "clips.mp4"
        writer.join(both)
        matches = find_matches(clips, fitted, pictures, float(own.info.fps), should_stop)
        transitions = _write_bridges(writer, both, fitted, matches)
        writer.join(path)
    return ClipGraph(tuple(clips), tuple(transitions), float(own.info.fps))


def _write_bridges(
    writer: _VideoWriter, clips: Path, fitted: Sequence[FittedClip], matches: Sequence[Match]
) -> list[Transition]:
    """Write the bridges of all matches, and return the transitions, by `leave`."""
    points = np.concatenate([clip.points for clip in fitted])
    info, transitions = probe_video(clips, MediaLimits()), []
    with FrameReader(clips, info, _READER_BYTES) as before, FrameReader(clips, info, _READER_BYTES) as after:
        for match in sorted(matches, key=lambda match: (match.leave, match.enter)):
            first = writer.num_frames
            pair = match.replaced, match.replacing
            frames = before.read(pair[0]), after.read(pair[1])
            bridge = bridge_frames(*frames, points[pair[0]], points[pair[1]], match.cost + 1)
            num = sum(1 for _ in writer.written(bridge))
            transitions.append(Transition(match.leave, first, num, match.enter, match.cost))
    return transitions


class _VideoWriter:
    """Writes a video in segments, so that a segment is the most that is held in memory."""

    def __init__(self, folder: Path, first: VideoInfo) -> None:
        self._folder = folder
        self._info = replace(first, rotation=0, is_still=False, is_mirrored=False, is_variable_rate=False)
        self._segments: list[Path] = []
        self.num_frames = 0

    def written(self, frames: Iterable[YuvFrame]) -> Iterator[YuvFrame]:
        """Write frames, and yield each of them."""
        writer, num = None, 0
        for frame in frames:
            writer = writer or SegmentWriter(self._info, _CRF, _PRESET, max_gop_frames=_GOP_FRAMES)
            writer.write(frame)
            self.num_frames, num = self.num_frames + 1, num + 1
            yield frame
            if num % _SEGMENT_FRAMES == 0:
                self._finish(writer)
                writer = None
        if writer is not None:
            self._finish(writer)

    def join(self, path: Path) -> None:
        """Write all frames so far to `path`."""
        concat_segments(self._segments, None, path, self._info, self.num_frames)

    def _finish(self, writer: SegmentWriter) -> None:
        self._segments.append(self._folder / f"{len(self._segments)}.mp4")
        self._segments[-1].write_bytes(writer.finish())
