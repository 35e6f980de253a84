"""Measures mattes: `python -m benchmarks.matting CLIP...` for any clips, and against the truth where there is a screen.

A clip with a green or blue screen is keyed, which is taken for the truth, and the person is put in front of a moving
pattern. The matte of that film is compared with the truth, and so is the segmentation network's own output, enlarged
linearly. Figures are means over all frames:

* error: mean absolute difference of alpha, in thousandths;
* gradient: mean absolute difference of the magnitudes of the gradients of alpha, in thousandths, within the band of
  pixels around the outline;
* flicker: how much alpha changes from one frame to the next, in thousandths, in pixels of that band that do not change
  in the film and in the truth;
* rim: mean absolute difference of luma, in levels, in that band, of the person in front of white from the same with the
  true matte and colours. Of the network's output, the film itself is blended.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.matting.errors import compare, rim
from config import PipelineConfig
from media.matte.foreground import Foreground, ScreenColour
from media.matte.matte_video import MatteWriter
from media.probe import ColourTags, VideoInfo, probe_video
from media.reader import FrameReader
from media.yuv_frame import YuvFrame, from_rgb
from models.avatar.avatar import own_track
from models.face.choice import FaceChoice
from models.matting.generator import MatteGenerator, shares_of
from models.matting.head import Heads
from models.matting.person import PersonSegmenter
from models.track.square_pixels import pixel_aspect
from models.track.tracker import FaceTracker

_CACHE_BYTES = 2**28


class Clip(NamedTuple):
    """A film and where the head is in it."""

    name: str
    info: VideoInfo
    frames: list[YuvFrame]
    heads: Heads


def read_clip(path: Path, max_frames: int) -> Clip:
    """Reads and tracks a film."""
    config = PipelineConfig()
    info = probe_video(path, config.limits)
    with FrameReader(path, info, _CACHE_BYTES) as reader:
        frames = [
            YuvFrame(*(plane.copy() for plane in frame))
            for frame in reader.read(range(min(info.num_frames, max_frames)))
        ]
        tracker = FaceTracker(num_threads=1, device="cpu")
        raw, _ = tracker.track_chunk(frames, info.colour, FaceChoice(), None, pixel_aspect(info))
        track, _ = own_track(raw, reader, info)
    return Clip(path.stem, info, frames, Heads.of(track))


def moving_pattern(width: int, height: int, num_frames: int, colour: ColourTags) -> Iterator[YuvFrame]:
    """Yields a background of coloured shapes of all sizes, which moves."""
    rng, side = np.random.default_rng(7), 2 * max(width, height)
    picture = np.zeros((side, side, 3), np.float32)
    for cell, grey, coloured in ((96, 30, 20), (32, 25, 10), (8, 20, 4), (3, 12, 0)):
        count = -(-side // cell)
        cells = rng.normal(0, grey, (count, count, 1)) + rng.normal(0, coloured, (count, count, 3))
        picture += cv2.resize(cells.astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    picture = np.clip(picture + 120, 0, 255).astype(np.uint8)
    for number in range(num_frames):
        x, y = 2 * number % (side - width), number % (side - height)
        yield from_rgb(np.ascontiguousarray(picture[y : y + height, x : x + width]), colour)


def alphas(
    generator: MatteGenerator, clip: Clip, frames: Sequence[YuvFrame], screen: ScreenColour | None
) -> list[NDArray[np.uint8]]:
    heads = map(clip.heads.at, range(len(frames)))
    return [made.alpha for made in generator.mattes(frames, clip.info.colour, screen, heads, None)]


def raw_network(segmenter: PersonSegmenter, clip: Clip, frames: Sequence[YuvFrame]) -> list[NDArray[np.uint8]]:
    """Returns what the network says of whole frames, enlarged linearly."""
    size = clip.info.width, clip.info.height
    return [
        np.rint(255 * cv2.resize(segmenter(frame, clip.info.colour), size, interpolation=cv2.INTER_LINEAR)).astype(
            np.uint8
        )
        for frame in frames
    ]


def measure_truth(clip: Clip, screen: ScreenColour, segmenter: PersonSegmenter) -> list[str]:
    generator, info = MatteGenerator(segmenter), clip.info
    truths = alphas(generator, clip, clip.frames, screen)
    patterns = moving_pattern(info.width, info.height, len(truths), info.colour)
    film = [
        Foreground(frame, truth, screen).over(behind)
        for frame, truth, behind in zip(clip.frames, truths, patterns, strict=True)
    ]
    white = YuvFrame(*(np.full_like(plane, value) for plane, value in zip(film[0], (235, 128, 128), strict=True)))
    expected = [Foreground(*pair, screen).over(white).y for pair in zip(clip.frames, truths, strict=True)]
    raw, made = raw_network(segmenter, clip, film), alphas(generator, clip, film, None)
    blended = [_blended(frame.y, alpha, white.y) for frame, alpha in zip(film, raw, strict=True)]
    cut_out = [Foreground(*pair).over(white).y for pair in zip(film, made, strict=True)]
    return [
        f"| {clip.name} | {name} | {compare(film, truths, found)} | {rim(shown, expected, truths):.1f} |"
        for name, found, shown in (("network, enlarged", raw, blended), ("matte", made, cut_out))
    ]


def _blended(luma: NDArray[np.uint8], alpha: NDArray[np.uint8], behind: NDArray[np.uint8]) -> NDArray[np.uint8]:
    share = alpha.astype(np.float32) / 255
    return np.rint(share * luma + (1 - share) * behind).astype(np.uint8)


def measure_cost(clip: Clip, screen: ScreenColour | None, segmenter: PersonSegmenter) -> str:
    """CPU milliseconds of making, cutting out and blending a frame, and bytes of a matte."""
    info, writer, spent = clip.info, MatteWriter(clip.info), [0.0, 0.0, 0.0]
    behind = next(moving_pattern(info.width, info.height, 1, info.colour))
    heads, shares = map(clip.heads.at, range(len(clip.frames))), []
    start = time.process_time()
    mattes = MatteGenerator(segmenter).mattes(clip.frames, info.colour, screen, heads, None)
    for frame, made in zip(clip.frames, mattes, strict=True):
        writer.write(made.alpha)
        shares.append(shares_of(made, screen))
        spent[0] += time.process_time() - start
        start = time.process_time()
        foreground = Foreground(frame, made.alpha, screen)
        spent[1] += time.process_time() - start
        start = time.process_time()
        foreground.over(behind)
        spent[2] += time.process_time() - start
        start = time.process_time()
    num = len(clip.frames)
    costs = " | ".join(f"{1000 * seconds / num:.1f}" for seconds in spent)
    people, uncertain = np.array(shares).sum(0)
    kind = "person" if screen is None else "chroma"
    return (
        f"| {clip.name} | {info.width} x {info.height} | {kind} | {costs} | {len(writer.finish()) / num:.0f} "
        f"| {100 * uncertain / max(people, 1e-6):.1f} % |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--frames", type=int, default=75, help="frames of each clip")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    segmenter = PersonSegmenter(num_threads=1)
    costs, errors = [], []
    for path in options.clips:
        clip = read_clip(path, options.frames)
        screen = MatteGenerator(segmenter).find_screen(clip.frames[:: max(1, len(clip.frames) // 5)], clip.info.colour)
        costs.append(measure_cost(clip, screen, segmenter))
        if screen is not None:
            errors += measure_truth(clip, screen, segmenter)
    print("| clip | size | mode | matte, CPU ms | foreground, CPU ms | blend, CPU ms | bytes | uncertain |")
    print("|---|---|---|---|---|---|---|---|", *costs, sep="\n")
    print("\n| clip | matte | error | gradient | flicker | rim |")
    print("|---|---|---|---|---|---|", *errors, sep="\n")


if __name__ == "__main__":
    main()
