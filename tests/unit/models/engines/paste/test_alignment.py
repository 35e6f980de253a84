from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.media.yuv_frame import from_rgb, to_rgb
from models.engines.paste import alignment, upright
from models.engines.paste.crop import BoxPlan
from models.engines.patches import FacePatches
from tests.unit.models.engines.paste.face_scene import ABSENT, COLOUR, make_frames, make_track


def apply(matrix: NDArray[np.floating], points: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


@pytest.mark.parametrize("degrees", [-40.0, 0.0, 25.0])
def test_align_maps_five_points_onto_template(degrees: float) -> None:
    angle, scale = np.deg2rad(degrees), 0.31
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = alignment.FFHQ_512 @ turn.T + [300, 120]
    (matrix,) = alignment.align(points[None], alignment.FFHQ_512, 512)
    assert np.abs(apply(matrix, points) - alignment.FFHQ_512).max() < 1e-6
    assert abs(upright.scale_of(matrix) - 1 / scale) < 1e-9
    small = alignment.align(points[None], alignment.FFHQ_512, 256)
    assert np.abs(alignment.square_corners(small, 256) - alignment.square_corners(matrix[None], 512)).max() < 1e-6
    assert np.abs(upright.scale_map(small[0], 2) - matrix).max() < 1e-9
    moved = alignment.shift_origin(matrix, np.array([10, 20]))
    assert np.allclose(apply(moved, points), apply(matrix, points + [10, 20]))


def test_align_and_five_points_equal_cv2_and_facefusion() -> None:
    points = alignment.FFHQ_512 * 0.4 + np.random.default_rng(0).normal(0, 3, (5, 2)) + [90, 70]
    (ours,) = alignment.align(points[None], alignment.MTCNN_512, 512)
    found = cv2.estimateAffinePartial2D(points, alignment.MTCNN_512, method=cv2.RANSAC, ransacReprojThreshold=100)
    theirs = np.asarray(found[0], np.float64)
    assert np.abs(apply(ours, points) - apply(theirs, points)).max() < 0.5
    points = np.random.default_rng(1).uniform(0, 100, (2, 68, 2))
    expected = [points[1, 36:42].mean(0), points[1, 42:48].mean(0), points[1, 30], points[1, 48], points[1, 54]]
    assert np.allclose(alignment.five_points(points)[1], expected)


@pytest.mark.parametrize("degrees", [0.0, 30.0])
def test_aligned_rgb_shows_frame_content(degrees: float) -> None:
    track, frames = alignment.AlignedTrack.of(make_track(degrees), alignment.FFHQ_512, 256), make_frames()
    chunk = track.crop(COLOUR, plan([2]), [frames[2]])
    seen = upright.aligned_rgb(chunk.region(0), COLOUR, chunk.arrays[alignment.MATRIX][0], chunk.boxes[0], 256)
    rgb = to_rgb(frames[2], COLOUR)
    whole = cv2.warpAffine(rgb, track.matrices[2], (256, 256), borderMode=cv2.BORDER_REPLICATE)
    assert np.abs(seen.astype(int) - whole)[40:].mean() < 1.0
    turned = track.matrices[2][:, :2] / upright.scale_of(track.matrices[2])
    assert np.allclose(np.degrees(np.arctan2(turned[0, 1], turned[0, 0])), degrees, atol=2)


def plan(source: list[int]) -> BoxPlan:
    return BoxPlan(0, np.array(source, np.int32), np.zeros((len(source), 0), np.float32))


def test_aligned_track_regions_hold_square_after_load(tmp_path: Path) -> None:
    track = alignment.AlignedTrack.of(make_track(20.0), alignment.FFHQ_512, 256)
    corners = alignment.square_corners(track.matrices, 256) - track.boxes.origins[:, None]
    assert (corners.min((0, 1)) >= 0).all()
    assert corners.max() <= track.boxes.size
    assert np.allclose(alignment.bounding_boxes(corners), track.boxes.boxes, atol=1e-3)
    track.save(tmp_path)
    loaded = alignment.AlignedTrack.load(tmp_path)
    assert np.array_equal(loaded.matrices, track.matrices)
    assert np.array_equal(loaded.boxes.origins, track.boxes.origins)
    chunk = track.crop(COLOUR, plan([ABSENT]), make_frames()[:1])
    assert (chunk.num_faces, chunk.arrays[alignment.MATRIX].shape) == (0, (0, 2, 3))


def test_aligned_rgb_large_face_is_averaged() -> None:
    """A face of 2048 pixels in a picture of 256: stripes of one pixel come out grey."""
    rgb = np.zeros((1024, 1024, 3), np.uint8)
    rgb[:, ::2] = 200
    region = from_rgb(rgb, COLOUR)
    matrix = np.array([[0.25, 0, 0], [0, 0.25, 0]])
    seen = upright.aligned_rgb(region, COLOUR, matrix, np.array([0, 0, 1024, 1024.0]), 256)
    assert np.abs(seen[20:-20, 20:-20].astype(int) - 100).max() < 12


@pytest.mark.parametrize("scale", [0.4, 1.0, 2.5])
def test_draw_back_inverts_aligned_rgb(scale: float) -> None:
    """The middle of gravity of a bright spot does not move, whichever picture is finer."""
    y, x = np.mgrid[:200, :200]
    plane = (200 * np.exp(-(((x - 101.3) ** 2 + (y - 87.6) ** 2) / (2 * 9.0**2)))).astype(np.uint8)
    turn = scale * np.array([[np.cos(0.3), np.sin(0.3)], [-np.sin(0.3), np.cos(0.3)]])
    matrix = np.concatenate([turn, [[10 * scale], [70 * scale]]], 1)
    region = from_rgb(np.repeat(plane[..., None], 3, 2), COLOUR)
    seen = upright.aligned_rgb(region, COLOUR, matrix, np.array([0, 0, 200, 200.0]), int(320 * scale))
    for step in (1, 2):
        back = upright.draw_back(
            np.ascontiguousarray(seen[..., 0]), matrix, (0, 0, 200 // step, 200 // step), step=step
        )
        weight = back.astype(float)
        ys, xs = (np.mgrid[: 200 // step, : 200 // step] + 0.5) * step - 0.5
        middle = np.array([(xs * weight).sum(), (ys * weight).sum()]) / weight.sum()
        assert np.abs(middle - [101.3, 87.6]).max() < 0.25


def test_paste_upright_keeps_frame_outside_masks() -> None:
    track, frames = alignment.AlignedTrack.of(make_track(15.0), alignment.FFHQ_512, 256), make_frames()
    chunk = track.crop(COLOUR, plan([8]), [frames[8]])
    matrix = chunk.arrays[alignment.MATRIX][0]

    def pasted(face: NDArray[np.uint8], style: str) -> FacePatches:
        patches = FacePatches(chunk.row, chunk.origins, chunk.y.copy(), chunk.uv.copy())
        if style == "lower":
            upright.paste_lower_face(patches, 0, face, matrix, chunk.outline[0], COLOUR)
        else:
            upright.paste_square(patches, 0, face, matrix, chunk.boxes[0], COLOUR)
        return patches

    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    corners = alignment.square_corners(matrix[None].astype(np.float64), 256)[0].astype(np.float32)
    for style, outline in (("lower", chunk.outline[0]), ("square", corners)):
        patches, hull = pasted(noise, style), cv2.convexHull(outline)
        changed = patches.y[0] != chunk.y[0]
        inside = [cv2.pointPolygonTest(hull, (float(x), float(y)), True) for y, x in np.argwhere(changed)]
        assert min(inside) > -2.5
        assert changed.sum() > 2000
        assert (patches.uv[0] != chunk.uv[0]).any()
    assert not upright.square_mask(256)[[0, -1]].any() and upright.square_mask(256)[128, 128] == 255
    own = pasted(upright.aligned_rgb(chunk.region(0), COLOUR, matrix, chunk.boxes[0], 256), "lower")
    difference = np.abs(own.y[0].astype(int) - chunk.y[0])
    assert difference.max() <= 12 and difference[difference > 0].mean() < 3
