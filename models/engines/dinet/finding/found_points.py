"""The 68 points in every frame, by HeyGem's own networks where the user brought them, else by our track."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from errors import CancelledJobError
from media.frame_source import FrameSource
from media.probe import ColourTags
from media.yuv_frame import to_rgb
from models.engines.box.points68 import ibug_points
from models.engines.dinet.box_smoothing import runs_of, smooth_rows
from models.engines.dinet.finding.face_detector import FaceDetector, overlap
from models.engines.dinet.finding.face_landmarks98 import FaceLandmarks98

if TYPE_CHECKING:
    from models.track.face_track import FaceTrack

_Found = TypeVar("_Found")

_MIN_OVERLAP = 0.1  # with our own face, below which a detection is somebody else


def find_points(
    track: FaceTrack,
    frames: FrameSource,
    colour: ColourTags,
    detector: FaceDetector | None,
    landmarks: FaceLandmarks98 | None,
    should_stop: Callable[[], bool],
    num_looked_at: int | None = None,
) -> NDArray[np.float32]:
    """Find the points that the crop is laid by.

    The track says which face it is and where none is to be seen. The detector's boxes only serve the landmarks.

    Args:
        track: The avatar's face, smoothed.
        frames: Reads its frames.
        colour: The source's tags.
        detector: HeyGem's detector, or None for the track's own boxes.
        landmarks: HeyGem's landmarks, or None for the track's own points.
        should_stop: Asked between frames.
        num_looked_at: Only the first M frames are looked at, the others are these again with the head at other angles,
            as are the rows of a still (`models.avatar.idle_motion`): what is found in a frame is as far from the
            track in all that show it. None: all.

    Returns:
        (N, 68, 2) float32 frame pixels, smoothed over the whole track.

    Raises:
        CancelledJobError: `should_stop` said so.
    """
    own = ibug_points(track.points)
    num = len(own) if num_looked_at is None else num_looked_at
    points = own[:num].copy()
    shown = np.flatnonzero(track.present[:num])
    if landmarks is None or not len(shown):
        return own
    run = runs_of(track.present[:num], track.shot[:num])
    places = track.points[:num, :, :2]
    boxes = np.concatenate([places.min(1), places.max(1)], 1)  # (M, 4)
    if detector is not None:
        found = (
            _nearest(detector(to_rgb(planes, colour)), boxes[frame])
            for frame, planes in zip(shown, frames.read(shown.tolist()), strict=True)
        )
        boxes[shown] = list(_until(found, should_stop))
        boxes = smooth_rows(boxes, run).astype(np.float32)
    marks = (
        landmarks(to_rgb(planes, colour), boxes[frame])
        for frame, planes in zip(shown, frames.read(shown.tolist()), strict=True)
    )
    points[shown] = list(_until(marks, should_stop))
    flat = smooth_rows(points.reshape(len(points), -1), run)
    smooth = flat.reshape(points.shape).astype(np.float32)
    again = own[num:].reshape(-1, *smooth.shape) + (smooth - own[:num])
    return np.concatenate([smooth, again.reshape(-1, *smooth.shape[1:])])


def _nearest(found: NDArray[np.float32], own: NDArray[np.float32]) -> NDArray[np.float32]:
    """The detected box that is our face, or our own."""
    shares = [overlap(box, own) for box in found]
    return found[int(np.argmax(shares)), :4] if shares and max(shares) >= _MIN_OVERLAP else own


def _until(results: Iterable[_Found], should_stop: Callable[[], bool]) -> Iterator[_Found]:
    for result in results:
        if should_stop():
            raise CancelledJobError("The analysis of the avatar was cancelled.")
        yield result
