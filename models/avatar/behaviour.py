"""How a still portrait behaves: the strength of its motion, its expression, its gaze and its head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.geometry.arrays import smooth_step


@dataclass(frozen=True)
class Behaviour:
    """The options of `lipwright.jobs.model.avatar_settings.MovementSettings` that only stills have."""

    motion: float = 1.0
    expression: str = "neutral"  # a key of `EXPRESSIONS`
    gaze: str = "free"  # or `camera`, or `x,y`: a point as shares of the picture's width and height
    head: str = "lively"  # a key of `HEADS`


class TimedBehaviour(NamedTuple):
    """What applies from a time on."""

    start_seconds: float
    behaviour: Behaviour


USUAL_BEHAVIOURS: Final = (TimedBehaviour(0.0, Behaviour()),)


class Expression(NamedTuple):
    """Offsets from the still, chosen by eye on six portraits; lengths in eye distances, see `StillFrames`."""

    brows: float = 0.0
    inner_brows: float = 0.0
    closing: float = 0.0
    smile: float = 0.0
    pitch: float = 0.0  # degrees
    pause_smiles: float = 0.0  # share of the smiles in pauses


EXPRESSIONS: Final = {
    "neutral": Expression(pause_smiles=1),
    "happy": Expression(brows=0.012, smile=0.75, pitch=-0.6, pause_smiles=1),
    "sad": Expression(brows=-0.012, inner_brows=0.052, closing=0.2, smile=-0.8, pitch=1.5),
    "angry": Expression(brows=-0.02, inner_brows=-0.052, closing=0.12, smile=-0.5, pitch=0.8),
    "surprised": Expression(brows=0.05, closing=-0.25, pitch=-1.0),
    "serious": Expression(brows=-0.016, inner_brows=-0.024, closing=0.05, smile=-0.25),
}
HEADS: Final = {"still": 0.0, "calm": 0.55, "lively": 1.0}
"""Factors of the turns of the head; `lively` is measured on people who speak."""

BLEND_SECONDS: Final = 0.3
_VIEWING: Final = 6.0  # eye distances from the face to the plane in which it looks at a point, about half a metre
_HEAD_SHARE, _MAX_HEAD = 0.25, np.array([3.0, 2.0])  # share of that angle by which the head turns, and degrees


class EyePlace(NamedTuple):
    """The middle between the eyes in a picture, as shares of its size, and that size in eye distances."""

    middle: NDArray[np.float64]  # (2,)
    size: NDArray[np.float64]  # (2,)

    def angles(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (2,) degrees, to the right and down, to a point given as shares of the picture."""
        return np.degrees(np.arctan2((point - self.middle) * self.size, _VIEWING))


class Blended(NamedTuple):
    """(T,) values of the behaviours that apply to T frames."""

    motion: NDArray[np.float64]
    head: NDArray[np.float64]
    free: NDArray[np.float64]  # share of the random shifts of the gaze
    right: NDArray[np.float64]  # degrees to where the eyes look
    down: NDArray[np.float64]
    yaw: NDArray[np.float64]  # degrees by which the head turns there
    pitch: NDArray[np.float64]
    brows: NDArray[np.float64]
    inner_brows: NDArray[np.float64]
    closing: NDArray[np.float64]
    smile: NDArray[np.float64]
    pause_smiles: NDArray[np.float64]


def blend(seconds: NDArray[np.float64], behaviours: Sequence[TimedBehaviour], eyes: EyePlace) -> Blended:
    """Return what applies at (T,) times: each behaviour is blended over the one before it, the first over the still."""
    values = np.zeros((len(Blended._fields), len(seconds)))
    for start, behaviour in behaviours:
        values += smooth_step((seconds - start) / BLEND_SECONDS) * (_values(behaviour, eyes)[:, None] - values)
    return Blended(*values)


def still_in_effect(behaviours: Sequence[TimedBehaviour], seconds: float) -> tuple[TimedBehaviour, ...]:
    """Return the behaviours without those that later ones have replaced completely at a time."""
    done = [number for number, each in enumerate(behaviours) if each.start_seconds + BLEND_SECONDS <= seconds]
    return tuple(behaviours[done[-1] if done else 0 :])


def _values(behaviour: Behaviour, eyes: EyePlace) -> NDArray[np.float64]:
    shown = EXPRESSIONS[behaviour.expression]
    is_point = behaviour.gaze not in ("free", "camera")
    angle = eyes.angles(np.array(behaviour.gaze.split(","), np.float64)) if is_point else np.zeros(2)
    yaw, pitch = (_HEAD_SHARE * angle).clip(-_MAX_HEAD, _MAX_HEAD)
    free = float(behaviour.gaze == "free")
    places = behaviour.motion, HEADS[behaviour.head], free, *angle, yaw, pitch + shown.pitch
    return np.array([*places, shown.brows, shown.inner_brows, shown.closing, shown.smile, shown.pause_smiles])
