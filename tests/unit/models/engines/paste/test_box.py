import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from lipwright.media.probe import ColourTags
from lipwright.media.yuv_frame import from_rgb, paste_back, to_rgb
from models.engines.paste.blend import paste, rgb_to_yuv444, soft_mask
from models.engines.paste.crop import BoxPlan, BoxTrack, crop_boxes
from models.engines.paste.landmarks68 import IBUG_POINTS, LOWER_FACE, ibug_points, lower_face_outline
from models.engines.paste.resample import box_rgb, resize_box
from tests.unit.models.engines.paste.scenes import BT601_FULL, BT709, HEIGHT, WIDTH, make_chunk, make_track, smooth_rgb

BOXES = np.array([[40, 20, 104, 90], [41.3, 20.6, 105.3, 90.6], [-6, 60, 50, 124]], np.float32)


def test_ibug_points_lie_where_named() -> None:
    mean = np.load("models/weights/mean_face_468.npy")
    points = ibug_points(mean[None] * [1, -1, 1])[0]  # y down
    assert len(set(IBUG_POINTS)) == 68
    jaw, nose, lips = points[:17], points[27:36], points[48:60]
    assert (np.diff(jaw[1:16, 0]) > 0).all() and jaw[:, 1].argmax() == 8
    assert jaw[8, 1] > lips[:, 1].max() > lips[:, 1].min() > nose[:, 1].max()
    mirrored = points[[*range(16, -1, -1)]] * [-1, 1]
    assert np.abs(mirrored - jaw).max() < 0.1 * np.ptp(jaw[:, 0])


def test_lower_face_outline_grows_outward() -> None:
    points = ibug_points(np.random.default_rng(1).uniform(0, 100, (2, 468, 3)))
    tight, wide = lower_face_outline(points, 0.0), lower_face_outline(points, 0.1)
    assert np.allclose(tight, points[:, list(LOWER_FACE)], atol=1e-4)
    distance = np.linalg.norm(wide - tight, axis=2)
    is_low = tight[..., 1] > (tight[..., 1].min(1) + tight[..., 1].max(1))[:, None] / 2
    wanted = np.broadcast_to(0.1 * np.ptp(tight[..., 1], axis=1)[:, None], distance.shape)
    assert np.allclose(distance[is_low], wanted[is_low], rtol=1e-3)
    assert (wide[..., 1] >= tight[..., 1]).all()  # nothing moves up
    assert (wide[..., 0].min(1) < tight[..., 0].min(1)).all() and (wide[..., 0].max(1) > tight[..., 0].max(1)).all()


def test_box_track_regions_hold_boxes_after_load(tmp_path: Path) -> None:
    track = make_track(BOXES, np.array([1, 0.5, 0], np.float32))
    assert track.size % 2 == 0 and not (track.origins % 2).any()
    assert (track.boxes[:, :2] >= 0).all() and (track.boxes[:2, 2:] <= track.size).all()
    assert np.allclose(track.boxes + np.tile(track.origins, 2), BOXES, atol=1e-4)
    track.save(tmp_path / "box.npz")
    loaded = BoxTrack.load(tmp_path / "box.npz")
    assert loaded.size == track.size
    assert all(np.array_equal(getattr(loaded, name), getattr(track, name)) for name in ("origins", "boxes", "outline"))
    with pytest.raises(ValueError, match="x0 < x1"):
        BoxTrack.of(np.array([[5.0, 5, 5, 9]]), np.zeros((1, 3, 2)), np.ones(1))


def test_box_plan_slices_are_copies() -> None:
    plan = BoxPlan(10, np.arange(6, dtype=np.int32), np.ones((6, 2), np.float32), {"bow": np.arange(6)})
    part = plan.slice(2, 4)
    assert (part.first_frame, len(part), part.arrays["bow"].tolist()) == (12, 2, [2, 3])
    assert not np.shares_memory(part.features, plan.features)
    with pytest.raises(ValueError, match="rows"):
        BoxPlan(0, np.arange(3, dtype=np.int32), np.ones((2, 1), np.float32))
    with pytest.raises(ValueError, match="Expected 6 frames"):
        crop_boxes(make_track(BOXES), BT709, plan, [])


def test_crop_boxes_repeated_frame_is_stored_once() -> None:
    chunk, frames = make_chunk(make_track(BOXES, np.array([1, 0, 0.4])), [2, 0, 0, 1, 2])
    assert chunk.row.tolist() == [0, 1, 2, -1, 3] and chunk.crop.tolist() == [0, 1, 1, 0]
    assert len(chunk.y) == 2 and chunk.features[:, 0].tolist() == [0, 1, 2, 4]
    x, y = chunk.origins[1]
    size = chunk.region_size
    inside = frames[1].y[max(y, 0) : y + size, max(x, 0) : x + size]
    assert np.array_equal(chunk.y[1][max(-y, 0) :, max(-x, 0) :][: inside.shape[0], : inside.shape[1]], inside)
    assert pickle.loads(pickle.dumps(chunk)).num_frames == 5
    with pytest.raises(ValueError, match=r"Expected \(4, H, W, 3\) uint8"):
        paste(chunk, np.zeros((1, 32, 32, 3), np.uint8))
    empty, _ = make_chunk(make_track(BOXES, np.array([1, 0, 1])), [1, 1])
    assert empty.num_faces == 0
    patches = paste(empty, box_rgb(empty, 32))
    assert [patches.patch(i) for i in range(2)] == [None, None]


def test_crop_boxes_moving_still_stores_each_picture() -> None:
    pictures = [from_rgb(smooth_rgb(seed=seed), BT709) for seed in (1, 2)]
    plan = BoxPlan(0, np.zeros(3, np.int32), np.zeros((3, 1), np.float32))
    chunk = crop_boxes(make_track(BOXES), BT709, plan, [pictures[0], pictures[1], pictures[0]])
    assert chunk.crop.tolist() == [0, 1, 0] and (chunk.y[0] != chunk.y[1]).any()


@pytest.mark.parametrize("colour", [BT709, BT601_FULL, ColourTags(9, False, 9, 1)])
def test_rgb_to_yuv444_inverts_decoder(colour: ColourTags) -> None:
    rgb = np.random.default_rng(2).integers(0, 256, (4, 4, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    ours = rgb_to_yuv444(rgb, colour)
    theirs = from_rgb(rgb, colour)
    middle = slice(4, None, 8)
    assert np.abs(ours[middle, middle, 0].astype(int) - theirs.y[middle, middle]).max() <= 1
    for channel, plane in ((1, theirs.u), (2, theirs.v)):
        assert np.abs(ours[middle, middle, channel].astype(int) - plane[2::4, 2::4]).max() <= 1


def test_resize_box_equals_cv2_and_area_averages() -> None:
    picture = smooth_rgb()
    box = np.array([10, 20, 70, 100], np.float32)
    assert np.array_equal(resize_box(picture, box, (96, 96), "linear"), cv2.resize(picture[20:100, 10:70], (96, 96)))
    nearly = resize_box(picture, box + np.float32(1e-3), (96, 96), "linear")
    assert np.abs(nearly.astype(int) - resize_box(picture, box, (96, 96), "linear")).max() <= 1
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::4] = 200
    box = np.array([0.0, 0, 64, 64])
    assert np.abs(resize_box(stripes, box, (16, 16), "area").astype(int) - 50).max() <= 1
    assert np.abs(resize_box(stripes, box, (16, 16), "linear").astype(int) - 50).max() > 20


@pytest.mark.parametrize("interpolation", ["linear", "area", "cubic", "lanczos"])
def test_resize_box_between_pixels_shifts_picture(interpolation: str) -> None:
    ramp = np.repeat(np.arange(100, dtype=np.uint8)[None, :, None] * 2, 100, 0).repeat(3, 2)
    box = np.array([20.5, 20, 84.5, 84])
    seen = resize_box(ramp, box, (32, 32), interpolation)  # type: ignore[arg-type]
    expected = 2 * (20.5 + (np.arange(32) + 0.5) * 2 - 0.5)
    assert np.abs(seen[5, 2:-2, 0] - expected[2:-2]).max() <= 1


@pytest.mark.parametrize("colour", [BT709, BT601_FULL])
def test_box_rgb_and_paste_of_own_picture_keep_frame(colour: ColourTags) -> None:
    chunk, frames = make_chunk(make_track(BOXES[:2]), [0, 1], colour)
    rgb = box_rgb(chunk, (70, 64))
    assert np.abs(rgb[0].astype(int) - to_rgb(frames[0], colour)[20:90, 40:104]).max() <= 2
    assert np.array_equal(box_rgb(chunk, (70, 64), order="bgr"), rgb[..., ::-1])
    patches = paste(chunk, rgb, "rectangle")
    assert np.abs(patches.y.astype(int) - chunk.y).max() <= 2
    assert np.abs(patches.uv.astype(int) - chunk.uv).max() <= 3


def test_soft_mask_is_zero_at_edges_and_full_inside() -> None:
    box = np.array([10.0, 20, 74, 90])
    chin_below = np.array([[20, 40], [64, 40], [42, 120]], np.float32)  # the hull leaves the box at the bottom
    mask = soft_mask(chin_below, box)
    assert mask.max() == 255 and mask[-1].max() <= 30
    assert not mask[:36].any()  # above the hull
    assert (np.abs(np.diff(mask.astype(int), axis=0)) < 60).all()


@pytest.mark.parametrize("style", ["soft", "rectangle"])
def test_paste_keeps_frame_outside_mask(style: str) -> None:
    track = make_track(BOXES)
    chunk, frames = make_chunk(track, [0, 1, 2])
    noise = np.random.default_rng(3).integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)
    patches = paste(chunk, noise, style)  # type: ignore[arg-type]
    for i, frame in enumerate(frames):
        copy = type(frame)(*(plane.copy() for plane in frame))
        patch = patches.patch(i)
        assert patch is not None
        paste_back(copy, patch)
        x0, y0, x1, y1 = BOXES[i]
        ys, xs = np.mgrid[:HEIGHT, :WIDTH] + 0.5
        is_box = (xs > x0) & (xs < x1) & (ys > y0) & (ys < y1)
        changed = copy.y != frame.y
        assert not changed[~is_box].any()
        assert changed[is_box].mean() > (0.9 if style == "rectangle" else 0.2)
        if style == "soft":
            hull = cv2.convexHull((track.outline[i] + track.origins[i]).astype(np.float32))
            outside = [cv2.pointPolygonTest(hull, (float(x), float(y)), True) < -1 for y, x in np.argwhere(changed)]
            assert not any(outside)
        assert (copy.u != frame.u).any()


def test_paste_puts_picture_at_box() -> None:
    """A network that gives back a small picture: its middle of gravity must not move."""
    chunk, _ = make_chunk(make_track(BOXES[:1]), [0])
    chunk.y[:] = 40
    chunk.y[0, 30:50, 24:44] = 240
    chunk.uv[:] = 128
    done = paste(chunk, box_rgb(chunk, 32), "rectangle").y[0].astype(float) - 40
    before = chunk.y[0].astype(float) - 40
    for axis in (0, 1):
        places = np.arange(chunk.region_size)
        middles = [(weight.sum(1 - axis) * places).sum() / weight.sum() for weight in (done, before)]
        assert abs(middles[0] - middles[1]) < 0.2


def test_paste_match_colour_and_opacity_limit_change() -> None:
    chunk, _ = make_chunk(make_track(BOXES[:1]), [0])
    brighter = (box_rgb(chunk, (70, 64)).astype(int) + 9).clip(0, 255).astype(np.uint8)
    matched, plain = (paste(chunk, brighter, match_colour=match).y.astype(int) for match in (True, False))
    assert (plain - chunk.y).max() >= 6
    assert np.abs(matched - chunk.y).max() <= 3
    white = np.full((1, 32, 32, 3), 255, np.uint8)
    chunks = [make_chunk(make_track(BOXES[:1], np.array([opacity])), [0])[0] for opacity in (1.0, 0.5)]
    whole, half = (paste(each, white, match_colour=False).y[0].astype(int) - each.y[0] for each in chunks)
    assert whole.max() > 40
    assert np.abs(half - whole / 2).max() <= 1


def test_paste_small_face_does_not_alias() -> None:
    chunk, _ = make_chunk(make_track(np.array([[40, 40, 56.0, 56]])), [0])
    stripes = np.zeros((1, 256, 256, 3), np.uint8)
    stripes[:, :, ::2] = 255
    done = paste(chunk, stripes, "rectangle").y[0].astype(int)
    x0, y0, x1, y1 = chunk.boxes[0].astype(int)
    inside = done[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2]
    assert np.ptp(inside) <= 4
