"""Idle motion of a still portrait: the head sways, breathes, blinks, and nods with the speech.

The motion is a plan of N frames that is derived from the picture's content, so it is the same in every process and run.
It starts and ends at rest with the still itself and therefore never jumps, whether it is looped, played back and forth
or held. `models.avatar.moving_still` draws it, and `IdleMotion.move` computes the matching landmarks.

Nods follow the speech, not the plan. There are K versions of the plan, from no nod to the strongest one, so that the
still is a source with K * N rows: row `level * N + frame`, where the first N rows are the plan without nods. Only
`IdleMotion.rows` knows about levels; engines treat a row like any other source frame.
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
from models.geometry.arrays import smooth_step
from models.track.face_track import FaceTrack

IDLE_SECONDS: Final = 12.0
"""Duration of the plan."""

# Head frame, eye distances: the pivot is in the neck, below the chin and behind the face. The outline of the head is at
# the same depth and therefore stays in place when the head turns or nods.
PIVOT: Final = (0.0, -1.5, -0.7)

HEAD_BREATH: Final = 0.4
"""Share of the shoulders' rise by which the head moves."""

NUM_LEVELS: Final = 17
"""K. One step is .19 degrees: it moves the mouth by 1/3 pixel in a face with 100 pixels between the eyes."""

# At the strongest stress: degrees down, and eye distances by which the brows rise. Ten speakers (nine videos in the
# wild, one of GRID) pitch their heads by 4.4 degrees within a second of speech (median; 1.6 to 11), the sway by .2, and
# raise their brows .03 above their median 2 % of the time (median; .006 to .087).
_NOD, _BROW_RISE = 3.0, 0.03
_BROW_LEVEL: Final = 0.5  # brows need stronger stress than nods: they start to rise at this level

_SWAY_HERTZ: Final = 0.6  # highest frequency of the sway
_ROTATION_STD: Final = (0.55, 0.85, 0.5)  # degrees of pitch, yaw and roll
_SHIFT_STD: Final = (0.012, 0.007)  # eye distances to the right and down
_MAX_STDS: Final = 2.2
_BREATH_SECONDS: Final = 4.0
_BREATH: Final = 0.014  # eye distances by which the shoulders rise

# Seconds. Lids close faster than they open (VanderWerf et al., "Eyelid movements", J. Neurophysiol. 89, 2003).
_CLOSING, _CLOSED, _OPENING = 0.11, 0.04, 0.19
_FIRST_BLINK: Final = (1.2, 2.4)
_BLINK_PAUSE: Final = (2.5, 6.0)
_LAST_BLINK: Final = 0.8  # before the end

# Eye distances between the face and the border of the picture that allow full motion.
_FREE_MARGIN: Final = 0.15


@dataclass(frozen=True)
class IdleMotion:
    """A plan of N frames with K nod levels."""

    rotation: NDArray[np.float64]  # (N, 3) rotation vectors in the head frame, radians: pitch, yaw, roll around `PIVOT`
    shift: NDArray[np.float64]  # (N, 2) shift of the head in eye distances, x right, y down
    breath: NDArray[np.float64]  # (N,) rise of the shoulders in eye distances
    closing: NDArray[np.float64]  # (N,) closure of the lids, 0 to 1
    nod: NDArray[np.float64]  # (K,) downward pitch in radians, added to `rotation`; 0 at the first level
    # (K,) float64 eye distances by which the brows rise. It is only drawn and does not move landmarks, because no
    # engine renders brows and boxes derived from landmarks must not jump with them.
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
        """Plans the motion of a portrait, given its one-frame track; the same picture gets the same motion."""
        seed = hashlib.sha256(b"".join(plane.tobytes() for plane in still)).digest()
        rng = np.random.default_rng(int.from_bytes(seed[:8], "little"))
        num_frames = max(1, round(IDLE_SECONDS * fps))
        share = _motion_share(track, still.y.shape[1], still.y.shape[0])
        sway = _sway(rng, num_frames, len(_ROTATION_STD) + len(_SHIFT_STD))  # (N, 5)
        breaths = round(IDLE_SECONDS / _BREATH_SECONDS)
        wave = 1 - np.cos(2 * np.pi * breaths * np.arange(num_frames) / max(num_frames - 1, 1))
        level = np.linspace(0, 1, NUM_LEVELS)
        return cls(
            rotation=share * np.radians(_ROTATION_STD) * sway[:, :3],
            shift=share * np.array(_SHIFT_STD) * sway[:, 3:],
            breath=share * _BREATH / 2 * wave,
            closing=_blinks(rng, num_frames, fps),
            nod=share * np.radians(_NOD) * level,
            brow_rise=_BROW_RISE * smooth_step((level - _BROW_LEVEL) / (1 - _BROW_LEVEL)),
        )

    def rows(self, frame: NDArray[np.integer], stress: NDArray[np.floating]) -> NDArray[np.int32]:
        """Returns (T,) int32 rows in [0, K * N) for frames of the plan with the nods of the speech.

        `stress` is 0 to 1, see `models.speech.stress`.
        """
        level = np.rint(np.asarray(stress) * (len(self.nod) - 1)).astype(np.int32)
        return np.asarray(level * self.num_frames + frame, np.int32)

    def turns(self) -> NDArray[np.float64]:
        """Returns the (K * N, 3, 3) rotation matrices in the head frame."""
        from scipy.spatial.transform import Rotation  # takes a second to import: only load it when needed

        nods = self.nod[:, None, None] * np.array([1.0, 0.0, 0.0])
        matrices: NDArray[np.float64] = Rotation.from_rotvec((self.rotation + nods).reshape(-1, 3)).as_matrix()
        return matrices

    def move(self, track: FaceTrack) -> FaceTrack:
        """Returns the track of the K * N rows of a still, given its one-frame track.

        Arrays that are the same in all rows are read-only broadcasts. The points take 29 MB at 25 fps.
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
        for rows in np.split(np.arange(self.num_rows), len(self.nod)):  # one level at a time, because poses are float64
            points[rows] = moved.pose(rows).same_to_image(track.head_points[0])
        return replace(moved, points=points)

    def head_shift(self) -> NDArray[np.float64]:
        """Returns the (N, 2) shift of the whole head in eye distances, including breathing."""
        return self.shift - np.array([0.0, HEAD_BREATH]) * self.breath[:, None]

    def save(self, path: Path) -> None:
        """Writes the plan as an .npz."""
        with path.open("wb") as file:
            np.savez(file, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> IdleMotion:
        """Reads what `save` wrote."""
        return cls(**load_arrays(path))


def _motion_share(track: FaceTrack, width: int, height: int) -> float:
    """Returns the share of motion allowed, 0 to 1: a face at the border stays in place."""
    flat = track.points[0, :, :2]
    margin = min(*flat.min(0), *([width - 1, height - 1] - flat.max(0)))
    return float(np.clip(margin / (_FREE_MARGIN * track.scale[0]), 0, 1))


def _sway(rng: np.random.Generator, num_frames: int, num_signals: int) -> NDArray[np.float64]:
    """Returns (N, S) smooth noise of standard deviation 1 that starts and ends at 0 with zero velocity."""
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
    """Returns the (N,) closure of the lids. Every blink has a fully closed frame at any frame rate."""
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
