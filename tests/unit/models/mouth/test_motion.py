from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from models.geometry.face_points import INNER_LOWER, INNER_UPPER, OUTER_LOWER, OUTER_UPPER
from models.geometry.head_frame import mean_face
from models.mouth.lip_model import LipModel
from models.mouth.motion import RunningStats, lip_jitter
from models.mouth.shape import DEFAULT_SCALE

FPS = Fraction(25)


def test_running_stats_of_parts_add_up() -> None:
    values = np.random.default_rng(1).normal(3, 2, 100)
    whole = RunningStats.of(values[:30]) + RunningStats.of(values[30:])
    assert whole.num == 100
    assert [whole.mean, whole.std] == pytest.approx([values.mean(), values.std()])
    assert whole.rms == pytest.approx(np.sqrt((values**2).mean()))
    nothing = RunningStats()
    assert (nothing.mean, nothing.std, nothing.rms) == (None, None, None)


def test_lip_jitter_is_that_of_the_lip_points() -> None:
    # Open lips, so that the model's guard against crossing ones does not step in.
    shape = np.random.default_rng(2).normal(0, 0.1, (40, 8)).astype(np.float32) * DEFAULT_SCALE
    shape[:, 0] += 0.2
    lips = sorted({*OUTER_UPPER, *OUTER_LOWER, *INNER_UPPER, *INNER_LOWER})
    points = LipModel.load().deform(mean_face().astype(np.float32), shape)[:, lips].astype(np.float64)
    expected = np.sqrt((np.diff(points, 2, axis=0) ** 2).sum(2).mean())
    assert lip_jitter(shape, np.ones(40, np.bool_), FPS).rms == pytest.approx(expected, rel=1e-3)


def test_lip_jitter_does_not_depend_on_the_frame_rate() -> None:
    def swing(fps: int) -> float | None:
        shape = np.zeros((4 * fps, 8), np.float32)
        shape[:, 0] = 0.1 * np.sin(np.arange(4 * fps) / fps * 2 * np.pi)
        return lip_jitter(shape, np.ones(len(shape), np.bool_), Fraction(fps)).rms

    assert swing(50) == pytest.approx(swing(25), rel=0.02)


def test_lip_jitter_ignores_gaps_and_cuts() -> None:
    shape = np.zeros((20, 8), np.float32)
    shape[10:, 0] = 0.2
    everywhere, shot = np.ones(20, np.bool_), (np.arange(20) >= 10).astype(np.int32)
    assert lip_jitter(shape, everywhere, FPS).rms
    cut = lip_jitter(shape, everywhere, FPS, shot)
    assert (cut.num, cut.rms) == (16, 0.0)
    present = np.arange(20) != 10
    assert lip_jitter(shape, present, FPS).num == 15
    assert lip_jitter(shape[:2], everywhere[:2], FPS) == RunningStats()
