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
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.analysis import tracked_video
from config import MediaLimits
from media.playback import AfterEnd, Playback
from media.probe import probe_video
from media.reader import FrameReader
from models.clips.compose import ClipSource, compose_clips
from models.clips.graph import OWN, ClipGraph, ClipKind
from models.clips.path import ActionCue, PathState, extend_path
from models.engines.paste.landmarks68 import FACE_OVAL, ibug_points
from models.track.face_track import FaceTrack

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
        pairs = list(zip(frames, frames[1:], strict=False))
        face = [np.linalg.norm(self._points[a] - self._points[b], axis=1).mean() for a, b in pairs]
        picture = [
            np.sqrt(((self._pictures[a] - self._pictures[b])[self._masks[a] & self._masks[b]] ** 2).mean())
            for a, b in pairs
        ]
        return np.array([face, picture])


def _usual(changes: Sequence[NDArray[np.float64]], num: int) -> NDArray[np.float64]:
    """Returns (2, 1) the median of the largest of `num` changes in a row, in any of the clips."""
    rows = [np.lib.stride_tricks.sliding_window_view(each, num, axis=1).max(2) for each in changes]
    return np.median(np.concatenate(rows, 1), axis=1, keepdims=True)


def _jumps(film: Film, graph: ClipGraph) -> None:
    own = {clip: film.changes(range(clip.start, clip.stop)) for clip in graph.clips}
    ratios = []
    for leave, bridge, num, enter, _ in graph.transitions:
        ends = [next(own[clip] for clip in graph.clips if clip.start <= at < clip.stop) for at in (leave, enter)]
        jump = film.changes([leave, *range(bridge, bridge + num), enter]).max(1, keepdims=True)
        ratios.append(jump / _usual(ends, num + 1))
    face, picture = np.concatenate(ratios, 1)
    num = sum(transition.num_bridge for transition in graph.transitions)
    print(f"  {len(ratios)} transitions, {num} frames of bridges; ratio of jumps, median and worst: ", end="")
    print(f"landmarks {np.median(face):.2f} {face.max():.2f}, picture {np.median(picture):.2f} {picture.max():.2f}")


def _loops(film: Film, graph: ClipGraph) -> None:
    fps, num = float(film.info.fps), round(_LOOP_SECONDS * film.info.fps)
    usual = film.changes(range(graph.clips[0].stop))
    path, _ = extend_path(graph, PathState(), num, [], [], 0)
    for name in ("pingpong", "loop", "natural"):
        after = cast(AfterEnd, name if name != "natural" else "loop")
        playback = Playback(after, path=path if name == "natural" else ())
        last = film.info.num_frames if name == "natural" else graph.clips[0].stop
        frames = playback.source_frames(range(num), last).tolist()
        worst = (film.changes(frames).max(1) / np.median(usual, 1)).round(1)
        turns = sum(a > b for a, b in zip(frames, frames[1:], strict=False) if b < graph.clips[0].stop)
        text = f"{turns} frames backwards" if name == "pingpong" else f"{turns if name == 'loop' else len(path)} pieces"
        print(f"  {name}, {num / fps:.0f} s: worst change, in usual ones: landmarks, picture {worst}; {text}")


def _actions(graph: ClipGraph) -> None:
    names = [clip.name for clip in graph.clips if clip.kind == "action"]
    num, step, gap = (round(each * graph.fps) for each in (_PATH_SECONDS, 2 * _SPEAKS_SECONDS, _CUE_SECONDS))
    cues = [ActionCue(at, names[at // gap % len(names)]) for at in range(gap, num, gap)] if names else []
    speaking = [(at, at + step // 2) for at in range(0, num, step)]
    start = time.process_time()
    path, _ = extend_path(graph, PathState(), num, speaking, cues, 0)
    seconds = time.process_time() - start
    starts = [(clip.name, at) for at, frame in path for clip in graph.clips if clip.start <= frame < clip.stop]
    late = [min((abs(at - cue.position) for name, at in starts if name == cue.name), default=10**6) for cue in cues]
    late = [each / graph.fps for each in late if each <= 2 * graph.fps]
    if cues:
        print(f"  {len(late)} of {len(cues)} actions; from their position: {np.median(late):.2f}, {max(late):.2f} s")
    times, state = [], PathState()
    for at in range(4, 1000, 4):
        start = time.process_time()
        _, state = extend_path(graph, state, at, speaking[:9], cues[:9], 0)
        times.append(1000 * (time.process_time() - start))
    print(
        f"  path of {_PATH_SECONDS} s: {seconds:.2f} s; of four frames: {np.median(times):.1f} ms, {max(times):.1f} ms"
    )


def _source(video: Path) -> ClipSource:
    info, cache = probe_video(video, MediaLimits()), video.with_suffix(".npz")
    if not cache.exists():
        tracked_video(video).track.save(cache)
    kind, _, name = video.stem.partition("_")
    named = None if kind == "own" else cast(ClipKind, kind)
    return ClipSource(name if named else OWN, named, FrameReader(video, info, 2**26), info, FaceTrack.load(cache))


def main() -> None:
    """Prints the figures of each avatar."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    for folder in parser.parse_args().folders:
        sources = [_source(folder / "own.mp4"), *map(_source, sorted(folder.glob("*_*.mp4")))]
        for parts in (sources, sources[:1]):
            with tempfile.TemporaryDirectory() as made:
                start, path = time.process_time(), Path(made) / "composite.mp4"
                graph = compose_clips(parts, path)
                print(f"{folder.name}: {len(parts)} clips composed in {time.process_time() - start:.0f} s of CPU time")
                film = Film(path, graph)
                _jumps(film, graph)
                if len(parts) > 1:
                    _actions(graph)
                else:
                    _loops(film, graph)


if __name__ == "__main__":
    main()
