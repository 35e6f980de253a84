"""Fits `models/weights/lip_model.npz` on a folder of talking faces.

    python -m training.fit_lip_model CLIPS OUT

The shipped model was fitted on clips of six talkers of the GRID audio-visual sentence corpus (Cooke, Barker,
Cunningham and Shao, JASA 2006; CC BY 4.0): one talker per video file. The same clips give the same file.
`training.fit_skin_motion` then adds what the landmarks do not show.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from lipwright.config import MediaLimits
from lipwright.media.probe import probe_video
from lipwright.media.reader import FrameReader
from models.face.choice import FaceChoice
from models.geometry.head_frame import LIP_ROWS, MOVED, mean_face
from models.mouth.shape import CLOSED_SHARE, DEFAULT_SCALE, NUM_CHANNELS, measure, measure_matrix
from models.track.face_track import stabilise
from models.track.tracker import FaceTracker

_RIDGE = 1e-3
_CACHE_BYTES = 64 * 1024**2
# open_in + open_out = 2 (upper + lower), as `models.mouth.shape` defines them.
_DEPENDENCE = np.array([1.0, 1.0, 0.0, -2.0, -2.0, 0.0, 0.0, 0.0])
_OPEN_IN_TRUST = 0.1  # share of its variance with which open_in gives way when the channels contradict each other

Floats = NDArray[np.float64]


class Motion(NamedTuple):
    """One talker's motion from rest."""

    shape: Floats  # (T, 8)
    moved: Floats  # (T, M * 3) displacement of the points of MOVED, head frame
    rest: Floats  # (468, 3)


def track(clip: Path, tracker: FaceTracker) -> Floats:
    """Returns the (T, 468, 3) smoothed head-frame points of a clip's frames with a face."""
    info = probe_video(clip, MediaLimits())
    with FrameReader(clip, info, _CACHE_BYTES) as reader:
        raw, _ = tracker.track_chunk(reader.read(range(info.num_frames)), info.colour, FaceChoice(), None)
    return stabilise(raw.points, raw.present)[0][raw.present]


def motion_of(head: Floats) -> Motion:
    """Returns the motion from the mean of the most closed tenth of the frames."""
    opening = measure(head)[:, 0]
    rest = head[np.argsort(opening, kind="stable")[: max(3, round(len(head) * CLOSED_SHARE))]].mean(0)
    shape = measure(head).astype(np.float64) - measure(rest[None])
    return Motion(shape, (head - rest)[:, list(MOVED)].reshape(len(head), -1), rest)


def mirror(head: Floats) -> Floats:
    """Mirrors (T, 468, 3) head-frame points: point i takes the place of its twin on the other half of the face."""
    face = mean_face()
    flipped = face * [-1.0, 1.0, 1.0]
    cost = ((face[:, None] - flipped[None]) ** 2).sum(-1)
    twins = linear_sum_assignment(cost)[1]
    for row in LIP_ROWS:  # where closed lips meet, the nearest point is the other lip's
        twins[list(row)] = row[::-1]
    return head[:, twins] * [-1.0, 1.0, 1.0]


def fit_weights(motions: list[Motion]) -> Floats:
    """Fits (8, M * 3) weights by ridge regression, each talker with the same weight, then makes them consistent."""
    shape = np.concatenate([m.shape / np.sqrt(len(m.shape)) for m in motions]) / DEFAULT_SCALE
    moved = np.concatenate([m.moved / np.sqrt(len(m.moved)) for m in motions])
    gram = shape.T @ shape + _RIDGE * len(motions) * np.eye(NUM_CHANNELS)
    weights = np.linalg.solve(gram, shape.T @ moved) / DEFAULT_SCALE[:, None]
    return _make_consistent(weights, moved.T @ moved / len(motions))


def _make_consistent(weights: Floats, covariance: Floats) -> Floats:
    """Changes the weights least, in directions in which faces move, so that the result measures as was asked for."""
    measured = measure_matrix()[:, list(MOVED)].reshape(NUM_CHANNELS, -1) / DEFAULT_SCALE[:, None].astype(np.float64)
    target = consistent_shape() / DEFAULT_SCALE
    covariance = covariance + 1e-6 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    spread = measured @ covariance
    missing = target - weights @ measured.T  # (8, 8)
    return weights + missing @ np.linalg.pinv(spread @ measured.T, rcond=1e-9, hermitian=True) @ spread


def consistent_shape() -> Floats:
    """(8, 8): `shape @ matrix` is the nearest shape, in units of real speech, that a face can take.

    Seven of the eight channels are independent; what a speech network predicts may contradict itself a little.
    `open_in` keeps its value almost: whether lips meet is what the eye sees first.
    """
    variance = DEFAULT_SCALE.astype(np.float64) ** 2
    variance[0] *= _OPEN_IN_TRUST
    share = variance * _DEPENDENCE
    matrix: Floats = np.eye(NUM_CHANNELS) - np.outer(_DEPENDENCE, share) / (share @ _DEPENDENCE)
    return matrix


def fit_closing(motions: list[Motion]) -> Floats:
    """(8,) mean change of shape that goes with closing a real mouth by an `open_in` of 1."""
    pairs = [(m.shape[:, 0] @ m.shape / len(m.shape), m.shape[:, 0] @ m.shape[:, 0] / len(m.shape)) for m in motions]
    closing: Floats = -np.sum([a for a, _ in pairs], 0) / np.sum([b for _, b in pairs])
    return closing


def main(
    clips: Annotated[Path, typer.Argument(help="Folder of videos, one talker each.")],
    out: Annotated[Path, typer.Argument(help="The .npz to write.")],
) -> None:
    """Tracks the clips and writes the model."""
    tracker = FaceTracker(num_threads=1, device="cpu")
    heads = [track(clip, tracker) for clip in sorted(clips.glob("*.mp4"))]
    motions = [motion_of(side) for head in heads for side in (head, mirror(head))]
    np.savez(
        out,
        weights=fit_weights(motions).reshape(NUM_CHANNELS, -1, 3).astype(np.float32),
        closing=fit_closing(motions).astype(np.float32),
    )
    print(f"{out}: {len(heads)} talkers, {len(MOVED)} points")


if __name__ == "__main__":
    typer.run(main)
