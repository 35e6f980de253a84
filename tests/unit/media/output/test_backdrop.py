from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from media.matte.foreground import ScreenColour
from media.output.backdrop import Backdrop, BlurBackdrop, ColourBackdrop, VideoBackdrop
from media.output.backgrounds import checked_background
from media.output.cutout import Cutout, MattedFrames
from media.output.framing import Framing
from media.output.picture import Canvas, PictureMaker
from media.playback import Playback
from media.probe import ColourTags
from media.yuv_frame import YuvFrame, from_rgb, to_rgb
from tests.unit.media.clips import info_of, number_of, planes_of

W, H = 192, 128
TAGS = ColourTags(1, False, 1, 1)


def _grey(value: int, width: int = W, height: int = H) -> YuvFrame:
    return YuvFrame(*(np.full((height // s, width // s), v, np.uint8) for s, v in ((1, value), (2, 128), (2, 128))))


def _person() -> NDArray[np.uint8]:
    alpha = np.zeros((H, W), np.uint8)
    alpha[32:, 64:128] = 255
    return alpha


class _Frames:
    """A `FrameSource` of numbered pictures, or of one matte."""

    def __init__(self, frame: YuvFrame | None = None, size: tuple[int, int] = (W, H)) -> None:
        self._frame, self._size = frame, size
        self.is_closed = False

    def read(self, indices: Iterable[int]) -> Iterator[YuvFrame]:
        for index in indices:
            yield self._frame or planes_of(index, *self._size)

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#00B140", "#00b140"),
        ("white", "#ffffff"),
        (" Blur ", "blur"),
        ("transparent", "transparent"),
        ("#fff", "#ffffff"),
    ],
)
def test_backgrounds_by_name(text: str, expected: str) -> None:
    assert checked_background(text) == expected


@pytest.mark.parametrize("text", ["", "#12", "beach.jpg", "http://example.com/a.png", "rgb(1,2)"])
def test_other_backgrounds_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="background_file"):
        checked_background(text)


@pytest.mark.parametrize("tags", [TAGS, ColourTags(6, True, 6, 6)])
def test_a_colour_is_the_same_in_every_matrix(tags: ColourTags) -> None:
    drawn = ColourBackdrop("#00b140", tags).draw(_grey(90), _person())
    assert np.abs(to_rgb(drawn, tags)[10, 10].astype(int) - [0, 0xB1, 0x40]).max() <= 3


def test_a_blurred_background_does_not_contain_the_person() -> None:
    frame, alpha = _grey(60), _person()
    frame.y[alpha > 0] = 220
    drawn = BlurBackdrop().draw(frame, alpha)
    assert np.abs(drawn.y.astype(int) - 60).max() <= 3


def test_a_blurred_background_is_blurred() -> None:
    rows, columns = np.mgrid[:H, :W] // 12
    frame = _grey(0)._replace(y=np.where((rows + columns) % 2, 60, 180).astype(np.uint8))
    drawn = BlurBackdrop().draw(frame, np.zeros((H, W), np.uint8))
    assert drawn.y.std() < frame.y.std() / 2
    assert abs(float(drawn.y.mean()) - float(frame.y.mean())) < 3


@pytest.mark.parametrize(("after_end", "expected"), [("loop", [8, 9, 0, 1]), ("hold", [8, 9, 9, 9])])
def test_a_video_goes_on_from_segment_to_segment(after_end: str, expected: list[int]) -> None:
    info = info_of(W, H, num_frames=10)
    playback = Playback(after_end)  # type: ignore[arg-type]
    backdrop = VideoBackdrop(_Frames(), info, TAGS, playback, range(8, 12))
    assert [number_of(backdrop.draw(_grey(0), _person())) for _ in expected] == expected


def test_a_video_of_another_rate_keeps_its_speed() -> None:
    info = info_of(W, H, fps=Fraction(50), num_frames=100)
    backdrop = VideoBackdrop(_Frames(), info, TAGS, Playback("loop", 2.0), range(10, 13))
    assert [number_of(backdrop.draw(_grey(0), _person())) for _ in range(3)] == [21, 23, 25]


def test_a_picture_fills_the_frame_without_distortion_in_the_colours_of_the_source() -> None:
    rgb = np.zeros((256, 256, 3), np.uint8)
    rgb[:, :128], rgb[:, 128:] = (200, 30, 30), (20, 20, 160)
    rgb[:60] = rgb[-60:] = (0, 255, 0)  # outside of the part that has the aspect ratio of the frame
    own, wanted = ColourTags(6, True, 6, 6), TAGS
    info = info_of(256, 256, is_still=True, colour=own)
    backdrop = VideoBackdrop(_Frames(from_rgb(rgb, own)), info, wanted, Playback(), range(3))
    for _ in range(3):
        drawn = to_rgb(backdrop.draw(_grey(0, 256, 128), np.zeros((128, 256), np.uint8)), wanted)
        assert np.abs(drawn[64, 60].astype(int) - [200, 30, 30]).max() <= 4
        assert np.abs(drawn[64, 200].astype(int) - [20, 20, 160]).max() <= 4
        assert drawn[8, 60, 1] < 60, "cropped"


@pytest.mark.parametrize("screen", [None, ScreenColour(60.0, 60.0)])
def test_the_person_is_shown_before_the_background(screen: ScreenColour | None) -> None:
    alpha, canvas = _person(), Canvas(_grey(0), None)
    matte = YuvFrame(alpha, *_grey(0)[1:])
    frames = MattedFrames(_Frames(_grey(150)), _Frames(matte))
    cutout = Cutout(ColourBackdrop("#000000", TAGS), screen)
    PictureMaker(Framing(W, H, W, H), None, cutout).draw(canvas, next(frames.read([0])), [])
    assert (canvas.planes.y[alpha == 255] == 150).all()
    assert (canvas.planes.y[alpha == 0] == 16).all()


def test_the_background_stays_where_it_is_while_the_crop_moves() -> None:
    backdrop: Backdrop = VideoBackdrop(
        _Frames(size=(96, 128)), info_of(96, 128, is_still=True), TAGS, Playback(), range(2)
    )
    corners = np.array([[0, 0], [60, 0]], np.float32)
    maker = PictureMaker(Framing(96, 128, 96, 128), corners, Cutout(backdrop))
    pictures = []
    nobody = YuvFrame(np.zeros((H, W), np.uint8), *_grey(0)[1:])
    for frame in MattedFrames(_Frames(), _Frames(nobody)).read([3, 4]):
        canvas = Canvas(_grey(0, 96, 128), None)
        maker.draw(canvas, frame, [])
        pictures.append(canvas.planes.y)
    assert np.array_equal(pictures[0], pictures[1])


def test_both_readers_are_closed() -> None:
    frames, mattes = _Frames(), _Frames()
    MattedFrames(frames, mattes).close()
    assert frames.is_closed and mattes.is_closed
