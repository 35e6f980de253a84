"""Crops around faces: their positions and plans, and cutting them out of frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lipwright.media.array_files import load_arrays, save_arrays
from lipwright.media.probe import ColourTags
from lipwright.media.yuv_frame import YuvFrame, cut

_STEP: Final = 16  # a region's side is a multiple of this
_MARGIN: Final = 4  # pixels around the largest box: chroma is interpolated from beside it, and origins are even


@dataclass(frozen=True)
class BoxTrack:
    """Positions of the box that an engine rewrites, in each of the N source frames of an avatar."""

    size: int  # side R of the region that is cut, the same for all frames; even
    origins: NDArray[np.int32]  # (N, 2) x, y of the region's upper left pixel in the frame; even, may be negative
    boxes: NDArray[np.float32]  # (N, 4) x0, y0, x1, y1 of the network's picture, in region pixels
    outline: NDArray[np.float32]  # (N, P, 2) points whose convex hull is rewritten, in region pixels
    opacity: NDArray[np.float32]  # (N,) share of the generated face over the frame, 0 to 1; 0 in frames that pass

    @classmethod
    def of(cls, boxes: NDArray[np.floating], outline: NDArray[np.floating], opacity: NDArray[np.floating]) -> BoxTrack:
        """Place regions around boxes.

        Args:
            boxes: (N, 4) x0, y0, x1, y1 in frame pixels: edges, so that pixel i covers i to i + 1.
            outline: (N, P, 2) frame pixels.
            opacity: (N,) see above; `models.track.face_track.patch_share` of the track's driving weights.

        Raises:
            ValueError: Shapes that do not belong together, or a box without area.
        """
        num = len(boxes)
        if boxes.shape != (num, 4) or outline.shape[:1] + outline.shape[2:] != (num, 2) or opacity.shape != (num,):
            shapes = (boxes.shape, outline.shape, opacity.shape)
            raise ValueError(f"Expected (N, 4), (N, P, 2), (N,), got {shapes}.")
        sides = boxes[:, 2:] - boxes[:, :2]
        if not (sides > 0).all():
            raise ValueError(f"Expected boxes with x0 < x1 and y0 < y1, got sides of {sides.min()}.")
        used = sides[opacity > 0] if (opacity > 0).any() else sides
        size = int(np.ceil((used.max() + 2 * _MARGIN) / _STEP)) * _STEP
        middle = (boxes[:, :2] + boxes[:, 2:]) / 2
        origins = (np.rint((middle - size / 2) / 2) * 2).astype(np.int32)
        local = boxes - np.tile(origins, 2)
        return cls(
            size=size,
            origins=origins,
            boxes=local.astype(np.float32),
            outline=(outline - origins[:, None]).astype(np.float32),
            opacity=opacity.astype(np.float32),
        )

    @property
    def num_frames(self) -> int:
        """N."""
        return len(self.origins)

    def save(self, path: Path) -> None:
        """Write an .npz file."""
        save_arrays(path, self)

    @classmethod
    def load(cls, path: Path) -> BoxTrack:
        """Read what `save` wrote."""
        arrays = load_arrays(path)
        return cls(size=int(arrays.pop("size")), **arrays)


@dataclass(frozen=True)
class BoxPlan:
    """Output frames [first_frame, first_frame + T); implements `models.engines.protocol.Plan`."""

    first_frame: int  # output frame of row 0
    source_index: NDArray[np.int32]  # (T,) source frame that is shown
    features: NDArray[np.float32]  # (T, ...) features that drive each frame
    # Small arrays of T rows that an engine adds, by name
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {"features": len(self.features), **{name: len(rows) for name, rows in self.arrays.items()}}
        wrong = {name: length for name, length in lengths.items() if length != len(self.source_index)}
        if wrong:
            raise ValueError(f"Expected {len(self.source_index)} rows in every array, got {wrong}.")

    def __len__(self) -> int:
        return len(self.source_index)

    def slice(self, start: int, stop: int) -> BoxPlan:
        """Return frames [start, stop) as copies, so that a slice does not send the whole."""
        return BoxPlan(
            first_frame=self.first_frame + start,
            source_index=self.source_index[start:stop].copy(),
            features=self.features[start:stop].copy(),
            arrays={name: rows[start:stop].copy() for name, rows in self.arrays.items()},
        )


@dataclass(frozen=True)
class BoxChunk:
    """T output frames, N of them with a face, for a face generator; implements `models.engines.protocol.Chunk`.

    Regions are kept once each: a source frame that is shown several times is one of K crops.
    """

    row: NDArray[np.int32]  # (T,) which of the N faces is in the frame, -1 for none
    origins: NDArray[np.int32]  # (N, 2) x, y of the region in the frame, even
    # (N,) which of the K crops is the face's region; the same crop means the same box and outline
    crop: NDArray[np.int32]
    y: NDArray[np.uint8]  # (K, R, R) luma of the frames' own pixels
    uv: NDArray[np.uint8]  # (K, 2, R / 2, R / 2) chroma
    boxes: NDArray[np.float32]  # (N, 4) x0, y0, x1, y1 of the network's picture, region pixels
    outline: NDArray[np.float32]  # (N, P, 2) points whose convex hull is rewritten, region pixels
    opacity: NDArray[np.float32]  # (N,) share of the generated face over the frame, above 0, at most 1
    features: NDArray[np.float32]  # (N, ...) features for the network
    colour: ColourTags  # colour tags of the planes
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)  # the plan's arrays for the N faces, by name
    # Further crops that an engine needs, by name; not one for each face
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.row)

    @property
    def num_faces(self) -> int:
        """N."""
        return len(self.crop)

    @property
    def region_size(self) -> int:
        """R."""
        return int(self.y.shape[-1])

    def region(self, crop: int) -> YuvFrame:
        """Return a crop as views."""
        return YuvFrame(self.y[crop], self.uv[crop, 0], self.uv[crop, 1])


def crop_boxes(
    track: BoxTrack,
    colour: ColourTags,
    plan: BoxPlan,
    frames: Sequence[YuvFrame],
    extra: Mapping[str, NDArray[Any]] | None = None,
) -> BoxChunk:
    """Crop the regions of T output frames, at their own resolution, out of the read-only source frames.

    Args:
        track: The avatar's boxes.
        colour: The source's tags.
        plan: T output frames.
        frames: T source frames.
        extra: Further arrays of the chunk.

    Returns:
        The chunk; frames that pass untouched have row -1 in it.
    """
    if len(frames) != len(plan):
        raise ValueError(f"Expected {len(plan)} frames, got {len(frames)}.")
    opacity = track.opacity[plan.source_index]
    present = opacity > 0
    kept = np.flatnonzero(present)
    source = plan.source_index[kept]
    # Each picture is cut once; those of a moving still differ although their source frame is the same.
    number: dict[tuple[int, int], int] = {}
    regions: list[YuvFrame] = []
    crop = np.empty(len(kept), np.int32)
    for place, (i, frame) in enumerate(zip(kept.tolist(), source.tolist(), strict=True)):
        key = frame, id(frames[i].y)
        if key not in number:
            number[key] = len(regions)
            left, top = track.origins[frame].tolist()
            regions.append(cut(frames[i], left, top, track.size))
        crop[place] = number[key]
    size, half = track.size, track.size // 2
    y, uv = np.empty((len(regions), size, size), np.uint8), np.empty((len(regions), 2, half, half), np.uint8)
    for i, region in enumerate(regions):
        y[i], uv[i, 0], uv[i, 1] = region
    return BoxChunk(
        row=np.where(present, np.cumsum(present) - 1, -1).astype(np.int32),
        origins=track.origins[source],
        crop=crop,
        y=y,
        uv=uv,
        boxes=track.boxes[source],
        outline=track.outline[source],
        opacity=opacity[kept],
        features=plan.features[kept],
        colour=colour,
        arrays={name: rows[kept] for name, rows in plan.arrays.items()},
        extra=dict(extra or {}),
    )
