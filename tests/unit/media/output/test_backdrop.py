from __future__ import annotations

from fractions import Fraction
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.typing import NDArray

from media.matte import ScreenColour
from media.output.backdrop import Backdrop, BlurBackdrop, ColourBackdrop, Cutout, MattedFrames, VideoBackdrop
from media.output.backgrounds import checked_background
from media.output.framing import Framing
from media.output.picture import Canvas, PictureMaker
from media.playback import Playback
from media.probe import ColourTags
from media.yuv_frame import YuvFrame, from_rgb, to_rgb
from tests.unit.media.clips import NumberedFrames, info_of, number_of

W, H = 192, 128
TAGS = ColourTags(1, False, 1, 1)


def _grey(value: int, width: int = W, height: int = H) -> YuvFrame:
    return YuvFrame(*(np.full((height // s, width // s), v, np.uint8) for s, v in ((1, value), (2, 128), (2, 128))))


def _person() -> NDArray[np.uint8]:
    alpha = np.zeros((H, W), np.uint8)
    alpha[32:, 64:128] = 255
    return alpha


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
def test_checked_background_normalizes_names(text: str, expected: str) -> None:
    assert checked_background(text) == expected


@pytest.mark.parametrize("text", ["", "#12", "beach.jpg", "http://example.com/a.png", "rgb(1,2)"])
def test_checked_background_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="background_file"):
        checked_background(text)


@pytest.mark.parametrize("tags", [TAGS, ColourTags(6, True, 6, 6)])
def test_colour_backdrop_is_the_same_in_every_matrix(tags: ColourTags) -> None:
    drawn = ColourBackdrop("#00b140", tags).draw(_grey(90), _person())
    assert np.abs(to_rgb(drawn, tags)[10, 10].astype(int) - [0, 0xB1, 0x40]).max() <= 3


def test_blur_backdrop_is_blurred_without_the_person() -> None:
    frame, alpha = _grey(60), _person()
    frame.y[alpha > 0] = 220
    drawn = BlurBackdrop().draw(frame, alpha)
    assert np.abs(drawn.y.astype(int) - 60).max() <= 3
    rows, columns = np.mgrid[:H, :W] // 12
    frame = _grey(0)._replace(y=np.where((rows + columns) % 2, 60, 180).astype(np.uint8))
    drawn = BlurBackdrop().draw(frame, np.zeros((H, W), np.uint8))
    assert drawn.y.std() < frame.y.std() / 2
    assert abs(float(drawn.y.mean()) - float(frame.y.mean())) < 3


@pytest.mark.parametrize(
    ("fps", "playback", "frames", "expected"),
    [
        (25, Playback("loop"), range(8, 12), [8, 9, 0, 1]),
        (25, Playback("hold"), range(8, 12), [8, 9, 9, 9]),
        (50, Playback("loop", 2.0), range(1, 4), [3, 5, 7]),
    ],
)
def test_video_backdrop_continues_at_its_speed(
    fps: int, playback: Playback, frames: range, expected: list[int]
) -> None:
    backdrop = VideoBackdrop(NumberedFrames(), info_of(W, H, Fraction(fps), 10), TAGS, playback, frames)
    assert [number_of(backdrop.draw(_grey(0), _person())) for _ in expected] == expected


def test_video_backdrop_picture_is_cropped_and_converted() -> None:
    rgb = np.zeros((256, 256, 3), np.uint8)
    rgb[:, :128], rgb[:, 128:] = (200, 30, 30), (20, 20, 160)
    rgb[:60] = rgb[-60:] = (0, 255, 0)  # outside of the part that has the aspect ratio of the frame
    own, wanted = ColourTags(6, True, 6, 6), TAGS
    info = info_of(256, 256, is_still=True, colour=own)
    backdrop = VideoBackdrop(NumberedFrames(from_rgb(rgb, own)), info, wanted, Playback(), range(3))
    for _ in range(3):
        drawn = to_rgb(backdrop.draw(_grey(0, 256, 128), np.zeros((128, 256), np.uint8)), wanted)
        assert np.abs(drawn[64, 60].astype(int) - [200, 30, 30]).max() <= 4
        assert np.abs(drawn[64, 200].astype(int) - [20, 20, 160]).max() <= 4
        assert drawn[8, 60, 1] < 60, "cropped"


@pytest.mark.parametrize("screen", [None, ScreenColour(60.0, 60.0)])
def test_picture_maker_person_is_in_front_of_the_backdrop(screen: ScreenColour | None) -> None:
    alpha, canvas = _person(), Canvas(_grey(0), None)
    matte = YuvFrame(alpha, *_grey(0)[1:])
    frames = MattedFrames(NumberedFrames(_grey(150)), NumberedFrames(matte))
    cutout = Cutout(ColourBackdrop("#000000", TAGS), screen)
    PictureMaker(Framing(W, H, W, H), None, cutout).draw(canvas, next(frames.read([0])), [])
    assert (canvas.planes.y[alpha == 255] == 150).all()
    assert (canvas.planes.y[alpha == 0] == 16).all()


def test_matted_frames_close_closes_both_sources() -> None:
    frames, mattes = Mock(), Mock()
    MattedFrames(frames, mattes).close()
    assert frames.close.call_count == mattes.close.call_count == 1


def test_picture_maker_moving_crop_keeps_the_backdrop() -> None:
    backdrop: Backdrop = VideoBackdrop(
        NumberedFrames(size=(96, 128)), info_of(96, 128, is_still=True), TAGS, Playback(), range(2)
    )
    corners = np.array([[0, 0], [60, 0]], np.float32)
    maker = PictureMaker(Framing(96, 128, 96, 128), corners, Cutout(backdrop))
    pictures = []
    nobody = YuvFrame(np.zeros((H, W), np.uint8), *_grey(0)[1:])
    for frame in MattedFrames(NumberedFrames(), NumberedFrames(nobody)).read([3, 4]):
        canvas = Canvas(_grey(0, 96, 128), None)
        maker.draw(canvas, frame, [])
        pictures.append(canvas.planes.y)
    assert np.array_equal(pictures[0], pictures[1])
