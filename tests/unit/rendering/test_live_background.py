"""Live chunks of the sample portrait in front of another background, cut out by its real matte."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from jobs.messages import Background, MatteRef, SourceVideo
from media.matte import MatteFrames, MatteWriter, join_mattes, matte_info
from media.output.backgrounds import fit_background, fitted_info
from media.reader import FrameReader
from media.yuv_frame import YuvFrame
from models.matting.generator import MatteGenerator
from models.matting.person import Heads, PersonSegmenter
from models.matting.report import MatteReport
from models.speech.stream import SpeechStream
from rendering.live_chunk import LiveChunk, LiveChunkRequest
from tests.unit.media.clips import info_of
from tests.unit.models.still import make_still
from tests.unit.rendering.test_live_renderer import FPS, NUM, Portrait, Studio, pictures


class Live:
    """The portrait, its matte, and a session that idles."""

    def __init__(self, picture: Path, folder: Path) -> None:
        self._folder = folder
        self._studio = Studio(Portrait(picture, folder), folder)
        still, path = make_still(picture), folder / "matte.mp4"
        heads, writer = Heads.of(still.track), MatteWriter(still.info)
        (made,) = MatteGenerator(PersonSegmenter(num_threads=1)).mattes(
            [still.planes], still.info.colour, None, [heads.at(0)], None
        )
        writer.write(made.alpha)
        join_mattes([writer.finish()], path, still.info.fps, 1)
        report = MatteReport(mode="person", screen=None, sha256="", uncertain_share=0)
        self.matte = MatteRef(path.name, matte_info(still.info), report)
        with FrameReader(path, self.matte.info, 2**24) as reader:
            self.alpha = next(MatteFrames(reader).read([0])).y

    def chunk(self, colour: str | None, session_id: str = "s") -> LiveChunk:
        return self._rendered(None if colour is None else Background(self.matte, colour), session_id, 0)

    def before_video(self, first_frame: int) -> LiveChunk:
        """In front of five grey pictures, each lighter than the one before it, as they are stored for sessions."""
        shown, frames = self._studio.ref.source.info, Greys()
        own = info_of(64, 64, num_frames=5, fps=Fraction(FPS), colour=shown.colour)
        (self._folder / "behind.mp4").write_bytes(fit_background(frames, own, shown, "loop"))
        file = SourceVideo("behind.mp4", fitted_info(own, shown, "loop"))
        return self._rendered(Background(self.matte, None, file), "video", first_frame)

    def _rendered(self, background: Background | None, session_id: str, first: int) -> LiveChunk:
        window = SpeechStream().window(first / FPS, (first + NUM) / FPS)
        request = LiveChunkRequest(session_id, self._studio.ref, window, first, NUM, None)
        return asyncio.run(self._studio.renderer.render(replace(request, background=background)))


class Greys:
    """A `FrameSource`."""

    def read(self, indices: Iterable[int]) -> Iterator[YuvFrame]:
        for index in indices:
            yield YuvFrame(
                *(np.full((64 // s, 64 // s), v, np.uint8) for s, v in ((1, 40 + 40 * index), (2, 128), (2, 128)))
            )

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def live(sample_portrait: Path, tmp_path_factory: pytest.TempPathFactory) -> Live:
    return Live(sample_portrait, tmp_path_factory.mktemp("background"))


def _inside(alpha: NDArray[np.uint8], value: int) -> NDArray[np.bool_]:
    """Where alpha has that value, and around it as well: idle motion moves the outline by less."""
    return cv2.erode((alpha == value).astype(np.uint8), np.ones((25, 25), np.uint8)) > 0


def test_render_colour_replaces_only_the_background(live: Live) -> None:
    plain, green = (pictures([live.chunk(colour)], "rgb24") for colour in (None, "#00b140"))
    person, behind = _inside(live.alpha, 255), _inside(live.alpha, 0)
    assert person.mean() > 0.1 and behind[:, [4, -5]].any()
    assert np.abs(green - plain)[:, person].mean() < 2, "but for the encoder"
    assert np.abs(green[:, behind] - (0, 0xB1, 0x40)).mean() < 4, "but for the invisible watermark"
    assert np.abs(plain[:, behind] - (0, 0xB1, 0x40)).mean() > 30


def test_render_blur_softens_only_the_background(live: Live) -> None:
    plain, blurred = (pictures([live.chunk(colour)])[0] for colour in (None, "blur"))
    person, behind = _inside(live.alpha, 255), _inside(live.alpha, 0)
    assert np.abs(blurred - plain)[person].mean() < 1.5
    assert abs(blurred[behind].mean() - plain[behind].mean()) < 5
    sharpness = [np.abs(cv2.Laplacian(each, cv2.CV_64F)[behind]).mean() for each in (plain, blurred)]
    assert sharpness[1] < sharpness[0]


@pytest.mark.parametrize("colour", ["#00b140", "blur"])
def test_render_with_background_is_deterministic(live: Live, colour: str) -> None:
    chunks = [live.chunk(colour) for _ in range(2)]
    assert chunks[0].pictures == chunks[1].pictures
    assert live.chunk(None).pictures != chunks[0].pictures


def test_render_background_video_continues_over_chunks(live: Live) -> None:
    chunks = [live.before_video(first) for first in (0, NUM)]
    person, behind = _inside(live.alpha, 255), _inside(live.alpha, 0)
    shown = pictures(chunks)
    levels = [shown[number][behind].mean() for number in range(2 * NUM)]
    expected = [40 + 40 * (number % 5) for number in range(2 * NUM)]
    assert np.abs(np.subtract(levels, expected)).max() < 3, "but for the invisible watermark"
    assert np.abs(shown[0] - pictures([live.chunk(None)])[0])[person].mean() < 2
    again = pictures([live.before_video(NUM)])
    assert np.abs(again - shown[NUM:]).mean() < 2, "whatever was read before, but for the encoder"
