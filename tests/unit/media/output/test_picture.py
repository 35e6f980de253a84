from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.errors import MediaLimitError
from lipwright.media.matte import ScreenColour
from lipwright.media.output.backdrop import BlurBackdrop, ColourBackdrop, Cutout, MattedFrames, VideoBackdrop
from lipwright.media.output.backgrounds import (
    check_length,
    checked_background,
    fit_background,
    fitted_info,
    playback_of,
)
from lipwright.media.output.crop_path import FaceBoxes, crop_path
from lipwright.media.output.dynamic_range import to_range
from lipwright.media.output.framing import Framing, OutputSize, check_same_aspect, output_info, parse_aspect, parse_size
from lipwright.media.output.picture import Canvas, PictureMaker, YuvaFrame
from lipwright.media.playback import AfterEnd, Playback
from lipwright.media.probe import ColourTags, VideoInfo, probe_video
from lipwright.media.yuv_frame import Patch, YuvFrame, cut, from_rgb, to_rgb
from tests.unit.media.clips import LIMITS, NumberedFrames, flat_planes, info_of, number_of, planes_of, read_frames

SDR = ColourTags(1, False, 1, 1)
PQ, HLG = ColourTags(9, False, 9, 16), ColourTags(9, False, 9, 18)


def test_to_range_same_range_returns_the_picture() -> None:
    rgb = np.full((2, 2, 3), (9, 200, 40), np.uint8)
    assert to_range(rgb, SDR, ColourTags(6, True, 2, 2)) is rgb


@pytest.mark.parametrize(
    ("hdr", "white", "highlights"), [(PQ, 0.58, (0.55, 0.58, 0.62, 0.66)), (HLG, 0.75, (0.70, 0.75, 0.80, 0.85))]
)
def test_to_range_hdr_has_reference_white_and_same_colours(
    hdr: ColourTags, white: float, highlights: tuple[float, ...]
) -> None:
    assert np.abs(to_range(np.full((2, 2, 3), 255, np.uint8), SDR, hdr) / 255 - white).max() < 0.005
    levels = np.linspace(0, 200, 6).astype(np.uint8)  # below the knee
    rgb = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(6, 36, 3)
    off = np.abs(to_range(to_range(rgb, SDR, hdr), hdr, SDR).astype(int) - rgb)
    assert off.mean() < 3 and off[np.ptp(rgb, -1) == 0].max() <= 4, "greys"
    assert off.max() < 30  # one level of eight-bit HDR, in the dark channel of a saturated colour
    rgb = np.repeat(np.rint(255 * np.array(highlights)).astype(np.uint8)[None, :, None], 3, 2)
    shown = to_range(rgb, hdr, SDR)[0, :, 1].astype(int)
    assert (np.diff(shown) > 0).all() and shown[1] > 240 and shown[-1] <= 255, "highlights are compressed"


W, H = 192, 128


def _canvas(width: int, height: int, *, has_alpha: bool = False) -> Canvas:
    alpha = np.zeros((height, width), np.uint8) if has_alpha else None
    return Canvas(flat_planes(width, height, 0, 0, 0), alpha)


def _patch(frame: YuvFrame, x: int, y: int, size: int) -> Patch:
    planes = cut(frame, x, y, size)
    return Patch(x, y, YuvFrame(np.full_like(planes.y, 200), planes.u, planes.v))


def test_picture_maker_crop_has_the_patch() -> None:
    frame, canvas = planes_of(5, W, H), _canvas(64, 128)
    maker = PictureMaker(Framing(64, 128, 64, 128), np.array([[40, 0], [60, 0]], np.float32))
    patch = _patch(frame, 80, 20, 40)  # partly outside of the crop
    for x in (40, 60):
        maker.draw(canvas, frame, [patch])
        expected = frame.y[:, x : x + 64].copy()
        left = 80 - x
        expected[20:60, left : left + 40] = 200
        assert np.array_equal(canvas.planes.y, expected)
        assert np.array_equal(canvas.planes.u, frame.u[:, x // 2 : x // 2 + 32])
    assert (frame.y == planes_of(5, W, H).y).all(), "the frame of the source is not changed"


def test_picture_maker_subpixel_crop_moves_all_planes() -> None:
    columns = np.broadcast_to(np.arange(W, dtype=np.uint8), (H, W))
    frame = YuvFrame(columns, columns[: H // 2, : W // 2] * 2, columns[: H // 2, : W // 2] * 2)
    canvas = _canvas(64, 128)
    PictureMaker(Framing(64, 128, 64, 128), np.array([[41.5, 0]], np.float32)).draw(canvas, frame, [])
    assert np.abs(canvas.planes.y[64].astype(float) - (41.5 + np.arange(64))).max() <= 0.5
    assert np.abs(canvas.planes.u[32].astype(float) - 2 * (20.75 + np.arange(32))).max() <= 0.5


@pytest.mark.parametrize("size", [(96, 64), (288, 192)])
def test_picture_maker_scaling_keeps_brightness(size: tuple[int, int]) -> None:
    frame, canvas = planes_of(9, W, H), _canvas(*size)
    PictureMaker(Framing(W, H, *size)).draw(canvas, frame, [])
    for plane, scaled in zip(frame, canvas.planes, strict=True):
        assert abs(float(plane.mean()) - float(scaled.mean())) < 0.5


def test_picture_maker_alpha_is_cropped_and_scaled() -> None:
    alpha = np.zeros((H, W), np.uint8)
    alpha[:, 96:] = 255
    canvas = _canvas(64, 64, has_alpha=True)
    maker = PictureMaker(Framing(128, 128, 64, 64), np.array([[32, 0]], np.float32))
    maker.draw(canvas, YuvaFrame.of(planes_of(1, W, H), alpha), [])
    assert canvas.alpha is not None
    assert (canvas.alpha[:, :32] == 0).all() and (canvas.alpha[:, 32:] == 255).all()


def _person() -> NDArray[np.uint8]:
    alpha = np.zeros((H, W), np.uint8)
    alpha[32:, 64:128] = 255
    return alpha


def test_checked_background_normalizes_names_and_colours() -> None:
    names = {"#00B140": "#00b140", "white": "#ffffff", " Blur ": "blur", "transparent": "transparent"}
    names |= {"#fff": "#ffffff", "rgb(300, 0, 0)": "#ff0000", "hsl(0, 300%, 50%)": "#ff0000"}
    assert {text: checked_background(text) for text in names} == names
    for other in ("", "#12", "beach.jpg", "http://example.com/a.png", "rgb(1,2)"):
        with pytest.raises(ValueError, match="background_file"):
            checked_background(other)


@pytest.mark.parametrize("tags", [SDR, ColourTags(6, True, 6, 6)])
def test_colour_backdrop_is_the_same_in_every_matrix(tags: ColourTags) -> None:
    drawn = ColourBackdrop("#00b140", tags).draw(flat_planes(W, H, 90), _person())
    assert np.abs(to_rgb(drawn, tags)[10, 10].astype(int) - [0, 0xB1, 0x40]).max() <= 3


def test_blur_backdrop_is_blurred_without_the_person() -> None:
    frame, alpha = flat_planes(W, H, 60), _person()
    frame.y[alpha > 0] = 220
    drawn = BlurBackdrop().draw(frame, alpha)
    assert np.abs(drawn.y.astype(int) - 60).max() <= 3
    rows, columns = np.mgrid[:H, :W] // 12
    frame = flat_planes(W, H, 0)._replace(y=np.where((rows + columns) % 2, 60, 180).astype(np.uint8))
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
def test_video_backdrop_continues_at_speed(fps: int, playback: Playback, frames: range, expected: list[int]) -> None:
    backdrop = VideoBackdrop(NumberedFrames(), info_of(W, H, Fraction(fps), 10), SDR, playback, frames)
    assert [number_of(backdrop.draw(flat_planes(W, H, 0), _person())) for _ in expected] == expected


def test_video_backdrop_picture_is_cropped_and_converted() -> None:
    rgb = np.zeros((256, 256, 3), np.uint8)
    rgb[:, :128], rgb[:, 128:] = (200, 30, 30), (20, 20, 160)
    rgb[:60] = rgb[-60:] = (0, 255, 0)  # outside of the part that has the aspect ratio of the frame
    own, wanted = ColourTags(6, True, 6, 6), SDR
    info = info_of(256, 256, is_still=True, colour=own)
    backdrop = VideoBackdrop(NumberedFrames(from_rgb(rgb, own)), info, wanted, Playback(), range(3))
    for _ in range(3):
        drawn = to_rgb(backdrop.draw(flat_planes(256, 128, 0), np.zeros((128, 256), np.uint8)), wanted)
        assert np.abs(drawn[64, 60].astype(int) - [200, 30, 30]).max() <= 4
        assert np.abs(drawn[64, 200].astype(int) - [20, 20, 160]).max() <= 4
        assert drawn[8, 60, 1] < 60, "cropped"


@pytest.mark.parametrize("screen", [None, ScreenColour(60.0, 60.0)])
def test_picture_maker_person_is_in_front_of_the_backdrop(screen: ScreenColour | None) -> None:
    alpha, canvas = _person(), _canvas(W, H)
    matte = flat_planes(W, H, 0)._replace(y=alpha)
    frames = MattedFrames(NumberedFrames(flat_planes(W, H, 150)), NumberedFrames(matte))
    cutout = Cutout(ColourBackdrop("#000000", SDR), screen)
    PictureMaker(Framing(W, H, W, H), None, cutout).draw(canvas, next(frames.read([0])), [])
    assert (canvas.planes.y[alpha == 255] == 150).all()
    assert (canvas.planes.y[alpha == 0] == 16).all()


def test_matted_frames_close_closes_both_sources() -> None:
    frames, mattes = Mock(), Mock()
    MattedFrames(frames, mattes).close()
    assert frames.close.call_count == mattes.close.call_count == 1


def test_picture_maker_moving_crop_keeps_the_backdrop() -> None:
    behind = VideoBackdrop(NumberedFrames(size=(96, 128)), info_of(96, 128, is_still=True), SDR, Playback(), range(2))
    corners = np.array([[0, 0], [60, 0]], np.float32)
    maker = PictureMaker(Framing(96, 128, 96, 128), corners, Cutout(behind))
    first, second = _canvas(96, 128), _canvas(96, 128)
    nobody = MattedFrames(NumberedFrames(), NumberedFrames(flat_planes(W, H, 0)))
    for canvas, frame in zip((first, second), nobody.read([3, 4]), strict=True):
        maker.draw(canvas, frame, [])
    assert np.array_equal(first.planes.y, second.planes.y)


SHOWN = info_of(192, 128, num_frames=300)


def _shown(own: VideoInfo, after_end: AfterEnd, num_frames: int, path: Path, source: NumberedFrames) -> list[YuvFrame]:
    """The first frames that a session shows of a background."""
    path.write_bytes(fit_background(source, own, SHOWN, after_end))
    info = fitted_info(own, SHOWN, after_end)
    found = probe_video(path, LIMITS)
    assert (found.width, found.height, found.fps) == (SHOWN.width, SHOWN.height, SHOWN.fps)
    assert (found.num_frames, found.colour) == (info.num_frames, SHOWN.colour)
    return read_frames(path, playback_of(after_end).source_frames(range(num_frames), info.num_frames).tolist())


@pytest.mark.parametrize(
    ("fps", "num_frames", "after_end", "expected"),
    [
        (50, 20, "loop", [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 1, 3]),
        (50, 20, "hold", [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 19, 19]),
        (50, 20, "pingpong", [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1, 3]),
        (10, 2, "loop", [0, 0, 1, 1, 1, 0]),
    ],
)
def test_fit_background_video_has_rate_of_session(
    fps: int, num_frames: int, after_end: AfterEnd, expected: list[int], tmp_path: Path
) -> None:
    own, source = info_of(384, 256, Fraction(fps), num_frames), NumberedFrames(size=(384, 256))
    frames = _shown(own, after_end, len(expected), tmp_path / "fitted.mp4", source)
    assert [number_of(frame) for frame in frames] == expected


def test_fit_background_picture_keeps_its_colours(tmp_path: Path) -> None:
    own = info_of(384, 256, is_still=True, colour=ColourTags(6, True, 6, 6))
    rgb = np.full((256, 384, 3), (200, 30, 40), np.uint8)
    first, second = _shown(own, "loop", 2, tmp_path / "fitted.mp4", NumberedFrames(from_rgb(rgb, own.colour)))
    assert np.array_equal(first.y, second.y)
    assert np.abs(to_rgb(first, SHOWN.colour)[64, 96].astype(int) - [200, 30, 40]).max() <= 5


def test_check_length_long_video_is_refused() -> None:
    check_length(info_of(64, 64, num_frames=1500, fps=Fraction(25)), 60)
    check_length(info_of(64, 64, is_still=True), 0.01)
    with pytest.raises(MediaLimitError, match="at most 60 s"):
        check_length(info_of(64, 64, num_frames=1600, fps=Fraction(25)), 60)


def test_framing_crops_to_the_aspect() -> None:
    full = (1920, 1080)
    for size, crop in {None: full, (640, 360): full, (1080, 1920): (608, 1080), (854, 480): full}.items():
        assert OutputSize(size).framing(info_of(1920, 1080)) == Framing(*crop, *(size or crop))
    for aspect, crop in {Fraction(9, 16): (608, 1080), Fraction(1): (1080, 1080), Fraction(4): (1920, 480)}.items():
        assert OutputSize(None, aspect).framing(info_of(1920, 1080)) == Framing(*crop, *crop)


def test_framing_with_size_has_square_pixels() -> None:
    info = info_of(720, 576, sample_aspect_ratio=Fraction(16, 11))  # shown as 1047 x 576
    wide = OutputSize((1048, 576)).framing(info)
    assert (wide.crop_width, wide.crop_height) == (720, 576)
    assert output_info(info, wide, None).sample_aspect_ratio == 1
    narrow = OutputSize(None, Fraction(9, 16)).framing(info)
    assert abs(narrow.crop_width * 16 / 11 / narrow.crop_height - 9 / 16) < 0.01
    assert output_info(info, narrow, None).sample_aspect_ratio == Fraction(16, 11)


@pytest.mark.parametrize(("fps", "expected"), [(None, 25), (29.97, Fraction(30000, 1001)), (50, 50), (12.5, 12.5)])
def test_output_info_frame_rate_is_exact(fps: float | None, expected: Fraction) -> None:
    info = info_of(192, 128)
    assert output_info(info, OutputSize().framing(info), fps).fps == expected


def test_parse_size_and_aspect_invalid_text_is_refused() -> None:
    sizes = "|1080|1080x|0x0|1081x1920|32x32|8000x8000|4000x400|1e3x2e3|-2x2|1080x1920x2"
    aspects = "|9|0:16|9:0|1:99|9/16|9:16:1|a:b"
    for parse, texts in ((parse_size, sizes), (parse_aspect, aspects)):
        for text in texts.split("|"):
            with pytest.raises(ValueError, match="expected"):
                parse(text)
    check_same_aspect(parse_size("1080x1920"), parse_aspect("9:16"))
    with pytest.raises(ValueError, match="another aspect ratio than crop"):
        check_same_aspect(parse_size("1920x1080"), parse_aspect("9:16"))


FRAME, CROP, FPS = (1920, 1080), (608, 1080), 25.0
FACE = 250


def _boxes(x: NDArray[np.floating], cuts: tuple[int, ...] = (), switches: tuple[int, ...] = ()) -> FaceBoxes:
    low = np.stack([x - FACE / 2, np.full(len(x), 300)], 1).astype(np.float32)
    flags = [np.isin(np.arange(len(x)), where) for where in (cuts, switches)]
    return FaceBoxes(low, low + np.float32(FACE), flags[0], flags[1])


def _inside(boxes: FaceBoxes, path: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray((boxes.low >= path).all(1) & (boxes.high <= path + np.array(CROP, np.float32)).all(1))


def test_crop_path_swaying_face_keeps_the_crop() -> None:
    noise = np.random.default_rng(1).normal(0, 4, 500)
    boxes = _boxes(960 + 25 * np.sin(np.arange(500) / 12) + noise)
    path = crop_path(boxes, FRAME, CROP, FPS)
    assert np.ptp(path, axis=0).max() == 0 and (path % 2 == 0).all()
    assert _inside(boxes, path).all()
    assert abs(path[0, 0] + CROP[0] / 2 - 960) < 30, "the face is in the middle"


def test_crop_path_follows_a_walking_face_smoothly() -> None:
    # Across the frame and back: 1400 pixels in six seconds, with jitter as landmarks have.
    x = 260 + 1400 * (0.5 - 0.5 * np.cos(np.arange(600) / 600 * 4 * np.pi))
    boxes = _boxes(x + np.random.default_rng(2).normal(0, 1.5, 600))
    path = crop_path(boxes, FRAME, CROP, FPS)
    assert _inside(boxes, path).all()
    assert path.min() >= 0 and path[:, 0].max() <= FRAME[0] - CROP[0]
    speed = np.diff(path[:, 0])
    assert np.abs(speed).max() < 16, "hardly faster than the face, 14.7 pixels a frame"
    assert np.abs(np.diff(speed)).max() < 3, "without jerks"


def test_crop_path_jumps_at_cuts_and_pans_to_other_speakers() -> None:
    x = np.where(np.arange(200) < 100, 400.0, 1500.0)
    boxes = _boxes(x, cuts=(100,))
    path = crop_path(boxes, FRAME, CROP, FPS)
    assert np.flatnonzero(np.diff(path[:, 0])).tolist() == [99]
    assert _inside(boxes, path).all()
    boxes = _boxes(x, switches=(100,))
    path = crop_path(boxes, FRAME, CROP, FPS)
    speed = np.diff(path[:, 0])
    assert speed.min() >= 0 and speed.max() < 90, "1100 pixels in .8 seconds, without a jump"
    assert np.abs(np.diff(speed)).max() < 15, "without jerks"
    assert _inside(boxes, path)[[*range(90), *range(110, 200)]].all()


def test_crop_path_short_turns_are_centred() -> None:
    x = np.where(np.arange(250) // 25 % 2, 1500.0, 400.0)
    path = crop_path(_boxes(x, switches=tuple(range(25, 250, 25))), FRAME, CROP, FPS)
    assert np.abs(path[12::25, 0] + CROP[0] / 2 - x[12::25]).max() < 30


def test_crop_path_short_shot_has_a_corner_per_frame() -> None:
    for num in (1, 2, 5):
        assert crop_path(_boxes(np.full(num, 960.0)), FRAME, CROP, FPS).shape == (num, 2)


def test_crop_path_large_face_is_centred() -> None:
    low, no = np.tile(np.array([[600, 0]], np.float32), (50, 1)), np.zeros(50, bool)
    path = crop_path(FaceBoxes(low, low + np.array([900, 1000], np.float32), no, no), FRAME, CROP, FPS)
    assert np.abs(path[:, 0] + CROP[0] / 2 - 1050).max() <= 2
