"""Fits how far cheeks and chin move beyond their landmarks, and writes it into `models/weights/lip_model.npz`.

    python -m training.fit_skin_motion CLIPS LIP_MODEL

The face mesh moves cheeks and chin too little when lips open, close, spread or round; optical flow shows how far they
move. CLIPS is the folder that `training.fit_lip_model` was run on, and LIP_MODEL the file that it wrote. The same clips
give the same file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from lipwright.config import MediaLimits
from lipwright.media.array_files import load_arrays
from lipwright.media.probe import probe_video
from lipwright.media.reader import FrameReader
from models.face.choice import FaceChoice
from models.geometry.head_frame import (
    ABOUT_MIDDLE,
    CORNER_LEFT,
    CORNER_RIGHT,
    EYE_LEFT,
    EYE_RIGHT,
    LIPS,
    MOVED,
    NUM_POINTS,
    OUTER_LOWER,
    OUTER_UPPER,
    RIGID,
    mean_face,
)
from models.mouth.shape import CHANNELS, DEFAULT_SCALE, NUM_CHANNELS
from models.track.face_track import FaceTrack, finish_track
from models.track.tracker import FaceTracker
from training.fit_lip_model import mirror

_CACHE_BYTES = 64 * 1024**2
_NUM_PAIRS = 600  # of frames, of each clip
_MAX_FRAMES_APART, _MAX_DEGREES_APART = 12, 3.0
_SCALE, _SIDE = 200.0, 480  # of the aligned pictures: pixels per eye distance, pixels
_BLUR = 5  # pixels
_RIDGE = 0.03  # relative to the variance of what is given
# The flow of hair and background is not that of the face. Eye distances from the middle of the face.
_INNER, _OUTER = 0.5, 0.75
_MAX_RIGID_X, _MAX_RIGID_Y = 0.55, 0.3  # rigid points farther out or up are on hair or background

Floats = NDArray[np.float64]


class SkinMotion(NamedTuple):
    """Changes between P pairs of frames of one talker."""

    shape: Floats  # (P, 8)
    flow: Floats  # (P, M, 2) displacement of the points of MOVED relative to the head, eye distances, y up


def measure_clip(clip: Path, tracker: FaceTracker) -> SkinMotion:
    """Measures the optical flow between frames of a clip whose mouth shapes differ."""
    info = probe_video(clip, MediaLimits())
    with FrameReader(clip, info, _CACHE_BYTES) as reader:
        raw, _ = tracker.track_chunk(reader.read(range(info.num_frames)), info.colour, FaceChoice(), None)
        track = finish_track(raw.points, raw.present, fps=float(info.fps))
        luma = [planes.y for planes in reader.read(range(info.num_frames))]
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow.setFinestScale(0)
    shapes, flows = [], []
    for first, second in _pairs(track):
        moved = _relative_flow(track, luma, first, second, flow)
        if moved is not None:
            shapes.append(track.shape[second] - track.shape[first])
            flows.append(moved)
    return SkinMotion(np.array(shapes, np.float64), np.array(flows))


def _pairs(track: FaceTrack) -> list[tuple[int, int]]:
    """Returns pairs of frames with a similar head pose; the more the mouths differ, the more pairs."""
    frames = np.arange(track.num_frames)
    first, apart = (grid.ravel() for grid in np.meshgrid(frames, np.arange(2, _MAX_FRAMES_APART + 1), indexing="ij"))
    second = first + apart
    first, second = first[second < len(frames)], second[second < len(frames)]
    turned = np.abs(track.pose_degrees[first] - track.pose_degrees[second]).max(1)
    usable = track.visible[first] & track.visible[second] & (turned < _MAX_DEGREES_APART)
    first, second = first[usable], second[usable]
    weight = np.linalg.norm((track.shape[first] - track.shape[second]) / DEFAULT_SCALE, axis=1)
    generator = np.random.default_rng(0)
    chosen = generator.choice(len(first), min(_NUM_PAIRS, len(first)), replace=False, p=weight / weight.sum())
    return list(zip(first[chosen].tolist(), second[chosen].tolist(), strict=True))


def _relative_flow(
    track: FaceTrack, luma: list[NDArray[np.uint8]], first: int, second: int, flow: cv2.DISOpticalFlow
) -> Floats | None:
    """Returns the (M, 2) displacement of the points of MOVED relative to the rigid points; None without a fit."""
    points = track.points[first, :, :2].astype(np.float64)
    across, middle = points[EYE_RIGHT] - points[EYE_LEFT], points[list(MOVED)].mean(0)
    (x, y), size = across / np.linalg.norm(across), _SCALE / track.scale[first]
    turn = size * np.array([[x, y], [-y, x]])
    to_picture = np.column_stack([turn, _SIDE / 2 - turn @ middle])
    before, after = (
        cv2.warpAffine(luma[frame], to_picture, (_SIDE, _SIDE), flags=cv2.INTER_CUBIC) for frame in (first, second)
    )
    motion = cv2.blur(flow.calc(before, after, np.zeros((_SIDE, _SIDE, 2), np.float32)), (_BLUR, _BLUR))
    places = points @ to_picture[:, :2].T + to_picture[:, 2]
    columns, lines = (places[:, [axis]].astype(np.float32) for axis in (0, 1))
    moved = cv2.remap(motion, columns, lines, cv2.INTER_LINEAR)[:, 0].astype(np.float64)
    face = mean_face()
    rigid = [point for point in RIGID if abs(face[point, 0]) < _MAX_RIGID_X and face[point, 1] < _MAX_RIGID_Y]
    head, _ = cv2.estimateAffinePartial2D(places[rigid], (places + moved)[rigid], ransacReprojThreshold=1.0)
    if head is None:
        return None
    relative = places + moved - (places @ head[:, :2].T + head[:, 2])
    return np.asarray(relative[list(MOVED)] / _SCALE * [1, -1])


def fit_skin(motions: list[SkinMotion], weights: Floats) -> Floats:
    """Fits the (8, M, 3) displacement of the skin that (8, M, 3) `weights` of its landmarks lack; 0 at the lips."""
    fitted = np.mean([_fit_talker(motion, weights) for motion in motions], 0)
    inside = ((_OUTER - np.abs(mean_face()[list(MOVED), 0])) / (_OUTER - _INNER)).clip(0, 1)
    is_skin = np.array([point not in LIPS for point in MOVED])
    skin = np.zeros_like(weights)
    skin[..., :2] = (fitted - weights[..., :2]) * (inside * is_skin)[:, None]
    return skin


def _fit_talker(motion: SkinMotion, weights: Floats) -> Floats:
    """Fits the (8, M, 2) displacement of the skin of one talker and of the mirrored one.

    The skin follows the lips and the jaw. Landmarks of both jitter, which would make it follow too little. So it is
    fitted to the flow of the lips, with the landmarks as instruments (two-stage least squares).
    """
    cause = _causes(motion.flow, motion.shape)
    expected = motion.shape @ _ridge_regression(motion.shape, cause)  # (P, 5)
    followed = _ridge_regression(expected, motion.flow.reshape(len(expected), -1))
    fitted = (_causes(weights[..., :2], np.eye(NUM_CHANNELS)) @ followed).reshape(NUM_CHANNELS, len(MOVED), 2)
    field = np.zeros((NUM_CHANNELS, NUM_POINTS, 3))
    field[:, list(MOVED), :2] = fitted
    both: Floats = (field + mirror(field))[:, list(MOVED), :2] / 2
    return both


def _causes(moved: Floats, shape: Floats) -> Floats:
    """Returns (N, 5): width, heights of both lips and of the corners by (N, M, 2) displacements, and the jaw."""
    left, right = moved[:, MOVED.index(CORNER_LEFT)], moved[:, MOVED.index(CORNER_RIGHT)]
    upper, lower = (
        moved[:, [MOVED.index(point) for point in row[ABOUT_MIDDLE]], 1].mean(1) for row in (OUTER_UPPER, OUTER_LOWER)
    )
    jaw = shape[:, CHANNELS.index("jaw")]
    return np.column_stack([right[:, 0] - left[:, 0], upper, lower, (left + right)[:, 1] / 2, jaw])


def _ridge_regression(given: Floats, wanted: Floats) -> Floats:
    """Returns the (K, L) coefficients that give (P, L) `wanted` from (P, K) `given`."""
    unit = np.sqrt((given**2).mean(0)) + 1e-9
    scaled = given / unit
    gram = scaled.T @ scaled / len(scaled) + _RIDGE * np.eye(given.shape[1])
    return np.asarray(np.linalg.solve(gram, scaled.T @ wanted / len(scaled)) / unit[:, None])


def main(
    clips: Annotated[Path, typer.Argument(help="Folder of videos, one talker each.")],
    lip_model: Annotated[Path, typer.Argument(help="The .npz that training.fit_lip_model wrote.")],
) -> None:
    """Measures the clips and adds the motion of the skin to the model."""
    tracker, stored = FaceTracker(num_threads=1, device="cpu"), load_arrays(lip_model)
    motions = [measure_clip(clip, tracker) for clip in sorted(clips.glob("*.mp4"))]
    weights, closing = stored["weights"], stored["closing"]
    skin = fit_skin(motions, weights.astype(np.float64)).astype(np.float32)
    np.savez(lip_model, weights=weights, closing=closing, skin=skin)
    print(f"{lip_model}: {len(motions)} talkers, {sum(len(motion.shape) for motion in motions)} pairs of frames")


if __name__ == "__main__":
    typer.run(main)
