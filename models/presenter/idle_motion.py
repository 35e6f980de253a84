"""Idle motion: how the head of a still portrait sways, breathes and blinks while it speaks.

The motion is a plan of N frames, made once from the picture's content, so that every process and every run shows the
same. It starts and ends at the still itself, at rest: played as a loop, forward and backward, or held, it never jumps.
`models.presenter.moving_still` draws it, `IdleMotion.move` gives the landmarks that belong to what is drawn.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from media.array_files import load_arrays
from media.planes import Planes
from models.track.face_track import FaceTrack

IDLE_SECONDS: Final = 12.0
"""Length of the plan."""

# Head frame, eye distances: the neck's joint lies below the chin and behind the face. What is as far from the camera
# as it, the outline of the head, stays in place when the head turns or nods.
PIVOT: Final = (0.0, -1.5, -0.7)

HEAD_BREATH: Final = 0.4
"""Share of the shoulders' rise that the head follows."""

_SWAY_HERTZ: Final = 0.6  # nothing in an idle head moves faster
_ROTATION_STD: Final = (0.55, 0.85, 0.5)  # degrees of pitch, yaw and roll
_SHIFT_STD: Final = (0.012, 0.007)  # eye distances to the right and down
_MAX_STDS: Final = 2.2
_BREATH_SECONDS: Final = 4.0
_BREATH: Final = 0.014  # eye distances that the shoulders rise

# Seconds. Lids fall faster than they rise (VanderWerf et al., "Eyelid movements", J. Neurophysiol. 89, 2003).
_CLOSING, _CLOSED, _OPENING = 0.11, 0.04, 0.19
_FIRST_BLINK: Final = (1.2, 2.4)
_BLINK_PAUSE: Final = (2.5, 6.0)
_LAST_BLINK: Final = 0.8  # before the end

# Side of the picture, in eye distances between the face and the border, that leaves the head its full motion.
_FREE_MARGIN: Final = 0.15


@dataclass(frozen=True)
class IdleMotion:
    """The plan of N frames.

    Attributes:
        rotation: (N, 3) float64 rotation vectors in the head frame, radians: pitch, yaw, roll around `PIVOT`.
        shift: (N, 2) float64 of the head, eye distances, x right, y down.
        breath: (N,) float64 rise of the shoulders, eye distances.
        closing: (N,) float64 how far the lids are closed, 0 to 1.
    """

    rotation: NDArray[np.float64]
    shift: NDArray[np.float64]
    breath: NDArray[np.float64]
    closing: NDArray[np.float64]

    @property
    def num_frames(self) -> int:
        """N."""
        return len(self.closing)

    @classmethod
    def plan(cls, still: Planes, track: FaceTrack, fps: float) -> IdleMotion:
        """Plans the motion of one portrait; the same picture gets the same motion.

        Args:
            still: The picture.
            track: The face in it, one frame.
            fps: Frames a second.
        """
        seed = hashlib.sha256(b"".join(plane.tobytes() for plane in still)).digest()
        rng = np.random.default_rng(int.from_bytes(seed[:8], "little"))
        num_frames = max(1, round(IDLE_SECONDS * fps))
        room = _room(track, still.y.shape[1], still.y.shape[0])
        sway = _sway(rng, num_frames, len(_ROTATION_STD) + len(_SHIFT_STD))  # (N, 5)
        breaths = round(IDLE_SECONDS / _BREATH_SECONDS)
        wave = 1 - np.cos(2 * np.pi * breaths * np.arange(num_frames) / max(num_frames - 1, 1))
        return cls(
            rotation=room * np.radians(_ROTATION_STD) * sway[:, :3],
            shift=room * np.array(_SHIFT_STD) * sway[:, 3:],
            breath=room * _BREATH / 2 * wave,
            closing=_blinks(rng, num_frames, fps),
        )

    def turns(self) -> NDArray[np.float64]:
        """(N, 3, 3) the rotations as matrices in the head frame."""
        from scipy.spatial.transform import Rotation  # a second to import: only where it is asked for

        matrices: NDArray[np.float64] = Rotation.from_rotvec(self.rotation).as_matrix()
        return matrices

    def move(self, track: FaceTrack) -> FaceTrack:
        """Returns the track of the N moved frames of a still whose track is one frame."""
        if track.num_frames != 1:
            raise ValueError(f"Expected a track of one frame, got {track.num_frames = }.")
        held = {
            field.name: np.repeat(value, self.num_frames, 0)
            for field in fields(track)
            if field.name != "rest" and isinstance(value := getattr(track, field.name), np.ndarray)
        }
        scale, rotation = float(track.scale[0]), track.rotation[0]
        turns, pivot = self.turns(), np.array(PIVOT)
        offset = scale * (pivot - turns @ pivot) @ rotation.T  # (N, 3) of the origin, pixels
        offset[:, :2] += scale * self.head_shift()
        moved = replace(track, **{**held, "rotation": rotation @ turns, "translation": track.translation + offset})
        points = moved.pose(np.arange(self.num_frames)).to_image(moved.head_points)
        return replace(moved, points=points.astype(np.float32))

    def head_shift(self) -> NDArray[np.float64]:
        """(N, 2) eye distances that the whole head moves, breathing included."""
        return self.shift - np.array([0.0, HEAD_BREATH]) * self.breath[:, None]

    def save(self, path: Path) -> None:
        """Writes the plan as an .npz."""
        with path.open("wb") as file:
            np.savez(file, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> IdleMotion:
        """Reads what `save` wrote."""
        return cls(**load_arrays(path))


def _room(track: FaceTrack, width: int, height: int) -> float:
    """How far the head may move, 0 to 1: a face at the border stays, as nothing is known beyond it."""
    flat = track.points[0, :, :2]
    margin = min(*flat.min(0), *([width - 1, height - 1] - flat.max(0)))
    return float(np.clip(margin / (_FREE_MARGIN * track.scale[0]), 0, 1))


def _sway(rng: np.random.Generator, num_frames: int, num_signals: int) -> NDArray[np.float64]:
    """(N, S) smooth noise of standard deviation 1 that starts and ends at 0 with no speed, and ends where it starts."""
    order = np.arange(1, int(_SWAY_HERTZ * IDLE_SECONDS) + 1)  # cycles in the plan
    phase = 2 * np.pi * np.linspace(0, 1, num_frames)[:, None] * order  # (N, K)
    amplitude = order**-0.8
    even, odd = (rng.normal(size=(num_signals, len(order))) * amplitude for _ in range(2))  # (S, K)
    even -= amplitude * even.sum(1, keepdims=True) / amplitude.sum()
    pace = amplitude * order
    odd -= amplitude * (odd @ order)[:, None] / pace.sum()
    signals = np.cos(phase) @ even.T + np.sin(phase) @ odd.T
    signals /= signals.std(0).clip(min=1e-9)
    return np.asarray(_MAX_STDS * np.tanh(signals / _MAX_STDS))


def _blinks(rng: np.random.Generator, num_frames: int, fps: float) -> NDArray[np.float64]:
    """(N,) how far the lids are closed. Each blink shows one frame of closed lids, whatever the frame rate."""
    seconds = np.arange(num_frames) / fps
    closing = np.zeros(num_frames)
    start = rng.uniform(*_FIRST_BLINK)
    while start < num_frames / fps - _LAST_BLINK:
        shut = round((start + _CLOSING) * fps) / fps
        fall = _ease((seconds - shut + _CLOSING) / _CLOSING)
        rise = _ease((seconds - shut - _CLOSED) / _OPENING)
        closing = np.maximum(closing, fall * (1 - rise))
        start = shut + rng.uniform(*_BLINK_PAUSE)
    return closing


def _ease(value: NDArray[np.float64]) -> NDArray[np.float64]:
    value = value.clip(0, 1)
    return value * value * (3 - 2 * value)
