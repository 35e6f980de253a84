"""Crops what rendering needs out of decoded frames and the exemplar bank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lipwright.media.yuv_frame import YuvFrame, cut
from models.engines.warp.avatar import WarpAvatar
from models.engines.warp.chunk import FaceChunk
from models.engines.warp.painting.fields import CONTROL_IDS, anchor_points
from models.engines.warp.painting.interior import usual_teeth
from models.engines.warp.painting.masks import hidden_share, masks_by_yaw, texture_positions
from models.engines.warp.plan import MouthPlan
from models.geometry.head_frame import CHEEK_FRONT, INNER_LOWER, INNER_MIDDLES, INNER_UPPER
from models.track.face_track import patch_share

_LOWER_LIP = (16, 15, 315, 85, 17)
_SKIN_RADIUS = 2  # pixels
# Teeth are searched in the middle of the mouth, at these fractions of the lip gap from above. They are the brightest
# pixels there; anything much darker than skin is not a tooth.
_FRONT_UPPER, _FRONT_LOWER = list(INNER_UPPER[2:-2]), list(INNER_LOWER[2:-2])
_TEETH_SHARES = np.array([0.2, 0.3, 0.4, 0.5, 0.6])
_TEETH_QUANTILE, _MIN_TEETH_LIGHT = 0.8, 0.7


class _Pool(NamedTuple):
    """K crops."""

    y: NDArray[np.uint8]  # (K, R, R)
    uv: NDArray[np.uint8]  # (K, 2, R / 2, R / 2)


class _Crops:
    """The pool of crops of a chunk, each stored once."""

    def __init__(self, avatar: WarpAvatar) -> None:
        size = avatar.region.size
        self._avatar = avatar
        self._rows: dict[tuple[int, ...], int] = {}
        self.frames: list[int] = []
        self.y: list[NDArray[np.uint8]] = []
        self.uv: list[NDArray[np.uint8]] = []
        self._size = size

    def add_frame(self, frame: int, planes: YuvFrame) -> int:
        """Add the region of a source frame, of which a moving still has several pictures; return its row."""
        key = frame, id(planes.y)
        if key not in self._rows:
            x, y = (int(value) for value in self._avatar.region.origins[frame])
            crop = cut(planes, x, y, self._size)
            self._append(key, frame, crop.y, np.stack([crop.u, crop.v]))
        return self._rows[key]

    def add_exemplar(self, row: int) -> int:
        """Add an exemplar of the bank; return its row, or -1 for -1."""
        if row < 0:
            return -1
        key = (row,)
        if key not in self._rows:
            bank = self._avatar.bank
            assert bank is not None
            self._append(key, int(bank.frames[row]), *bank.planes(row))
        return self._rows[key]

    def stack(self) -> _Pool:
        """Return the crops of all rows."""
        size, half = self._size, self._size // 2
        if not self.y:
            return _Pool(np.empty((0, size, size), np.uint8), np.empty((0, 2, half, half), np.uint8))
        return _Pool(np.stack(self.y), np.stack(self.uv))

    def _append(self, key: tuple[int, ...], frame: int, y: NDArray[np.uint8], uv: NDArray[np.uint8]) -> None:
        self._rows[key] = len(self.frames)
        self.frames.append(frame)
        self.y.append(y)
        self.uv.append(uv)


def crop_faces(avatar: WarpAvatar, plan: MouthPlan, frames: Sequence[YuvFrame]) -> FaceChunk:
    """Crop the faces of the T output frames of a plan out of their source frames; unchanged frames get row -1."""
    if len(frames) != len(plan):
        raise ValueError(f"Expected {len(plan)} frames, got {len(frames)}.")
    opacity = patch_share(avatar.track.driving_weight[plan.source_index])
    present = opacity > 0
    kept = np.flatnonzero(present)
    source = plan.source_index[kept]
    crops = _Crops(avatar)
    base = np.array(
        [crops.add_frame(int(frame), frames[int(i)]) for i, frame in zip(kept, source, strict=True)], np.int32
    )
    shown = [crops.add_exemplar(int(row)) for row in plan.exemplar[kept]]
    fade = [crops.add_exemplar(int(row)) for row in plan.fade[kept]]
    exemplar = [int(own) if row < 0 else row for own, row in zip(base, shown, strict=True)]
    origins = avatar.region.origins[source]
    anchors = anchor_points(float(avatar.region.centre[2]))
    yaw, mask_points = avatar.track.pose_degrees[source, 0], _mask_points(avatar, anchors)
    masks, mask = masks_by_yaw(avatar.masks, yaw)
    pool, frame_of = crops.stack(), np.array(crops.frames, np.int64)
    skin = _colour(avatar, source, base, pool, CHEEK_FRONT)
    return FaceChunk(
        row=np.where(present, np.cumsum(present) - 1, -1).astype(np.int32),
        origins=origins,
        crops_y=pool.y,
        crops_uv=pool.uv,
        crop_points=_control_points(avatar, frame_of, avatar.control_points(frame_of), anchors),
        base=base,
        exemplar=np.array(exemplar, np.int32),
        fade=np.array(fade, np.int32),
        fade_weight=plan.fade_weight[kept],
        target_points=_control_points(avatar, source, plan.target_head[kept], anchors),
        interior=plan.interior[kept],
        own_teeth=plan.own_teeth[kept],
        rounding=plan.rounding[kept],
        bite=_bite(avatar, plan.exemplar[kept]),
        hold=plan.hold[kept],
        eye_distance=avatar.track.scale[source].astype(np.float32),
        seam=_seam(avatar, source),
        skin=skin,
        lip=_colour(avatar, source, base, pool, _LOWER_LIP),
        teeth=_teeth(avatar, source, base, pool, skin, plan.own_teeth[kept] > 0),
        masks=masks,
        mask=mask,
        mask_points=mask_points,
        hidden=hidden_share(mask_points, yaw),
        opacity=opacity[kept],
    )


def _place(avatar: WarpAvatar, frames: NDArray[np.integer], head: NDArray[np.floating]) -> NDArray[np.float32]:
    """Map (P, 3) head-frame points to (T, P, 2) region pixels of T frames."""
    spread = np.broadcast_to(head, (len(frames), *head.shape))
    placed = avatar.track.place(frames, spread) - avatar.region.origins[frames][:, None].astype(np.float32)
    return np.asarray(placed, np.float32)


def _control_points(
    avatar: WarpAvatar, frames: NDArray[np.integer], head: NDArray[np.float32], anchors: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Map (T, L, 3) landmarks and (A, 3) anchors of the head frame to (T, L + A, 2) region pixels of T frames."""
    marks = avatar.track.place(frames, head) - avatar.region.origins[frames][:, None].astype(np.float32)
    return np.concatenate([marks, _place(avatar, frames, anchors)], 1)


def _mask_points(avatar: WarpAvatar, anchors: NDArray[np.float64]) -> NDArray[np.float32]:
    rest = np.concatenate([avatar.track.rest[list(CONTROL_IDS)], anchors])
    return texture_positions(rest).astype(np.float32)


def _bite(avatar: WarpAvatar, exemplar: NDArray[np.int32]) -> NDArray[np.float32]:
    own = np.full(len(exemplar), avatar.bite, np.float32)
    return own if avatar.bank is None else np.where(exemplar < 0, own, avatar.bank.bite[exemplar])


def _seam(avatar: WarpAvatar, source: NDArray[np.integer]) -> NDArray[np.float32]:
    middle = avatar.track.rest[list(INNER_MIDDLES)].mean(0, keepdims=True)
    return _place(avatar, source, middle)[:, 0]


def _colour(
    avatar: WarpAvatar, source: NDArray[np.integer], base: NDArray[np.int32], pool: _Pool, ids: tuple[int, ...]
) -> NDArray[np.float32]:
    """Return (N, 3) median Y, U, V around landmarks in the source frames."""
    points = avatar.track.points[source][:, list(ids), :2] - avatar.region.origins[source][:, None]
    edge = avatar.region.size - 1 - _SKIN_RADIUS
    columns, lines = np.moveaxis(np.rint(points).astype(int).clip(_SKIN_RADIUS, edge), -1, 0)  # (N, P) each
    step = np.arange(-_SKIN_RADIUS, _SKIN_RADIUS + 1)
    around = lines[..., None, None] + step[:, None], columns[..., None, None] + step
    luma = pool.y[base[:, None, None, None], *around].mean((2, 3))  # (N, P)
    chroma = pool.uv[base[:, None], :, lines // 2, columns // 2]  # (N, P, 2)
    return np.concatenate([np.median(luma, 1)[:, None], np.median(chroma, 1)], 1).astype(np.float32)


def _teeth(
    avatar: WarpAvatar,
    source: NDArray[np.integer],
    base: NDArray[np.int32],
    pool: _Pool,
    skin: NDArray[np.float32],
    shows_own: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Return (N, 3) Y, U, V of the visible teeth, so that drawn teeth match them."""
    colour = usual_teeth(skin, avatar.eye_white)
    seen = np.flatnonzero(shows_own)
    if not len(seen):
        return colour
    marks = avatar.track.points[source[seen], :, :2] - avatar.region.origins[source[seen], None]
    upper, lower = (marks[:, ids, None] for ids in (_FRONT_UPPER, _FRONT_LOWER))
    places = upper + _TEETH_SHARES[:, None] * (lower - upper)  # (S, 7, 5, 2)
    places = np.rint(places).astype(int).clip(0, avatar.region.size - 1).reshape(len(seen), -1, 2)
    columns, lines = places[..., 0], places[..., 1]  # (S, 35) each
    own = base[seen, None]
    luma = pool.y[own, lines, columns]  # (S, 35)
    light = np.quantile(luma, _TEETH_QUANTILE, axis=1)
    is_tooth = (luma >= np.median(luma, 1, keepdims=True))[..., None]
    chroma = (pool.uv[own, :, lines // 2, columns // 2] * is_tooth).sum(1) / is_tooth.sum(1)
    shows = light > _MIN_TEETH_LIGHT * skin[seen, 0]
    colour[seen[shows]] = np.column_stack([light, chroma])[shows]
    return colour
