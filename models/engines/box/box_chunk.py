"""Some output frames with the regions whose boxes a network rewrites: what travels to a painter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from media.probe import ColourTags
from media.yuv_frame import YuvFrame


@dataclass(frozen=True)
class BoxChunk:
    """T output frames, N of them with a face; satisfies `models.engines.contract.Chunk`.

    Regions are kept once each: a source frame that is shown several times is one of K crops.

    Attributes:
        row: (T,) int32 which of the N faces is in the frame, -1 for none.
        origins: (N, 2) int32 x, y of the region in the frame, even.
        crop: (N,) int32 which of the K crops is the face's region; the same crop means the same box and outline.
        y: (K, R, R) uint8 luma of the frames' own pixels.
        uv: (K, 2, R / 2, R / 2) uint8 chroma.
        boxes: (N, 4) float32 x0, y0, x1, y1 of the network's picture, region pixels.
        outline: (N, P, 2) float32 points whose convex hull is rewritten, region pixels.
        opacity: (N,) float32 share of the painted face over the frame, above 0, at most 1.
        drive: (N, ...) float32 what the network hears.
        colour: How Y, U and V mean colours.
        arrays: The plan's arrays for the N faces, by name.
        extra: Further crops that an engine needs, by name; not one for each face.
    """

    row: NDArray[np.int32]
    origins: NDArray[np.int32]
    crop: NDArray[np.int32]
    y: NDArray[np.uint8]
    uv: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    outline: NDArray[np.float32]
    opacity: NDArray[np.float32]
    drive: NDArray[np.float32]
    colour: ColourTags
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
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
