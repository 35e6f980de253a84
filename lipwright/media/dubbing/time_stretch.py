"""Plays speech faster or slower without changing its pitch, with FFmpeg's `atempo` (WSOLA, made for speech)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np
from av.audio.frame import AudioFrame
from av.error import BlockingIOError as NothingToPullError
from av.error import EOFError as EndOfGraphError
from av.filter.graph import Graph
from numpy.typing import NDArray


def stretch(blocks: Iterable[NDArray[np.float32]], rate: int, speed: float) -> Iterator[NDArray[np.float32]]:
    """Yield a track played at another speed, in bounded memory.

    Args:
        blocks: (channels, n) float32 blocks of the track, of 1 or 2 channels.
        rate: Samples per second.
        speed: Seconds of the input per second of the output, 0.5 to 2. The result has exactly the length that follows.
    """
    if speed == 1:
        yield from blocks
        return
    graph: Graph | None = None
    num_in, num_out = 0, 0
    for block in blocks:
        layout = "mono" if len(block) == 1 else "stereo"
        if graph is None:
            graph = _graph(rate, layout, speed)
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, num_in, Fraction(1, rate)
        num_in += block.shape[1]
        graph.push(frame)
        for pulled in pull_frames(graph):
            num_out += pulled.samples
            yield np.asarray(pulled.to_ndarray(), np.float32)
    if graph is None:
        return
    graph.push(None)
    # The filter works in windows: the rest is up to 50 ms too short or too long.
    left = (pulled.to_ndarray() for pulled in pull_frames(graph))
    rest = np.concatenate([np.zeros((len(block), 0), np.float32), *left], axis=1)
    num_left = max(round(num_in / speed) - num_out, 0)
    yield np.pad(rest[:, :num_left], ((0, 0), (0, max(num_left - rest.shape[1], 0))))


def _graph(rate: int, layout: str, speed: float) -> Graph:
    graph = Graph()
    source = graph.add_abuffer(sample_rate=rate, format="fltp", layout=layout, time_base=Fraction(1, rate))
    planar = graph.add("aformat", "sample_fmts=fltp")  # atempo interleaves channels
    graph.link_nodes(source, graph.add("atempo", f"{speed:.9f}"), planar, graph.add("abuffersink")).configure()
    return graph


def pull_frames(graph: Graph) -> Iterator[AudioFrame]:
    """Yield the frames that a filter graph can give without more input."""
    while True:
        try:
            frame = graph.pull()
        except (NothingToPullError, EndOfGraphError):
            return
        assert isinstance(frame, AudioFrame)
        yield frame
