"""The motion of a still portrait: its head sways, breathes and blinks, and nods with what it says.

The motion is a plan of N frames, made once from the picture's content, so that every process and every run shows the
same. It starts and ends at the still itself, at rest: played as a loop, forward and backward, or held, it never jumps.
`models.avatar.moving_still` draws it, `IdleMotion.move` gives the landmarks that belong to what is drawn.

A nod goes with the speech, not with the plan. So there are K versions of the plan, from a head that does not nod to one
that nods most, and as a source the still has K * N rows: row `level * N + frame`, of which the first N are the plan as
it is. Nobody but `IdleMotion.rows` has to know of it: an engine takes a row for a source frame like any other.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from media.array_files import load_arrays
from media.yuv_frame import YuvFrame
from models.geometry.smooth_step import smooth_step
from models.track.face_track import FaceTrack

IDLE_SECONDS: Final = 12.0
"""Length of the plan."""

# Head frame, eye distances: the neck's joint lies below the chin and behind the face. What is as far from the camera
# as it, the outline of the head, stays in place when the head turns or nods.
PIVOT: Final = (0.0, -1.5, -0.7)

HEAD_BREATH: Final = 0.4
"""Share of the shoulders' rise that the head follows."""

NUM_LEVELS: Final = 17
"""K, a step of .19 degrees: of a face with 100 pixels between its eyes, the mouth moves by a third of a pixel."""

# With the strongest stress: degrees down, and eye distances that the brows rise. Ten talkers (nine films in the wild,
# one of GRID) pitch their heads by 4.4 degrees within a second of speech (median; 1.6 to 11), the sway by .2, and raise
# their brows by .03 over their median in 2 % of the time (median; .006 to .087).
_NOD, _BROW_RISE = 3.0, 0.03
_BROW_LEVEL: Final = 0.5  # brows go with stronger stresses than nods do: they begin to rise here

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
    """The plan of N frames, and the K levels of a nod.

    Attributes:
        rotation: (N, 3) float64 rotation vectors in the head frame, radians: pitch, yaw, roll around `PIVOT`.
        shift: (N, 2) float64 of the head, eye distances, x right, y down.
        breath: (N,) float64 rise of the shoulders, eye distances.
        closing: (N,) float64 how far the lids are closed, 0 to 1.
        nod: (K,) float64 radians that the head is pitched down beside `rotation`; 0 at the first level.
        brow_rise: (K,) float64 eye distances that the brows are raised. They are drawn so and nothing else: no engine
            paints them, and a box that is laid by landmarks shall not jump with them.
    """

    rotation: NDArray[np.float64]
    shift: NDArray[np.float64]
    breath: NDArray[np.float64]
    closing: NDArray[np.float64]
    nod: NDArray[np.float64]
    brow_rise: NDArray[np.float64]

    @property
    def num_frames(self) -> int:
        """N."""
        return len(self.closing)

    @property
    def num_rows(self) -> int:
        """K * N."""
        return len(self.nod) * self.num_frames

    @classmethod
    def plan(cls, still: YuvFrame, track: FaceTrack, fps: float) -> IdleMotion:
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
        level = np.linspace(0, 1, NUM_LEVELS)
        return cls(
            rotation=room * np.radians(_ROTATION_STD) * sway[:, :3],
            shift=room * np.array(_SHIFT_STD) * sway[:, 3:],
            breath=room * _BREATH / 2 * wave,
            closing=_blinks(rng, num_frames, fps),
            nod=room * np.radians(_NOD) * level,
            brow_rise=_BROW_RISE * smooth_step((level - _BROW_LEVEL) / (1 - _BROW_LEVEL)),
        )

    def rows(self, frame: NDArray[np.integer], stress: NDArray[np.floating]) -> NDArray[np.int32]:
        """Says which rows show some frames of the plan with the nods of the speech.

        Args:
            frame: (T,) frames of the plan, in [0, N).
            stress: (T,) 0 to 1, see `models.speech.stress`.

        Returns:
            (T,) int32 rows in [0, K * N).
        """
        level = np.rint(np.asarray(stress) * (len(self.nod) - 1)).astype(np.int32)
        return np.asarray(level * self.num_frames + frame, np.int32)

    def turns(self) -> NDArray[np.float64]:
        """(K * N, 3, 3) the rotations as matrices in the head frame."""
        from scipy.spatial.transform import Rotation  # a second to import: only where it is asked for

        nods = self.nod[:, None, None] * np.array([1.0, 0.0, 0.0])
        matrices: NDArray[np.float64] = Rotation.from_rotvec((self.rotation + nods).reshape(-1, 3)).as_matrix()
        return matrices

    def move(self, track: FaceTrack) -> FaceTrack:
        """Returns the track of the K * N rows of a still whose track is one frame.

        What all rows have in common stands in memory once, and may not be written to; their points take 29 MB at 25
        frames a second.
        """
        if track.num_frames != 1:
            raise ValueError(f"Expected a track of one frame, got {track.num_frames = }.")
        held = {
            field.name: np.broadcast_to(value, (self.num_rows, *value.shape[1:]))
            for field in fields(track)
            if field.name != "rest" and isinstance(value := getattr(track, field.name), np.ndarray)
        }
        scale, rotation = float(track.scale[0]), track.rotation[0]
        turns, pivot = self.turns(), np.array(PIVOT)
        offset = scale * (pivot - turns @ pivot) @ rotation.T  # (K * N, 3) of the origin, pixels
        offset[:, :2] += scale * np.tile(self.head_shift(), (len(self.nod), 1))
        moved = replace(track, **{**held, "rotation": rotation @ turns, "translation": track.translation + offset})
        points = np.empty(moved.points.shape, np.float32)
        for rows in np.split(np.arange(self.num_rows), len(self.nod)):  # a level at a time, as a pose is in float64
            points[rows] = moved.pose(rows).same_to_image(track.head_points[0])
        return replace(moved, points=points)

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
        fall = smooth_step((seconds - shut + _CLOSING) / _CLOSING)
        rise = smooth_step((seconds - shut - _CLOSED) / _OPENING)
        closing = np.maximum(closing, fall * (1 - rise))
        start = shut + rng.uniform(*_BLINK_PAUSE)
    return closing
