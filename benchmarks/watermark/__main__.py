"""The invisible watermark: visibility, cost, robustness and false positives.

    python -m benchmarks.watermark robustness --clips FOLDER
    python -m benchmarks.watermark false-positives --clips FOLDER
    python -m benchmarks.watermark cost

The clips are not part of this repository (benchmarks/README.md): one video to a .mp4 file, without watermarks.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NamedTuple

import av
import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.analysis import analyse
from benchmarks.in_process import render_staged
from benchmarks.material import find_clips, make_avatar, make_speech
from benchmarks.report import print_table
from benchmarks.watermark.attacks import ATTACKS, COLOUR, Clip
from lipwright.config import MediaLimits, RenderConfig
from lipwright.media.output.backdrop import Cutout
from lipwright.media.output.formats import FORMATS, Quality
from lipwright.media.output.framing import OutputSize
from lipwright.media.output.picture import PictureMaker, YuvaFrame
from lipwright.media.probe import VideoInfo, probe_video
from lipwright.media.reader import FrameReader
from lipwright.media.watermark.code import IDENTIFIER_BYTES, most_likely_words, read_word
from lipwright.media.watermark.detector import NUM_CANDIDATES, detect_watermark
from lipwright.media.watermark.embedder import MAX_LEVELS, NUM_SLOTS, InvisibleWatermark, Pattern, slot_of
from lipwright.media.watermark.observation import NO_ZOOM, Observation
from lipwright.media.watermark.region import WHOLE_FRAME, region_around
from lipwright.media.watermark.search import ZOOMS, Fields, GridSearch, aligned_cells
from lipwright.media.writer import SegmentWriter
from lipwright.media.yuv_frame import YuvFrame, to_rgb
from models.matting.person import PersonSegmenter
from models.matting.report import person_box, presence

WINDOW_SECONDS = 10.0
_HOP_SECONDS = 2.5
_REGIONS = ((0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 0.8, 0.9), (0.15, 0.1, 1.0, 1.0))  # x0, y0, x1, y1 of the frame
_CACHE_BYTES = 256 * 1024**2
_SSIM_CONSTANTS = (0.01 * 255) ** 2, (0.03 * 255) ** 2
app = typer.Typer(add_completion=False)
_Clips = Annotated[list[Path], typer.Option(help="Folders of .mp4 files.")]


class Window(NamedTuple):
    """Part of a clip, played back and forth if the clip is shorter."""

    path: Path
    info: VideoInfo
    start: int
    num_frames: int

    def lumas_and_chroma(self) -> Iterator[YuvFrame]:
        """Yields its frames."""
        last = self.info.num_frames - 1
        indices = [abs((index + last) % max(2 * last, 1) - last) for index in range(self.start, self.stop)]
        with FrameReader(self.path, self.info, _CACHE_BYTES) as reader:
            yield from reader.read(indices)

    @property
    def stop(self) -> int:
        return self.start + self.num_frames


def windows(clips: list[Path], hop_seconds: float, max_lines: int = 10_000) -> list[Window]:
    """Return windows of all clips; a clip that is shorter than a window gives one."""
    found: list[Window] = []
    for path in (clip.path for clip in find_clips(*clips)):
        info = probe_video(path, MediaLimits())
        num = round(WINDOW_SECONDS * info.fps)
        starts = range(0, max(info.num_frames - num, 0) + 1, round(hop_seconds * info.fps))
        if info.height <= max_lines:
            found.extend(Window(path, info, start, num) for start in starts)
    return found


@app.command()
def robustness(
    clips: _Clips,
    max_lines: Annotated[int, typer.Option(help="Skip larger clips.")] = 1280,
    only: Annotated[list[str] | None, typer.Option(help="Names of attacks; default: all.")] = None,
    quality: Annotated[Quality, typer.Option(help="Of the encoding of the marked video.")] = "balanced",
) -> None:
    """Mark and encode windows as a job does, attack each, and print how many are detected."""
    chosen = {name: attack for name, attack in ATTACKS.items() if not only or name in only}
    found: dict[str, list[float]] = {name: [] for name in chosen}
    spent_s: dict[str, list[float]] = {name: [] for name in chosen}
    seen = []
    with tempfile.TemporaryDirectory() as folder:
        for window in windows(clips, WINDOW_SECONDS, max_lines):
            identifier = hashlib.sha256(f"{window.path.name} {window.start}".encode()).digest()[:IDENTIFIER_BYTES]
            result, visibility = _encode_marked(window, identifier, Path(folder), quality)
            seen.append(visibility)
            for name, attack in chosen.items():
                out = Path(folder) / "attacked.mkv"
                attack.apply(_over_colour(window, identifier) if attack.is_transparent else result, out)
                start = time.process_time()
                detection = detect_watermark(out, MediaLimits())
                spent_s[name].append(time.process_time() - start)
                found[name].append(detection.confidence if detection.identifier == identifier.hex() else 0.0)
            received = " ".join(f"{found[name][-1]:.2f}" for name in chosen)
            print(f"{window.path.stem} {window.start}: {visibility} {received}", flush=True)
    rows = []
    for name, shares in found.items():
        hits = [share for share in shares if share]
        share, target = len(hits) / len(shares), "95 %" if chosen[name].is_target else "-"
        counts = str(len(hits)), str(len(shares)), f"{share:.0%}"
        rows.append((name, *counts, f"{np.mean(hits or [0.0]):.0%}", f"{np.mean(spent_s[name]):.1f}", target))
    print_table(("attack", "detected", "of", "share", "bits received correctly", "CPU seconds", "target"), rows)
    mean = Visibility(*np.mean(seen, axis=0))
    print(f"mean of {len(seen)} windows: {mean}; worst PSNR {min(each.psnr for each in seen):.1f} dB")


class Visibility(NamedTuple):
    """How much the watermark changes the luma before encoding, and the size of the encoded file."""

    psnr: float
    ssim: float
    size: float

    def __str__(self) -> str:
        return f"PSNR {self.psnr:.1f} dB, SSIM {self.ssim:.4f}, size x {self.size:.3f}"


def _encode_marked(window: Window, identifier: bytes, folder: Path, quality: Quality) -> tuple[Clip, Visibility]:
    """Encodes a window as a job does, with and without the watermark."""
    render, info = RenderConfig(), window.info
    mark = InvisibleWatermark(info, identifier)
    plain, marked = (SegmentWriter(info, render.crf, render.preset, quality=quality) for _ in range(2))
    errors, similarities = [], []
    for number, planes in enumerate(window.lumas_and_chroma()):
        changed = YuvFrame(planes.y.copy(), planes.u, planes.v)
        mark.draw(changed)
        plain.write(planes)
        marked.write(changed)
        errors.append(float(np.mean((changed.y.astype(np.float32) - planes.y) ** 2)))
        if number % 25 == 0:
            similarities.append(_similarity(planes.y, changed.y))
    content, path = marked.finish(), folder / "marked.mp4"
    path.write_bytes(content)
    visibility = Visibility(
        10 * np.log10(255**2 / np.mean(errors)), float(np.mean(similarities)), len(content) / len(plain.finish())
    )
    result = probe_video(path, MediaLimits())
    with FrameReader(path, result, _CACHE_BYTES) as reader:
        frames = [to_rgb(planes, result.colour) for planes in reader.read(range(result.num_frames))]
    return Clip(frames, result.fps), visibility


def _over_colour(window: Window, identifier: bytes) -> Clip:
    """Encodes a window as a transparent MOV, as a job does, and puts it in front of a colour."""
    render, info = RenderConfig(), replace(window.info, rotation=0)
    segment, frames = PersonSegmenter(num_threads=1), []
    for planes in window.lumas_and_chroma():
        matte = cv2.resize(segment(planes, info.colour), (info.width, info.height))
        frames.append(YuvaFrame.of(planes, np.rint(255 * matte).astype(np.uint8)))
    box = person_box(np.mean([presence(frame.alpha) for frame in frames], axis=0))
    region = WHOLE_FRAME if box is None else region_around(box)
    mark = InvisibleWatermark(info, identifier, flat_levels=MAX_LEVELS, region=region)
    draw = PictureMaker(OutputSize().framing(info), composite=Cutout(None)).draw
    writer = SegmentWriter(info, render.crf, render.preset, file_format=FORMATS["mov"], has_alpha=True, draw=draw)
    for frame in frames:
        writer.write(frame, marks=[mark])
    composed, colour = [], np.asarray(COLOUR, np.float32)
    with av.open(io.BytesIO(writer.finish()), "r") as container:
        for decoded in container.decode(video=0):
            picture = decoded.to_ndarray(format="rgba").astype(np.float32)
            opacity = picture[..., 3:] / 255
            composed.append(np.rint(picture[..., :3] * opacity + colour * (1 - opacity)).astype(np.uint8))
    return Clip(composed, info.fps)


def _similarity(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Return the mean structural similarity (Wang et al. 2004, Gaussian window of 1.5 pixels)."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    mean_a, mean_b = _smooth(a), _smooth(b)
    variance_a, variance_b = _smooth(a * a) - mean_a**2, _smooth(b * b) - mean_b**2
    covariance = _smooth(a * b) - mean_a * mean_b
    c1, c2 = _SSIM_CONSTANTS
    ratio = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float(np.mean(ratio / ((mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2))))


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(cv2.GaussianBlur(values, (11, 11), 1.5), np.float64)


@app.command()
def false_positives(
    clips: _Clips,
    num: Annotated[int, typer.Option(min=1, help="Windows; each unmarked one is searched for several keys.")] = 10_000,
    max_lines: Annotated[int, typer.Option(help="Skip larger clips.")] = 1280,
) -> None:
    """Search unmarked video with many keys and print the finds, and how often one byte of the CRC fits by chance.

    It fits 1 in 256 words if wrong words are random, as the analysis assumes.
    """
    regions = [(window, region) for window in windows(clips, _HOP_SECONDS, max_lines) for region in _REGIONS]
    per_region = -(-num // len(regions))
    num_searched = num_words = num_bytes_right = num_found = 0
    start = time.process_time()
    for number, (window, region) in enumerate(regions):
        fields = _fields(window, region)
        for key in range(per_region):
            pattern = Pattern(b"unmarked %d %d" % (number, key))
            search = GridSearch(pattern)
            cells = np.concatenate(
                [
                    aligned_cells(fields, search.unmoved(fields[NO_ZOOM])),
                    aligned_cells(fields, search.moved(fields, NUM_CANDIDATES)),
                ]
            )
            for slot in range(NUM_SLOTS):
                # Alignments that hardly differ give the same word: it is one trial.
                for word in set(most_likely_words(pattern.soft_bits(cells, slot))):
                    identifier = read_word(word)
                    num_words += 1
                    num_bytes_right += read_word(word, num_crc_bytes=1) is not None
                    num_found += identifier is not None and slot_of(identifier) == slot
            num_searched += 1
        print(
            f"{num_searched} windows, {num_words} words decoded: {num_found} found; one byte of the CRC right: "
            f"{num_bytes_right}, expected {num_words / 256:.0f} ({time.process_time() - start:.0f} s CPU)",
            flush=True,
        )


def _fields(window: Window, region: tuple[float, float, float, float]) -> Fields:
    seen = Observation()
    for number, planes in enumerate(window.lumas_and_chroma()):
        height, width = planes.y.shape
        x0, y0, x1, y1 = (round(share * side) for share, side in zip(region, (width, height) * 2, strict=True))
        seen.add(planes.y[y0:y1, x0:x1], number / float(window.info.fps))
    span = seen.spans(2 * WINDOW_SECONDS)[0]
    return {zoom: seen.fields(span, zoom) for zoom in ZOOMS}


@app.command()
def cost(seconds: Annotated[float, typer.Option(min=1)] = 8.0) -> None:
    """Print the CPU time of the watermark as a share of a job's, both measured in this run."""
    for width, height in ((512, 512), (1920, 1080)):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            video = make_avatar(width, height, seconds, folder)
            avatar, _ = analyse(video, folder / "avatar")
            job_ms = sum(render_staged(avatar, make_speech(seconds, folder), folder).cpu_ms.values())
            info = probe_video(video, MediaLimits())
            mark, mark_s = InvisibleWatermark(info, bytes(IDENTIFIER_BYTES)), 0.0
            with FrameReader(video, info, _CACHE_BYTES) as reader:
                for planes in reader.read(range(info.num_frames)):
                    copy = YuvFrame(planes.y.copy(), planes.u, planes.v)
                    start = time.process_time()
                    mark.draw(copy)
                    mark_s += time.process_time() - start
            mark_ms = 1000 * mark_s / info.num_frames
            share = mark_ms / job_ms
            print(
                f"{width}x{height}: {mark_ms:.2f} ms of {job_ms:.1f} ms per frame, {share:.1%} of the job", flush=True
            )


if __name__ == "__main__":
    app()
