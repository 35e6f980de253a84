"""What a face engine is, and the registry of the engines there are.

Signatures (stable)::

    make_engine(name: str, *, device: str = "cpu", num_threads: int = 1) -> Engine     OptionError, ConfigError
    Engine.spec: EngineSpec
    Engine.synthesize(chunk: FaceChunk) -> FacePatches
    FaceChunk.num_frames: int
    FacePatches.patch(i: int) -> Patch | None          # None: no face in this frame, it passes untouched
    len(FacePatches) == FaceChunk.num_frames

`FaceChunk` and `FacePatches` are plain NumPy, so that they travel through an object store without copies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from errors import OptionError
from media.planes import Patch, Planes


@dataclass(frozen=True)
class EngineSpec:
    """What an engine needs; everything before and after it follows from this.

    Attributes:
        name: What a job calls it.
        drive: "landmarks", or the audio features that it hears.
        crop: "region" for the native-resolution square of `models.face_region`.
        colour: Colour order of the crops: "yuv420" or "rgb" or "bgr".
        weights: Names of the weights files that the user has to bring.
    """

    name: str
    drive: str
    crop: str
    colour: str
    weights: tuple[str, ...] = ()


@dataclass(frozen=True)
class FaceChunk:
    """T output frames, N of them with a face, cut out and ready for an engine.

    Crops are kept once each: a frame's own region, its exemplar and the exemplar that it fades with are rows of
    the same pool of K crops.

    Attributes:
        row: (T,) int32 which of the N faces is in the frame, -1 for none.
        origins: (N, 2) int32 x, y of the region in the frame.
        crops_y: (K, R, R) uint8.
        crops_uv: (K, 2, R / 2, R / 2) uint8.
        crop_points: (K, P, 2) float32 control points in region pixels.
        base: (N,) int32 crop of the frame itself.
        exemplar: (N,) int32 crop whose mouth is shown.
        fade: (N,) int32 crop that is mixed in, -1 for none.
        fade_weight: (N,) float32 its share, 0 to 1.
        target_points: (N, P, 2) float32 control points where they shall be, region pixels.
        interior: (N,) float32 share of the drawn mouth interior, 0 to 1.
        own_teeth: (N,) float32 share of the exemplar's own teeth over the drawn ones, 0 to 1.
        eye_distance: (N,) float32 pixels.
        seam: (N, 2) float32 region pixels of the closed lips' seam, fixed to the skull.
        skin: (N, 3) float32 Y, U, V of the cheeks.
        masks: (M, M, 2) uint8 textures of the mouth and the jaw mask.
        mask_points: (P, 2) float32 control points in texture pixels.
    """

    row: NDArray[np.int32]
    origins: NDArray[np.int32]
    crops_y: NDArray[np.uint8]
    crops_uv: NDArray[np.uint8]
    crop_points: NDArray[np.float32]
    base: NDArray[np.int32]
    exemplar: NDArray[np.int32]
    fade: NDArray[np.int32]
    fade_weight: NDArray[np.float32]
    target_points: NDArray[np.float32]
    interior: NDArray[np.float32]
    own_teeth: NDArray[np.float32]
    eye_distance: NDArray[np.float32]
    seam: NDArray[np.float32]
    skin: NDArray[np.float32]
    masks: NDArray[np.uint8]
    mask_points: NDArray[np.float32]

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.row)

    @property
    def region_size(self) -> int:
        """R."""
        return self.crops_y.shape[-1]


@dataclass(frozen=True)
class FacePatches:
    """Finished regions for T frames; outside the masks every pixel is that of the frame.

    Attributes:
        row: (T,) int32 which of the N patches belongs to the frame, -1 for none.
        origins: (N, 2) int32 x, y in the frame.
        y: (N, R, R) uint8.
        uv: (N, 2, R / 2, R / 2) uint8.
    """

    row: NDArray[np.int32]
    origins: NDArray[np.int32]
    y: NDArray[np.uint8]
    uv: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.row)

    def patch(self, index: int) -> Patch | None:
        """Returns the patch of frame `index`, or None for a frame without a face."""
        row = int(self.row[index])
        if row < 0:
            return None
        x, y = (int(value) for value in self.origins[row])
        return Patch(x, y, Planes(self.y[row], self.uv[row, 0], self.uv[row, 1]))


class Engine(Protocol):
    """Turns crops and their drive into faces. Holds weights and no state."""

    spec: EngineSpec

    def synthesize(self, chunk: FaceChunk) -> FacePatches:
        """Returns one patch for every face of `chunk`."""
        ...


def _make_warp(device: str, num_threads: int) -> Engine:
    from models.warp.engine import WarpEngine

    return WarpEngine(device, num_threads)


_ENGINES: dict[str, Callable[[str, int], Engine]] = {"warp": _make_warp}


def engine_names() -> tuple[str, ...]:
    """Returns the names that `make_engine` knows."""
    return tuple(_ENGINES)


def make_engine(name: str, *, device: str = "cpu", num_threads: int = 1) -> Engine:
    """Makes an engine.

    Args:
        name: One of `engine_names()`.
        device: "cpu", "cuda" or "cuda:N".
        num_threads: Threads that it may use on the CPU.

    Raises:
        OptionError: There is no such engine.
        ConfigError: The device was asked for and is not there.
    """
    if name not in _ENGINES:
        raise OptionError(f"engine: expected one of {', '.join(_ENGINES)}, found {name!r}")
    return _ENGINES[name](device, num_threads)
