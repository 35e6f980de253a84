"""What another background costs a live session per frame.

    python -m benchmarks.live.background

CPU time for the sample avatar (512x512) in a LiveSession replica with one thread, as the replica itself measures it
when a session starts (`rendering.live_cost`), and that of decoding source, matte and background, for which it has other
processes. The background is the sample video at 1280x720 and 30 fps; Studio fits it once, before the session starts.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Final

import cv2

from benchmarks.material import SAMPLES
from config import MediaLimits, RenderConfig
from jobs.messages import Background, MatteRef, ShownAvatar, SourceVideo
from media.decoding.malloc_tuning import retain_freed_buffers
from media.matte.matte_video import MatteFrames, MatteWriter, join_mattes, matte_info
from media.output.backdrop import fitted
from media.output.fitted_background import fit_background, fitted_info
from media.playback import Playback
from media.probe import ColourTags, VideoInfo, probe_video
from media.reader import FrameReader
from media.writer import SegmentWriter
from models.face.choice import FaceChoice
from models.matting.generator import MatteGenerator
from models.matting.head import Heads
from models.matting.person import PersonSegmenter
from models.matting.report import MatteReport
from models.track.face_track import finish_track
from models.track.tracker import FaceTracker
from rendering.live_cost import measure_cost
from tests.unit.models.synthetic_avatar import FilmedAvatar
from tests.unit.rendering.test_live_renderer import Studio

_NUM_ROUNDS: Final = 15  # the median counts
_NUM_DECODED: Final = 250


def main() -> None:
    """Print CPU milliseconds per frame without another background, and with each kind of background."""
    cv2.setNumThreads(0)  # as in a replica
    retain_freed_buffers()
    with tempfile.TemporaryDirectory() as folder:
        studio, matte = analysed(Path(folder))
        video, fitting_ms = _fitted(Path(folder), studio)
        backgrounds = {
            "as the source": None,
            "#00b140": Background(matte, "#00b140"),
            "blur": Background(matte, "blur"),
            "picture": Background(matte, None, replace(video, info=replace(video.info, is_still=True, num_frames=1))),
            "video": Background(matte, None, video),
        }
        costs: dict[str, list[float]] = {name: [] for name in backgrounds}
        for _ in range(_NUM_ROUNDS):  # in turns, so that other work on the machine slows down all of them
            for name, background in backgrounds.items():
                costs[name].append(_rendering_ms(studio, ShownAvatar(studio.ref, background), name))
        files = (studio.ref.source, SourceVideo(matte.key, matte.info), video)
        for file in files:
            path = Path(folder) / file.key
            costs[f"decoding {path.name}"] = [_decoding_ms(path, file.info) for _ in range(_NUM_ROUNDS)]
        costs["fitting, once"] = [fitting_ms] * 2
    print("CPU ms per frame: median, first and third quartile")
    for name, each in costs.items():
        first, median, third = statistics.quantiles(each)
        print(f"{name:24}{median:6.1f}  {first:.1f} to {third:.1f}")


def analysed(folder: Path) -> tuple[Studio, MatteRef]:
    """Return what renders the sample avatar, and its matte."""
    path = Path(shutil.copy(Path(SAMPLES) / "presenter.mp4", folder))
    info = probe_video(path, MediaLimits())
    with FrameReader(path, info, 0) as reader:
        frames = list(reader.read(range(info.num_frames)))
    raw, _ = FaceTracker(num_threads=1, device="cpu").track_chunk(frames, info.colour, FaceChoice(), None)
    heads, writer = Heads.of(finish_track(raw.points, raw.present)), MatteWriter(info)
    generator = MatteGenerator(PersonSegmenter(num_threads=1))
    for made in generator.mattes(frames, info.colour, None, map(heads.at, range(info.num_frames)), None):
        writer.write(made.alpha)
    join_mattes([writer.finish()], folder / "matte.mp4", info.fps, info.num_frames)
    report = MatteReport(mode="person", screen=None, sha256="", uncertain_share=0)
    return Studio(FilmedAvatar(path, info, raw), folder), MatteRef("matte.mp4", matte_info(info), report)


def _fitted(folder: Path, studio: Studio) -> tuple[SourceVideo, float]:
    """Return a background in the form of the avatar's sessions, and the CPU milliseconds per frame of making it."""
    sent, made = folder / "sent.mp4", folder / "background.mp4"
    shown = studio.ref.source.info
    with FrameReader(studio.path, shown, 0) as reader:
        frames = list(reader.read(range(shown.num_frames)))
    wide = replace(shown, width=1280, height=720, fps=Fraction(30), colour=ColourTags(1, False, 1, 1))
    writer = SegmentWriter(wide, 20, "superfast")
    for frame in frames:
        writer.write(fitted(frame, shown, (wide.height, wide.width), wide.colour))
    sent.write_bytes(writer.finish())
    own = probe_video(sent, MediaLimits())
    with FrameReader(sent, own, 0) as reader:
        began = time.process_time()
        made.write_bytes(fit_background(reader, own, shown, "loop"))
        spent_s = time.process_time() - began
    info = fitted_info(own, shown, "loop")
    return SourceVideo(made.name, info), 1000 * spent_s / info.num_frames


def _rendering_ms(studio: Studio, shown: ShownAvatar, session_id: str) -> float:
    share = asyncio.run(measure_cost(studio.renderer, session_id, shown, studio.config.live))
    return 1000 * share / float(shown.avatar.source.info.fps)


def _decoding_ms(path: Path, info: VideoInfo) -> float:
    frames = Playback().source_frames(range(_NUM_DECODED), info.num_frames).tolist()
    with FrameReader(path, info, RenderConfig().reader_cache_bytes) as reader:
        began = time.process_time()
        source = MatteFrames(reader) if path.name == "matte.mp4" else reader
        for _ in source.read(frames):
            pass
        return (time.process_time() - began) * 1000 / _NUM_DECODED


if __name__ == "__main__":
    main()
