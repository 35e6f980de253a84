"""The 68 points that place DINet's crop, from HeyGem's optional detector and landmarks or from Lipwright's track."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.errors import CancelledJobError, FaceNotFoundError
from lipwright.media.frame_source import FrameSource
from lipwright.media.probe import ColourTags
from lipwright.media.yuv_frame import to_rgb
from lipwright_engines_classic.dinet.crop import runs_of, smooth_rows
from lipwright_engines_classic.dinet.weights import detector_mismatch, landmarks_mismatch
from models.engines.paste.landmarks68 import ibug_points
from models.engines.protocol import ComputeResources

if TYPE_CHECKING:
    from models.track.face_track import FaceTrack

_DETECTOR_SIDE, _STRIDES, _NUM_ANCHORS = 640, (8, 16, 32), 2
_MIN_SCORE, _MAX_OVERLAP = 0.5, 0.35
_NUMS = tuple((_DETECTOR_SIDE // stride) ** 2 * _NUM_ANCHORS for stride in _STRIDES)


class FaceDetector:
    """SCRFD (scrfd_500m_bnkps or scrfd_10g_kps), exported to ONNX: finds the boxes of faces.

    Input and output as in HeyGem's face_detect_utils/scrfd.py: the frame in the upper left of a black 640 x 640
    picture, RGB, (x - 127.5) / 128; per stride 8, 16, 32 and two anchors per position: scores, distances to the four
    edges in strides, five points; an anchor lies at its position times the stride, without an offset of half a step.

    Raises:
        WeightsError: The file is missing or is not such a network.
        ConfigError: CUDA was requested but is not available.
    """

    def __init__(self, path: Path, resources: ComputeResources) -> None:
        from models.engines.runtime.onnx import OnnxNetwork  # not needed without these files

        self._network = OnnxNetwork(path, resources, detector_mismatch)

    def __call__(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Find the faces of one frame, (H, W, 3) uint8 RGB.

        Returns:
            (K, 5) float32 x0, y0, x1, y1 in frame pixels and the score, best first.
        """
        scale = _DETECTOR_SIDE / max(rgb.shape[:2])
        height, width = (max(1, int(side * scale)) for side in rgb.shape[:2])
        padded = np.zeros((_DETECTOR_SIDE, _DETECTOR_SIDE, 3), np.float32)
        padded[:height, :width] = cv2.resize(rgb, (width, height))
        outputs = self._network.run_all(((padded - 127.5) / 128).transpose(2, 0, 1)[None])
        found = np.concatenate(
            [
                _decode(outputs[i], outputs[i + 3], stride, num)
                for i, (stride, num) in enumerate(zip(_STRIDES, _NUMS, strict=True))
            ]
        )
        found[:, :4] /= np.tile([width / rgb.shape[1], height / rgb.shape[0]], 2).astype(np.float32)
        return found[_best_of_each(found)]


def _decode(scores: NDArray[np.float32], edges: NDArray[np.float32], stride: int, num: int) -> NDArray[np.float32]:
    """(K, 5) boxes of one stride, in pixels of the padded frame."""
    scores, edges = scores.reshape(num), edges.reshape(num, 4) * stride
    side = _DETECTOR_SIDE // stride
    rows, columns = np.divmod(np.arange(side * side).repeat(_NUM_ANCHORS), side)
    x, y = columns * stride, rows * stride
    boxes = np.stack([x - edges[:, 0], y - edges[:, 1], x + edges[:, 2], y + edges[:, 3], scores], 1)
    return boxes[scores >= _MIN_SCORE].astype(np.float32)


def _best_of_each(found: NDArray[np.float32]) -> list[int]:
    """Non-maximum suppression: rows that do not overlap a better one."""
    kept: list[int] = []
    for row in np.argsort(-found[:, 4], kind="stable").tolist():
        if all(overlap(found[row], found[other]) <= _MAX_OVERLAP for other in kept):
            kept.append(row)
    return kept


def overlap(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Return the shared area of two boxes over that of both together."""
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:4], other[2:4])
    shared = float(np.prod((high - low).clip(0)))
    areas = sum(float(np.prod(box[2:4] - box[:2])) for box in (one, other))
    return shared / max(areas - shared, 1e-9)


_LANDMARK_SIDE = 112
_WIDER = 0.1

# WFLW's 98 points behind the 68 of iBUG, in iBUG's order; a pair stands for the midpoint of two.
_OF_98: Final = (
    *((i,) for i in range(0, 33, 2)),  # jaw
    *((i,) for i in (*range(33, 38), *range(42, 47))),  # brows
    *((i,) for i in range(51, 60)),  # nose
    *((60,), (60, 62), (62, 64), (64,), (64, 66), (60, 66)),  # eye
    *((68,), (68, 70), (70, 72), (72,), (72, 74), (68, 74)),  # eye
    *((i,) for i in range(76, 96)),  # mouth
)


class FaceLandmarks98:
    """PFPLD (pfpld_robust_sim_bs1_8003.onnx or a similar file): finds the points of the face in a box.

    Input and output as in HeyGem's face_detect_utils/face_detect.py: the box, widened by a tenth of its width to either
    side and of its height below, as 112 x 112 BGR in [0, 1]; the second output's first 196 numbers are the 98 points of
    WFLW, 0 to 1 in the crop.

    Raises:
        WeightsError: The file is missing or is not such a network.
        ConfigError: CUDA was requested but is not available.
    """

    def __init__(self, path: Path, resources: ComputeResources) -> None:
        from models.engines.runtime.onnx import OnnxNetwork  # not needed without these files

        self._network = OnnxNetwork(path, resources, landmarks_mismatch)

    def __call__(self, rgb: NDArray[np.uint8], box: NDArray[np.floating]) -> NDArray[np.float32]:
        """Find the (68, 2) float32 points of the face in a box x0, y0, x1, y1 of a frame, (H, W, 3) uint8 RGB.

        Raises:
            FaceNotFoundError: The box lies outside of the frame.
        """
        width, height = box[2] - box[0], box[3] - box[1]
        limit = np.tile(rgb.shape[1::-1], 2)
        wide = box + np.array([-_WIDER * width, 0, _WIDER * width, _WIDER * height])
        x0, y0, x1, y1 = (int(value) for value in wide.clip(0, limit))
        if x0 >= x1 or y0 >= y1:
            raise FaceNotFoundError(f"Expected a face in the {rgb.shape[1]} x {rgb.shape[0]} frame, its box is {box}.")
        crop = cv2.resize(rgb[y0:y1, x0:x1, ::-1], (_LANDMARK_SIDE, _LANDMARK_SIDE)).astype(np.float32) / 255
        points = self._network.run_all(crop.transpose(2, 0, 1)[None])[1][0, :196].reshape(98, 2)
        return (points_68(points) * [x1 - x0, y1 - y0] + [x0, y0]).astype(np.float32)


def points_68(points: NDArray[np.floating]) -> NDArray[np.float32]:
    """Turn (98, 2) points of WFLW into the (68, 2) of iBUG."""
    return np.stack([points[list(rows)].mean(0) for rows in _OF_98]).astype(np.float32)


_Found = TypeVar("_Found")

_MIN_OVERLAP = 0.1  # with the tracked face; a detection below it is another person


def find_points(
    track: FaceTrack,
    frames: FrameSource,
    colour: ColourTags,
    detector: FaceDetector | None,
    landmarks: FaceLandmarks98 | None,
    should_stop: Callable[[], bool],
    num_looked_at: int | None = None,
) -> NDArray[np.float32]:
    """Find the points that place the crop, with HeyGem's networks if the user added them, otherwise from the track.

    The track determines which face it is and in which frames it is visible. The detector's boxes are only used for the
    landmarks.

    Args:
        track: The avatar's face, smoothed.
        frames: Reads its frames.
        colour: The source's tags.
        detector: HeyGem's detector, or None for the track's own boxes.
        landmarks: HeyGem's landmarks, or None for the track's own points.
        should_stop: Checked between frames.
        num_looked_at: Only the first M frames are looked at, the others are these again with the head at other angles,
            as are the rows of a still (`models.avatar.still_frame`): what is found in a frame is as far from the
            track in all that show it. None: all.

    Returns:
        (N, 68, 2) float32 frame pixels, smoothed over the whole track.

    Raises:
        CancelledJobError: `should_stop` returned True.
    """
    own = ibug_points(track.points)
    num = len(own) if num_looked_at is None else num_looked_at
    points = own[:num].copy()
    shown = np.flatnonzero(track.visible[:num])
    if landmarks is None or not len(shown):
        return own
    run = runs_of(track.visible[:num], track.shot[:num])
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
    """The detected box of the tracked face, or else the track's own box."""
    shares = [overlap(box, own) for box in found]
    return found[int(np.argmax(shares)), :4] if shares and max(shares) >= _MIN_OVERLAP else own


def _until(results: Iterable[_Found], should_stop: Callable[[], bool]) -> Iterator[_Found]:
    for result in results:
        if should_stop():
            raise CancelledJobError("The analysis of the avatar was cancelled.")
        yield result
