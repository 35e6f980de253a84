"""What chunks of a live session cost, by their length, in silence and in speech.

    python -m benchmarks.live.chunks

CPU time per frame of the sample avatar (512x512) in a LiveSession replica with one thread, decoding included, the
fastest of three runs, and the bitrate of the pictures.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from benchmarks.live.background import analysed
from benchmarks.live.latency import RATE, speech
from jobs.messages import ShownAvatar
from media.decoding.malloc_tuning import retain_freed_buffers
from media.live.audio import Downsampler, InputResampler
from models.speech.stream import SpeechStream
from rendering.live_chunk import LiveChunkRequest
from rendering.live_renderer import LiveRenderer

_FPS: Final = 25
_KEY_FRAMES: Final = 16  # `api.live.idle_fallback`
_NUM_RUNS: Final = 3
_KINDS: Final = (("silent", 2), ("silent", 4), ("spoken", 1), ("spoken", 2), ("spoken", 4))


async def rendered(renderer: LiveRenderer, shown: ShownAvatar, kind: str, num: int, run: int) -> tuple[float, float]:
    """Returns CPU milliseconds per frame and kB/s."""
    resampler, stream = InputResampler(RATE), SpeechStream()
    sound = np.concatenate([resampler.push(np.frombuffer(speech(), np.int16)), resampler.end()])
    sound = Downsampler().push(sound[: len(sound) // 3 * 3])
    if kind == "spoken":
        stream.begin()
        stream.push(sound)
    total = len(sound) * _FPS // 16000 // 4 * 4
    state: object = None
    reference: str | None = None
    since_key, num_bytes, busy = 0, 0, list[float]()
    for first in range(0, total, num):
        window = stream.window(first / _FPS, (first + num) / _FPS)
        request = LiveChunkRequest(f"{kind}{num}-{run}", shown.avatar, window, first, num, state, reference=reference)
        chunk = await renderer.render(request)
        since_key = num + (0 if chunk.pictures.is_key else since_key)
        state = chunk.state
        reference = None if kind == "silent" or since_key + num > _KEY_FRAMES else chunk.reference
        busy.append(chunk.busy_s / num)
        num_bytes += sum(map(len, chunk.pictures.frames))
    return 1000 * statistics.fmean(busy[2:]), num_bytes / total * _FPS / 1000


def main() -> None:
    """Print a line for each kind of chunk."""
    cv2.setNumThreads(0)  # as in a replica
    retain_freed_buffers()
    with tempfile.TemporaryDirectory() as folder:
        studio, _ = analysed(Path(folder))
        shown = ShownAvatar(studio.ref)
        for kind, num in _KINDS:
            runs = [asyncio.run(rendered(studio.renderer, shown, kind, num, run)) for run in range(_NUM_RUNS)]
            print(f"{kind}, {num} frames: {min(ms for ms, _ in runs):.1f} ms per frame, {runs[0][1]:.0f} kB/s")


if __name__ == "__main__":
    main()
