"""CPU time of each step of analysing an avatar, per source frame: `python -m benchmarks.cpu_profile.analysis`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.analysis import AnalysedAvatar, analyse
from benchmarks.cpu_profile.measure import Step, cost, drain, print_steps
from benchmarks.material import make_avatar
from benchmarks.render import SIZES
from benchmarks.yardsticks import decoded_frames
from config import RenderConfig
from media.probe import ColourTags
from media.reader import FrameReader
from media.yuv_frame import YuvFrame, to_rgb
from models.avatar.avatar import Avatar
from models.engines.protocol import Engine
from models.face.appearance import appearance_of
from models.face.choice import FaceChoice
from models.face.landmarks import LandmarkRegion, cut_region
from models.face.occlusion import chroma_of
from models.track.shots import SceneHistory
from models.track.tracker import CHECK_EVERY, FaceTracker
from models.weights import weights_path
from models.weights.onnx_session import make_session

_SECONDS: Final = 12.0
_MESH_MULTIPLICATIONS, _LIPS_MULTIPLICATIONS = 35.0e6, 15.2e6  # of the convolutions of the networks


class _Frames(NamedTuple):
    """Decoded frames. Implements `media.frame_source.FrameSource`."""

    frames: list[YuvFrame]

    def read(self, indices: Iterable[int]) -> Iterator[YuvFrame]:
        """Yields the frames."""
        return (self.frames[index] for index in indices)

    def close(self) -> None:
        """Does nothing."""


def main() -> None:
    """Prints a table for each size."""
    cv2.setNumThreads(0)  # as in a replica
    for width, height in SIZES:
        with tempfile.TemporaryDirectory(prefix="lipwright-profile-") as name:
            folder = Path(name)
            video = make_avatar(width, height, _SECONDS, folder)
            analyse(video, folder / "first")  # loads libraries
            analysed, total = analyse(video, folder / "avatar")
            steps = _measure(analysed, folder)
            fits = width * height * 3 // 2 * analysed.avatar.info.num_frames <= RenderConfig().reader_cache_bytes
        print_steps(f"{width}x{height}: {total:.2f} CPU ms per frame, decoded {'once' if fits else 'twice'}", steps)


def _measure(analysed: AnalysedAvatar, folder: Path) -> list[Step]:
    avatar, info = analysed.avatar, analysed.avatar.info
    num, colour = info.num_frames, info.colour
    with FrameReader(analysed.video, info, 2**40) as reader:
        frames = list(reader.read(range(num)))
        again = cost(num, lambda: drain(reader.read(range(num))))
    source, tracker = _Frames(frames), FaceTracker(num_threads=1, device="cpu")
    choice = FaceChoice.parse("largest")
    raw = tracker.track_chunk(frames, colour, choice, None)[0]
    regions = [LandmarkRegion.of_points(points) for points in raw.points]
    decode = cost(num, lambda: drain(islice(decoded_frames(analysed.video), num)))
    track = cost(num, lambda: tracker.track_chunk(frames, colour, choice, None))
    inside = [
        Step("- cut the face, as RGB", _cut(frames, colour, regions), 0, ""),
        *_networks(num),
        Step("- scene changes", cost(num, lambda: _scenes(frames)), 0, ""),
        Step("- colours around the mouth", cost(num, lambda: drain(map(chroma_of, frames, raw.points))), 0, ""),
        Step("- whose face it is", _appearance(frames, raw.points), 0, f"every {CHECK_EVERY} frames"),
    ]
    rest = Step("- the rest", track - sum(step.ms for step in inside), 0, "")
    build = cost(num, lambda: Avatar.build(folder / "built", info, raw, source))
    return [
        Step("decode, one pass", decode, decode, "FFmpeg alone, one thread"),
        Step("read again, if all frames fit the cache", again, 0, ""),
        Step("track the face", track, sum(step.bound_ms for step in inside), "the networks"),
        *inside,
        rest,
        Step("smooth the track", build, 0, ""),
        Step("engine: collect mouths", cost(num, lambda: _engine(analysed.engine, avatar, source)), 0, ""),
    ]


def _networks(num: int) -> list[Step]:
    """Returns the costs of the networks on a black picture; convolutions cost the same on any other."""
    picture = np.zeros((1, 192, 192, 3), np.float32)
    inputs = {"input_1": picture}, {"picture": picture, "grid": np.zeros((1, 16, 16, 2), np.float32)}
    names = "face_landmark_468.onnx", "lip_landmarks_80.onnx"
    bounds = _MESH_MULTIPLICATIONS, _LIPS_MULTIPLICATIONS
    steps, per_ms = [], _multiplications_per_ms()
    for name, given, bound in zip(names, inputs, bounds, strict=True):
        session = make_session(weights_path(name), num_threads=1, device="cpu")
        ms = cost(num, partial(_repeat, partial(session.run, None, given), num))
        steps.append(Step(f"- {name}", ms, bound / per_ms, "its multiplications at the speed of a matrix product"))
    return steps


def _repeat(work: Callable[[], object], num: int) -> None:
    for _ in range(num):
        work()


def _multiplications_per_ms() -> float:
    """Returns how many multiplications this core does in a product of large float32 matrices."""
    side, num = 512, 8
    matrix = np.ones((side, side), np.float32)
    return side**3 / cost(num, lambda: [matrix @ matrix for _ in range(num)])


def _cut(frames: list[YuvFrame], colour: ColourTags, regions: list[LandmarkRegion]) -> float:
    return cost(
        len(frames),
        lambda: [to_rgb(cut_region(frame, at), colour) for frame, at in zip(frames, regions, strict=True)],
    )


def _scenes(frames: list[YuvFrame]) -> None:
    history = None
    for frame in frames:
        history = SceneHistory.seen(frame, history)


def _appearance(frames: list[YuvFrame], points: NDArray[np.float32]) -> float:
    return cost(len(frames), lambda: drain(map(appearance_of, frames[::CHECK_EVERY], points[::CHECK_EVERY])))


def _engine(engine: Engine, avatar: Avatar, source: _Frames) -> None:
    engine.analyse(avatar, source, None, lambda: False)


if __name__ == "__main__":
    main()
