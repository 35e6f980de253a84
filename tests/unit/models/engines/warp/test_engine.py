"""The warp engine on a drawn avatar: two back ends, one picture; outside the mask nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lipwright.errors import ConfigError
from lipwright.media.yuv_frame import YuvFrame
from models.engines.patches import FacePatches
from models.engines.warp.avatar import WarpAvatar
from models.engines.warp.chunk import FaceChunk, fade_to_source
from models.engines.warp.crop import crop_faces
from models.engines.warp.generator import WarpFaceGenerator
from models.engines.warp.painting.fields import (
    EXEMPLAR,
    INNER_LOWER_ROWS,
    INNER_UPPER_ROWS,
    MIDDLE_LOWER_ROWS,
    MIDDLE_UPPER_ROWS,
    pose_problem,
)
from models.engines.warp.painting.lip_coordinates import LipCoords, lip_coords
from models.engines.warp.painting.render_torch import TorchRenderer
from models.engines.warp.plan import MouthPlan, plan_mouth
from models.track.raw_landmarks import RawLandmarks
from tests.unit.models.engines.warp.conftest import Build
from tests.unit.models.synthetic_avatar import ABSENT, NUM_FRAMES, FilmedAvatar, make_avatar, mouth_shapes


@pytest.fixture(scope="module", params=[0.14, 0.0], ids=["talker", "silent"])
def both(request: pytest.FixtureRequest, build: Build) -> tuple[FilmedAvatar, WarpAvatar]:
    return build(request.param)


@pytest.fixture(scope="module")
def avatar(both: tuple[FilmedAvatar, WarpAvatar]) -> FilmedAvatar:
    return both[0]


@pytest.fixture(scope="module")
def warp_avatar(both: tuple[FilmedAvatar, WarpAvatar]) -> WarpAvatar:
    return both[1]


def _chunk(avatar: FilmedAvatar, warp_avatar: WarpAvatar, opening: float, start: int = 8, stop: int = 20) -> FaceChunk:
    index = np.arange(NUM_FRAMES, dtype=np.int32)
    shape = np.roll(mouth_shapes(NUM_FRAMES, opening), 3, axis=0)
    plan, _ = plan_mouth(warp_avatar, shape, index, None)
    piece = plan.slice(start, stop)
    return _drawn(avatar, warp_avatar, piece)


def _difference(a: FacePatches, b: FacePatches) -> np.ndarray:
    pairs = ((a.y, b.y), (a.uv, b.uv))
    return np.concatenate([np.abs(x.astype(int) - y.astype(int)).ravel() for x, y in pairs])


def _assert_like(a: FacePatches, b: FacePatches) -> None:
    difference = _difference(a, b)
    assert difference.mean() < 0.1
    assert np.percentile(difference, 99.9) < 3


Smile = Callable[[float], tuple[FilmedAvatar, WarpAvatar, int]]


@pytest.fixture(scope="module")
def smile(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Smile:
    """Returns an avatar of whom only a frame that is about that open is known, and that frame."""

    @cache
    def smile(opening: float) -> tuple[FilmedAvatar, WarpAvatar, int]:
        avatar = build(0.2)[0]
        frame = int(np.abs(mouth_shapes(NUM_FRAMES, 0.2)[:, 0] - opening).argmin())
        raw = RawLandmarks(avatar.raw.points, np.arange(NUM_FRAMES) == frame)
        warp_avatar = replace(avatar, raw=raw).build(tmp_path_factory.mktemp("smile"))
        fully = warp_avatar.track.visible.astype(np.float32)  # one frame among gaps would be eased away
        return avatar, replace(warp_avatar, track=replace(warp_avatar.track, driving_weight=fully)), frame

    return smile


def _smiling(smile: Smile, own: float, opening: float) -> tuple[MouthPlan, FaceChunk]:
    """Mouths that open as `mouth_shapes` of that opening do, over a frame that is open by `own`."""
    avatar, warp_avatar, frame = smile(own)
    plan, _ = plan_mouth(warp_avatar, mouth_shapes(12, opening), np.full(12, frame, np.int32), None)
    return plan, _drawn(avatar, warp_avatar, plan)


def _drawn(avatar: FilmedAvatar, warp_avatar: WarpAvatar, plan: MouthPlan) -> FaceChunk:
    with avatar.reader() as reader:
        return crop_faces(warp_avatar, plan, list(reader.read(plan.source_index.tolist())))


def _lips(chunk: FaceChunk) -> LipCoords:
    """The lips' coordinates at all pixels of the region."""
    pixels = np.arange(chunk.region_size, dtype=np.float32)
    return lip_coords(np, pose_problem(chunk).axes, pixels[None, None], pixels[None, :, None])


def _rendered_with_torch(chunk: FaceChunk) -> FacePatches:
    return fade_to_source(TorchRenderer(torch.device("cpu")).render(chunk), chunk)


def test_torch_renderer_equals_cpu_renderer(avatar: FilmedAvatar, warp_avatar: WarpAvatar) -> None:
    chunk = _chunk(avatar, warp_avatar, 0.12)
    cpu = WarpFaceGenerator().generate(chunk)
    _assert_like(cpu, _rendered_with_torch(chunk))
    assert (cpu.y != chunk.crops_y[chunk.base]).mean() > 0.02  # there is a picture to agree on


def test_torch_renderer_smile_with_own_teeth_equals_cpu(smile: Smile) -> None:
    plan, chunk = _smiling(smile, 0.14, 0.2)
    assert plan.own_teeth.min() == 1
    assert plan.interior.max() == 1
    cpu = WarpFaceGenerator().generate(chunk)
    _assert_like(cpu, _rendered_with_torch(chunk))
    assert (cpu.y[0] < 90).sum() < 0.3 * (chunk.crops_y[chunk.base[0]] < 90).sum()  # the open mouth is closed


def test_pose_problem_wide_opening_drops_cut_off_teeth(smile: Smile) -> None:
    shape, (plan, chunk) = mouth_shapes(12, 0.3), _smiling(smile, 0.05, 0.3)
    own = pose_problem(chunk).own_teeth
    assert plan.own_teeth.min() == 1
    assert (own[shape[:, 0] < 0.05] == 1).all()
    assert (own[shape[:, 0] > 0.25] == 0).all()
    wide = int(shape[:, 0].argmax())
    drawn = WarpFaceGenerator().generate(chunk).y[wide]
    plain = replace(chunk, own_teeth=np.zeros_like(chunk.own_teeth))
    lips = WarpFaceGenerator().generate(plain).y[wide]
    assert np.abs(drawn.astype(int) - lips).mean() < 2
    whole = _smiling(smile, 0.2, 0.4)[1]
    assert (pose_problem(whole).own_teeth == 1).all(), "those of an open smile stay"


def test_generate_opened_smile_has_no_line_below_teeth(smile: Smile) -> None:
    """Of a mouth as light inside as its lips; the drawn cavity, which is darker, starts above the lower lip's rim."""
    avatar, warp_avatar, frame = smile(0.2)
    plan, _ = plan_mouth(warp_avatar, mouth_shapes(12, 0.22), np.full(12, frame, np.int32), None)
    with avatar.reader() as reader:
        light = [planes._replace(y=np.full_like(planes.y, 180)) for planes in reader.read(plan.source_index.tolist())]
    chunk = crop_faces(warp_avatar, plan, light)
    rendered, lips = WarpFaceGenerator().generate(chunk).y, _lips(chunk)
    above = (lips.lower - lips.y) / lips.half_width
    is_open = (abs(lips.x) < 0.6) & (lips.lower - lips.upper > 0.3 * lips.half_width)
    assert rendered[is_open & (above > 0) & (above < 0.04)].min() > 160


def test_generate_opened_mouth_lower_part_follows_lower_lip(smile: Smile) -> None:
    """Of a mouth that is light in its lower half, and parts its jaws in the middle or not at all."""
    avatar, warp_avatar, frame = smile(0.2)
    upper, lower, left, right = warp_avatar.track.points[frame, [13, 14, 78, 308], :2]
    above_lip = []
    for bite in (0.5, 1.0):
        own = replace(warp_avatar, bite=bite)
        plan, _ = plan_mouth(own, mouth_shapes(10, 0.4)[9:], np.full(1, frame, np.int32), None)
        with avatar.reader() as reader:
            (planes,) = reader.read([frame])
        y = np.full_like(planes.y, 120)
        y[int((upper[1] + lower[1]) / 2) : int(lower[1]), int(left[0]) : int(right[0])] = 230
        chunk = crop_faces(own, plan, [planes._replace(y=y)])
        rendered, lips = WarpFaceGenerator().generate(chunk).y, _lips(chunk)
        above = (lips.lower - lips.y) / lips.half_width
        above_lip.append(rendered[(abs(lips.x) < 0.2) & (above > 0.2) & (above < 0.4)].mean())
    assert above_lip[0] > 200 and above_lip[1] < 100


def test_crop_faces_teeth_light_equals_visible_teeth(smile: Smile) -> None:
    avatar, warp_avatar, frame = smile(0.2)
    plan, _ = plan_mouth(warp_avatar, mouth_shapes(1, 0.2), np.full(1, frame, np.int32), None)
    with avatar.reader() as reader:
        (dark,) = reader.read([frame])
    usual = crop_faces(warp_avatar, plan, [dark]).teeth
    points = warp_avatar.track.points[frame, [13, 14, 78, 308], :2]
    left, top = np.floor(points.min(0)).astype(int)
    right, bottom = np.ceil(points.max(0)).astype(int)
    y, u, v = (plane.copy() for plane in dark)
    y[top:bottom, left:right] = 180
    u[top // 2 : bottom // 2, left // 2 : right // 2] = 124
    v[top // 2 : bottom // 2, left // 2 : right // 2] = 133
    seen = crop_faces(warp_avatar, plan, [YuvFrame(y, u, v)]).teeth
    assert seen[0] == pytest.approx([180, 124, 133], abs=3)
    assert np.abs(usual[0] - seen[0]).max() > 20


def test_pose_problem_parting_lips_skip_dark_between_them(build: Build) -> None:
    for opening, inset in ((0.0, 0.0), (0.3, 0.25)):
        chunk = _chunk(*build(0.0), opening)
        problem, shown = pose_problem(chunk), chunk.crop_points[chunk.exemplar]
        read = (problem.points + 0.5) * chunk.region_size + problem.values[..., EXEMPLAR]
        widest = int(np.linalg.norm(problem.values[..., EXEMPLAR], axis=-1).max(1).argmax())
        for inner, middle in ((INNER_UPPER_ROWS, MIDDLE_UPPER_ROWS), (INNER_LOWER_ROWS, MIDDLE_LOWER_ROWS)):
            into = (shown[:, middle] - shown[:, inner])[widest, 3:-3]
            moved = (read[:, inner] - shown[:, inner])[widest, 3:-3]
            np.testing.assert_allclose(moved, inset * into, atol=0.05)


def test_generate_drawn_interior_has_no_dark_outline(build: Build) -> None:
    chunk = _chunk(*build(0.0), 0.3)
    rendered, lips = WarpFaceGenerator().generate(chunk).y, _lips(chunk)
    below, is_open = lips.y - lips.lower, (abs(lips.x) < 0.6) & (lips.lower - lips.upper > 6)
    rim, lip = (rendered[is_open & (below > first) & (below < last)].mean() for first, last in ((0.3, 1), (2, 5)))
    assert rim > 0.97 * lip


def test_pose_problem_open_lips_keep_rim(build: Build) -> None:
    chunk = _chunk(*build(0.14), 0.3)
    shown = chunk.crop_points[chunk.exemplar]
    gaps = np.linalg.norm(shown[:, INNER_LOWER_ROWS] - shown[:, INNER_UPPER_ROWS], axis=-1).mean(1)
    assert (gaps / chunk.eye_distance).max() > 0.05
    problem = pose_problem(replace(chunk, target_points=shown, own_teeth=np.zeros_like(chunk.own_teeth)))
    np.testing.assert_allclose(problem.values[..., EXEMPLAR], 0, atol=1e-3)


def _with_widest_mouth(chunk: FaceChunk) -> FaceChunk:
    """The chunk with its most open exemplar in all faces."""
    gaps = np.linalg.norm(chunk.crop_points[:, INNER_LOWER_ROWS] - chunk.crop_points[:, INNER_UPPER_ROWS], axis=-1)
    widest = np.full_like(chunk.exemplar, gaps.mean(1).argmax())
    return replace(chunk, exemplar=widest, fade=np.full_like(widest, -1), fade_weight=np.zeros_like(chunk.fade_weight))


def test_generate_meeting_lips_show_no_teeth(tmp_path: Path) -> None:
    filmed = make_avatar(tmp_path, 0.14, darkness=0.0)
    chunk = _with_widest_mouth(_chunk(filmed, filmed.build(tmp_path / "avatar"), 0.0))
    chunk = replace(chunk, own_teeth=np.ones_like(chunk.own_teeth))
    points, crops = chunk.crop_points[chunk.exemplar[0]], chunk.crops_y.copy()
    lips = np.concatenate([points[INNER_UPPER_ROWS], points[INNER_LOWER_ROWS][::-1]])
    teeth = lips.mean(0) + 0.8 * (lips - lips.mean(0))
    cv2.fillPoly(crops[chunk.exemplar[0]], [np.rint(teeth).astype(np.int32)], 255)
    plain, rendered = (WarpFaceGenerator().generate(each).y for each in (chunk, replace(chunk, crops_y=crops)))
    coords = _lips(chunk)
    seam = (abs(coords.x) < 0.6) & (abs(coords.y - coords.upper) < 1)
    assert (rendered[seam] > plain[seam] + 40.0).mean() < 0.15


def test_generate_closing_lips_shade_teeth(tmp_path: Path) -> None:
    """Of a mouth as light inside as its skin. A held mouth is shown as it is, so nothing is shaded there."""
    filmed = make_avatar(tmp_path, 0.14, darkness=0.0)
    chunk = _chunk(filmed, filmed.build(tmp_path / "avatar"), 0.03)
    alone = _with_widest_mouth(chunk)
    held = replace(alone, hold=np.ones_like(chunk.hold))
    closed, as_it_is = (WarpFaceGenerator().generate(each).y for each in (alone, held))
    lips = _lips(alone)
    inside = (abs(lips.x) < 0.5) & (lips.y > lips.upper + 0.5) & (lips.y < lips.lower - 0.5)
    assert closed[inside].mean() < 0.85 * as_it_is[inside].mean()
    assert np.abs(closed[abs(lips.y) > 20].astype(int) - as_it_is[abs(lips.y) > 20]).mean() < 1
    _assert_like(WarpFaceGenerator().generate(alone), _rendered_with_torch(alone))


@pytest.mark.needs_cuda
def test_warp_cuda_equals_cpu(avatar: FilmedAvatar, warp_avatar: WarpAvatar) -> None:
    chunk = _chunk(avatar, warp_avatar, 0.12)
    _assert_like(WarpFaceGenerator().generate(chunk), WarpFaceGenerator("cuda").generate(chunk))


def test_generate_shows_collar_below_chin_once(avatar: FilmedAvatar, warp_avatar: WarpAvatar) -> None:
    """Where the movement of the jaw ends, an edge may be bent, but there are no two of it over each other."""
    chunk = _chunk(avatar, warp_avatar, 0.14)
    chin = warp_avatar.track.points[:, 152, 1].mean() - chunk.origins[:, 1].mean()
    edge = round(float(chin + 0.3 * chunk.eye_distance.mean()))
    crops = np.full_like(chunk.crops_y, 60)
    crops[:, edge:] = 200
    rendered = WarpFaceGenerator().generate(replace(chunk, crops_y=crops)).y[:, edge - 15 : edge + 15]
    moved = (rendered > 130).sum(1).astype(int) - 15
    assert np.abs(moved).max() >= 2
    between = (rendered > 75) & (rendered < 185)
    assert between.sum(1).max() <= 3


def test_torch_renderer_blurs_interior_by_own_face_size(avatar: FilmedAvatar, warp_avatar: WarpAvatar) -> None:
    chunk = _chunk(avatar, warp_avatar, 0.12)
    ones, sizes = np.ones_like(chunk.interior), chunk.eye_distance.copy()
    sizes[::2] *= 9
    renderer = TorchRenderer(torch.device("cpu"))
    equal, mixed = (
        renderer.render(replace(chunk, interior=ones, eye_distance=each)).y[1::2]
        for each in (chunk.eye_distance, sizes)
    )
    np.testing.assert_array_equal(mixed, equal)


def test_generate_nan_control_points_raise(avatar: FilmedAvatar, warp_avatar: WarpAvatar) -> None:
    chunk = _chunk(avatar, warp_avatar, 0.12)
    points = chunk.crop_points.copy()
    points[0, 7] = np.nan
    with pytest.raises(ValueError, match="finite control points"):
        WarpFaceGenerator().generate(replace(chunk, crop_points=points))


def test_warp_generate_keeps_frame_outside_mask(avatar: FilmedAvatar, warp_avatar: WarpAvatar) -> None:
    chunk = _chunk(avatar, warp_avatar, 0.12)
    patches = WarpFaceGenerator().generate(chunk)
    same = patches.y == chunk.crops_y[chunk.base]
    size = chunk.region_size
    band = slice(0, size // 32)
    for edge in (same[:, band], same[:, -band.stop :], same[:, :, band], same[:, :, -band.stop :]):
        assert edge.all()
    corner = size // 7
    assert same[:, :corner, :corner].all()
    assert not same.all()


def test_generate_empty_mask_returns_frame_bytes(avatar: FilmedAvatar, warp_avatar: WarpAvatar) -> None:
    chunk = _chunk(avatar, warp_avatar, 0.12)
    blank = FaceChunk(**{**vars(chunk), "masks": np.zeros_like(chunk.masks)})
    for patches in (WarpFaceGenerator().generate(blank), TorchRenderer(torch.device("cpu")).render(blank)):
        assert (patches.y == chunk.crops_y[chunk.base]).all()
        assert (patches.uv == chunk.crops_uv[chunk.base]).all()


def test_generate_open_shape_opens_mouth(avatar: FilmedAvatar, warp_avatar: WarpAvatar) -> None:
    """Skin is all that the closed pictures show; the opening is dark at its rim and has teeth, or the source's own."""
    closed = WarpFaceGenerator().generate(_chunk(avatar, warp_avatar, 0.0, 0, 12)).y
    opened = WarpFaceGenerator().generate(_chunk(avatar, warp_avatar, 0.14, 0, 12)).y
    assert (closed < 90).sum() < 20
    assert (opened < 90).sum() > 40
    assert (np.abs(opened.astype(int) - closed) > 20).sum() > 120


def test_warp_generate_frame_without_face_gives_no_patch(avatar: FilmedAvatar, warp_avatar: WarpAvatar) -> None:
    chunk = _chunk(avatar, warp_avatar, 0.12, 14, 22)
    patches = WarpFaceGenerator().generate(chunk)
    assert len(patches) == chunk.num_frames == 8
    for number in range(8):
        assert (patches.patch(number) is None) == (14 + number in ABSENT)
    none = _chunk(avatar, warp_avatar, 0.12, ABSENT[0], ABSENT[-1] + 1)
    for without in (WarpFaceGenerator().generate(none), TorchRenderer(torch.device("cpu")).render(none)):
        assert without.patch(0) is None
    patch = patches.patch(0)
    assert patch is not None
    assert patch.x % 2 == patch.y % 2 == 0
    assert patch.planes.y.shape == (chunk.region_size, chunk.region_size)


def test_warp_generate_in_chunks_gives_same_bytes(avatar: FilmedAvatar, warp_avatar: WarpAvatar) -> None:
    engine = WarpFaceGenerator()
    whole = engine.generate(_chunk(avatar, warp_avatar, 0.12, 0, 12))
    parts = [engine.generate(_chunk(avatar, warp_avatar, 0.12, a, b)) for a, b in ((0, 1), (1, 7), (7, 12))]
    assert (whole.y == np.concatenate([part.y for part in parts])).all()
    assert (whole.uv == np.concatenate([part.uv for part in parts])).all()


def test_generate_face_at_frame_edge_gives_patch(avatar: FilmedAvatar, warp_avatar: WarpAvatar) -> None:
    index = np.arange(4, dtype=np.int32)
    plan, _ = plan_mouth(warp_avatar, mouth_shapes(10, 0.1)[6:], index, None)
    small = YuvFrame(*(np.full((40 // k, 40 // k), 90, np.uint8) for k in (1, 2, 2)))  # smaller than the region
    patches = WarpFaceGenerator().generate(crop_faces(warp_avatar, plan, [small] * 4))
    assert patches.patch(3) is not None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_warp_face_generator_missing_cuda_raises() -> None:
    with pytest.raises(ConfigError, match="no usable CUDA device"):
        WarpFaceGenerator("cuda")
