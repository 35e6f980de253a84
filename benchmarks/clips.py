"""How visible transitions between clips are, when actions start, and what paths cost.

`python -m benchmarks.clips FOLDER...`: a folder is one avatar, with `own.mp4` and `KIND_NAME.mp4` for each clip.

A jump is the largest change between two frames in a row from the last frame before a transition to the first one after
it. Its ratio is to the same in the clips themselves: the median of the largest change in as many frames in a row.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.analysis import tracked_video
from config import MediaLimits
from media.playback import Playback
from media.probe import probe_video
from media.reader import FrameReader
from models.clips.compose import ClipSource, compose_clips
from models.clips.graph import OWN, ClipGraph, ClipKind
from models.clips.path import ActionCue, PathState, extend_path
from models.engines.paste.landmarks68 import FACE_OVAL, ibug_points

_WIDTH = 160  # pixels of the pictures that are compared
_LOOP_SECONDS, _PATH_SECONDS, _SPEAKS_SECONDS, _CUE_SECONDS = 60, 600, 5.0, 7.0


class Film:
    """Changes between frames of a video: of 68 landmarks in eye distances, and of the picture beside the face."""

    def __init__(self, video: Path, graph: ClipGraph) -> None:
        self.info, track = probe_video(video, MediaLimits()), tracked_video(video, cuts=graph.cuts).track
        self._points = ibug_points(track.points) / float(np.median(track.scale))
        self._pictures, self._masks = [], []
        height = round(_WIDTH * self.info.height / self.info.width)
        scale = [_WIDTH / self.info.width, height / self.info.height]
        with FrameReader(video, self.info, 2**26) as reader:
            for number, frame in enumerate(reader.read(range(self.info.num_frames))):
                self._pictures.append(cv2.resize(frame.y, (_WIDTH, height), interpolation=cv2.INTER_AREA).astype(int))
                oval = np.rint(track.points[number, list(FACE_OVAL), :2] * scale).astype(np.int32)
                self._masks.append(cv2.fillConvexPoly(np.ones((height, _WIDTH)), cv2.convexHull(oval), 0) > 0)

    def changes(self, frames: Sequence[int]) -> NDArray[np.float64]:
        """Returns (2, T - 1): of the landmarks and of the picture."""
        pairs = list(pairwise(frames))
        face = [np.linalg.norm(self._points[a] - self._points[b], axis=1).mean() for a, b in pairs]
        picture = [
            np.sqrt(((self._pictures[a] - self._pictures[b])[self._masks[a] & self._masks[b]] ** 2).mean())
            for a, b in pairs
        ]
        return np.array([face, picture])


def _usual(changes: Sequence[NDArray[np.float64]], num: int) -> NDArray[np.float64]:
    """Returns (2,) the median of the largest of `num` changes in a row, in any of the clips."""
    rows = [np.lib.stride_tricks.sliding_window_view(each, num, axis=1).max(2) for each in changes]
    return np.asarray(np.median(np.concatenate(rows, 1), axis=1))


def _jumps(film: Film, graph: ClipGraph) -> None:
    own = {clip: film.changes(range(clip.start, clip.stop)) for clip in graph.clips}
    ratios = []
    for leave, bridge, num, enter, _ in graph.transitions:
        ends = [next(own[clip] for clip in graph.clips if clip.start <= at < clip.stop) for at in (leave, enter)]
        ratios.append(film.changes([leave, *range(bridge, bridge + num), enter]).max(1) / _usual(ends, num + 1))
    median, worst = (np.round(value, 2) for value in (np.median(ratios, 0), np.max(ratios, 0)))
    print(f"  {len(ratios)} transitions; jumps of landmarks and picture: median ratio {median}, worst {worst}")


def _loops(film: Film, graph: ClipGraph) -> None:
    num, length = round(_LOOP_SECONDS * film.info.fps), graph.clips[0].stop
    usual = np.median(film.changes(range(length)), axis=1)
    path, _ = extend_path(graph, PathState(), num, [], [], 0)
    for name, playback in (("pingpong", Playback()), ("loop", Playback("loop")), ("natural", Playback(path=path))):
        frames = playback.source_frames(range(num), film.info.num_frames if playback.path else length)
        worst = (film.changes(frames.tolist()).max(1) / usual).round(1)
        back = int((np.diff(frames) == -1).sum())
        print(f"  {name}, {_LOOP_SECONDS} s: worst change in usual ones {worst}, {back} frames played backwards")


def _actions(graph: ClipGraph) -> None:
    names = [clip.name for clip in graph.clips if clip.kind == "action"]
    num, step, gap = (round(each * graph.fps) for each in (_PATH_SECONDS, 2 * _SPEAKS_SECONDS, _CUE_SECONDS))
    cues = [ActionCue(at, names[at // gap % len(names)]) for at in range(gap, num, gap)]
    speaking = [(at, at + step // 2) for at in range(0, num, step)]
    start = time.process_time()
    path, _ = extend_path(graph, PathState(), num, speaking, cues, 0)
    print(f"  path of {_PATH_SECONDS} s: {time.process_time() - start:.2f} s of CPU time")
    starts = [(clip.name, at) for at, frame in path for clip in graph.clips if clip.start <= frame < clip.stop]
    late = [min((abs(at - cue.position) for name, at in starts if name == cue.name), default=num) for cue in cues]
    shown = np.array(late)[np.array(late) <= 2 * graph.fps] / graph.fps
    print(f"  {len(shown)} of {len(cues)} actions, median {np.median(shown):.2f} s off, worst {shown.max():.2f} s")
    times, state = [], PathState()
    for at in range(4, 1000, 4):
        start = time.process_time()
        _, state = extend_path(graph, state, at, speaking[:9], cues[:9], 0)
        times.append(1000 * (time.process_time() - start))
    print(f"  path of four frames: median {np.median(times):.1f} ms of CPU time, worst {max(times):.1f} ms")


def _source(video: Path) -> ClipSource:
    info, (kind, _, name) = probe_video(video, MediaLimits()), video.stem.partition("_")
    track, reader = tracked_video(video).track, FrameReader(video, info, 2**26)
    return ClipSource(name or OWN, cast(ClipKind, kind) if name else None, reader, info, track)


def main() -> None:
    """Prints the figures of each avatar: with all its clips, and of its own video alone."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    for folder in parser.parse_args().folders:
        sources = [_source(folder / "own.mp4"), *map(_source, sorted(folder.glob("*_*.mp4")))]
        for parts, measure in ((sources, lambda _, graph: _actions(graph)), (sources[:1], _loops)):
            with tempfile.TemporaryDirectory() as made:
                start, path = time.process_time(), Path(made) / "composite.mp4"
                graph = compose_clips(parts, path)
                print(f"{folder.name}: {len(parts)} clips composed in {time.process_time() - start:.0f} s of CPU time")
                film = Film(path, graph)
                _jumps(film, graph)
                measure(film, graph)


if __name__ == "__main__":
    main()
