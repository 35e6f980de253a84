"""Cuts the regions around the boxes out of decoded frames, at their own resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from media.probe import ColourTags
from media.yuv_frame import YuvFrame, cut
from models.engines.box.box_chunk import BoxChunk
from models.engines.box.box_plan import BoxPlan
from models.engines.box.box_track import BoxTrack


def cut_boxes(
    track: BoxTrack,
    colour: ColourTags,
    plan: BoxPlan,
    frames: Sequence[YuvFrame],
    extra: Mapping[str, NDArray[Any]] | None = None,
) -> BoxChunk:
    """Cut the regions of T output frames.

    Args:
        track: The avatar's boxes.
        colour: The source's tags.
        plan: T output frames.
        frames: T source frames, read-only.
        extra: Handed on.

    Returns:
        The chunk; frames that pass untouched have row -1 in it.
    """
    if len(frames) != len(plan):
        raise ValueError(f"Expected {len(plan)} frames, got {len(frames)}.")
    opacity = track.opacity[plan.source_index]
    present = opacity > 0
    kept = np.flatnonzero(present)
    source = plan.source_index[kept]
    shown, first, crop = np.unique(source, return_index=True, return_inverse=True)
    regions = [
        cut(frames[kept[i]], int(track.origins[frame, 0]), int(track.origins[frame, 1]), track.size)
        for frame, i in zip(shown, first, strict=True)
    ]
    size, half = track.size, track.size // 2
    y, uv = np.empty((len(regions), size, size), np.uint8), np.empty((len(regions), 2, half, half), np.uint8)
    for i, region in enumerate(regions):
        y[i], uv[i, 0], uv[i, 1] = region
    return BoxChunk(
        row=np.where(present, np.cumsum(present) - 1, -1).astype(np.int32),
        origins=track.origins[source],
        crop=crop.astype(np.int32),
        y=y,
        uv=uv,
        boxes=track.boxes[source],
        outline=track.outline[source],
        opacity=opacity[kept],
        drive=plan.drive[kept],
        colour=colour,
        arrays={name: rows[kept] for name, rows in plan.arrays.items()},
        extra=dict(extra or {}),
    )
