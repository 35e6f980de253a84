from __future__ import annotations

import numpy as np
import pytest

from media.output.dynamic_range import to_range
from media.output.framing import Framing
from media.output.picture import Canvas, PictureMaker, YuvaFrame
from media.probe import ColourTags
from media.yuv_frame import Patch, YuvFrame, cut
from tests.unit.media.clips import planes_of

SDR = ColourTags(1, False, 1, 1)
PQ, HLG = ColourTags(9, False, 9, 16), ColourTags(9, False, 9, 18)


def test_to_range_same_range_returns_the_picture() -> None:
    rgb = np.full((2, 2, 3), (9, 200, 40), np.uint8)
    assert to_range(rgb, SDR, ColourTags(6, True, 2, 2)) is rgb


@pytest.mark.parametrize(("wanted", "signal"), [(PQ, 0.58), (HLG, 0.75)])
def test_to_range_white_is_the_reference_white(wanted: ColourTags, signal: float) -> None:
    white = to_range(np.full((2, 2, 3), 255, np.uint8), SDR, wanted)
    assert np.abs(white / 255 - signal).max() < 0.005


@pytest.mark.parametrize("hdr", [PQ, HLG])
def test_to_range_and_back_keeps_colours(hdr: ColourTags) -> None:
    levels = np.linspace(0, 200, 6).astype(np.uint8)  # below the knee
    rgb = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(6, 36, 3)
    off = np.abs(to_range(to_range(rgb, SDR, hdr), hdr, SDR).astype(int) - rgb)
    is_grey = np.ptp(rgb, -1) == 0
    assert off.mean() < 3 and off[is_grey].max() <= 4
    assert off.max() < 30  # one level of eight-bit HDR, in the dark channel of a saturated colour


@pytest.mark.parametrize("hdr", [PQ, HLG])
def test_to_range_compresses_highlights(hdr: ColourTags) -> None:
    signals = np.array([0.55, 0.58, 0.62, 0.66] if hdr is PQ else [0.70, 0.75, 0.80, 0.85])
    rgb = np.repeat(np.rint(255 * signals).astype(np.uint8)[None, :, None], 3, 2)
    shown = to_range(rgb, hdr, SDR)[0, :, 1].astype(int)
    assert (np.diff(shown) > 0).all() and shown[1] > 240 and shown[-1] <= 255


W, H = 192, 128


def _canvas(width: int, height: int, *, has_alpha: bool = False) -> Canvas:
    planes = YuvFrame(*(np.zeros((height // step, width // step), np.uint8) for step in (1, 2, 2)))
    return Canvas(planes, np.zeros((height, width), np.uint8) if has_alpha else None)


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
