"""Makes the pictures of a result from the frames of its source: faces, background, crop and scale, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.media.output.framing import Framing
from lipwright.media.yuv_frame import Patch, YuvFrame, paste_back, paste_changes


class YuvaFrame(YuvFrame):
    """A frame with the matte of the person in it.

    Attributes:
        alpha: (H, W), 255 is the person.
    """

    alpha: NDArray[np.uint8]

    @classmethod
    def of(cls, frame: YuvFrame, alpha: NDArray[np.uint8]) -> Self:
        """Return `frame` with its matte."""
        made = cls(*frame)
        made.alpha = alpha
        return made


class Canvas(NamedTuple):
    """The writable planes of one picture of a result, and its (H, W) alpha; None if it is opaque."""

    planes: YuvFrame
    alpha: NDArray[np.uint8] | None


class Composite(Protocol):
    """Cuts the person out of consecutive pictures."""

    def draw(self, frame: YuvFrame, alpha: NDArray[np.uint8]) -> YuvFrame:
        """Return the person in `frame` (where `alpha` is 255) in front of another background."""
        ...


class DrawPicture(Protocol):
    """Draws the next picture of a result."""

    def __call__(self, canvas: Canvas, frame: YuvFrame, patches: Sequence[Patch]) -> None:
        """Draw a frame of the source, which is not modified, with its faces on the canvas."""
        ...


def draw_whole(canvas: Canvas, frame: YuvFrame, patches: Sequence[Patch]) -> None:
    """Copy a frame and paste its faces.

    Raises:
        ValueError: It has a different size than the canvas.
    """
    if frame.y.shape != canvas.planes.y.shape:
        raise ValueError(f"Expected planes.y of shape {canvas.planes.y.shape}, got {frame.y.shape = }.")
    for view, plane in zip(canvas.planes, frame, strict=True):
        np.copyto(view, plane)
    _paste_all(canvas.planes, frame, patches)


class PictureMaker:
    """Draws consecutive pictures of a result.

    Args:
        framing: The part of the frames that is shown, and its size.
        corners: (T, 2) left and upper edges of that part in each picture, in pixels, may be fractions; None: 0, or for
            a part that is smaller than the frames, their middle.
        composite: Draws the person of a `YuvaFrame` in front of another background; None if no frame has a matte.
    """

    def __init__(
        self,
        framing: Framing,
        corners: NDArray[np.float32] | None = None,
        composite: Composite | None = None,
    ) -> None:
        self._framing, self._corners = framing, corners
        self._composite = composite
        self._num_drawn = 0

    def draw(self, canvas: Canvas, frame: YuvFrame, patches: Sequence[Patch]) -> None:
        """Draw the next picture from a frame, which is not modified, and its faces."""
        framing, shape = self._framing, frame.y.shape
        is_whole = shape == (framing.crop_height, framing.crop_width)
        alpha = frame.alpha if isinstance(frame, YuvaFrame) else None
        if is_whole and not framing.is_scaled and alpha is None:
            draw_whole(canvas, frame, patches)
            return
        region, matte = _with_faces(frame, patches), alpha
        if not is_whole:
            corner = self._corner(shape)
            region = _part(region, corner, framing)
            matte = None if alpha is None else _plane_part(alpha, corner, framing.crop_width, framing.crop_height)
        if matte is not None and self._composite is not None:
            region = self._composite.draw(region, matte)
        for plane, view in zip(region, canvas.planes, strict=True):
            np.copyto(view, resize_plane(plane, view.shape))
        if canvas.alpha is not None:
            np.copyto(canvas.alpha, 255 if matte is None else resize_plane(matte, canvas.alpha.shape))
        self._num_drawn += 1

    def _corner(self, shape: tuple[int, ...]) -> tuple[float, float]:
        if self._corners is not None:
            x, y = self._corners[min(self._num_drawn, len(self._corners) - 1)]
            return float(x), float(y)
        return (shape[1] - self._framing.crop_width) // 4 * 2, (shape[0] - self._framing.crop_height) // 4 * 2


def _with_faces(frame: YuvFrame, patches: Sequence[Patch]) -> YuvFrame:
    """Return the frame itself if it has no faces, else a copy with them."""
    if not patches:
        return YuvFrame(*frame)
    made = YuvFrame(*(plane.copy() for plane in frame))
    _paste_all(made, frame, patches)
    return made


def _paste_all(planes: YuvFrame, frame: YuvFrame, patches: Sequence[Patch]) -> None:
    """Paste patches into `planes`, a copy of `frame`; a later one does not undo an earlier one."""
    for number, patch in enumerate(patches):
        if number == 0:
            paste_back(planes, patch)
        else:
            paste_changes(planes, frame, patch)


def _part(frame: YuvFrame, corner: tuple[float, float], framing: Framing) -> YuvFrame:
    half = corner[0] / 2, corner[1] / 2
    width, height = framing.crop_width, framing.crop_height
    return YuvFrame(
        _plane_part(frame.y, corner, width, height),
        _plane_part(frame.u, half, width // 2, height // 2),
        _plane_part(frame.v, half, width // 2, height // 2),
    )


def _plane_part(plane: NDArray[np.uint8], corner: tuple[float, float], width: int, height: int) -> NDArray[np.uint8]:
    """Return a part of a plane: a view, or interpolated (bilinearly) if it lies between pixels."""
    x, y = corner
    if x == int(x) and y == int(y):
        return plane[int(y) : int(y) + height, int(x) : int(x) + width]
    middle = x + (width - 1) / 2, y + (height - 1) / 2
    return np.asarray(cv2.getRectSubPix(plane, (width, height), middle), np.uint8)


def resize_plane(plane: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return a plane in another size: averaged if that is smaller, else cubically interpolated."""
    if plane.shape == shape:
        return plane
    how = cv2.INTER_AREA if plane.size > shape[0] * shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(plane, shape[::-1], interpolation=how), np.uint8)
