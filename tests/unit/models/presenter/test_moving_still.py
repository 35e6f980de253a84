"""A still portrait that is read like a video."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from models.presenter.idle_motion import IdleMotion
from models.presenter.moving_still import MovingStill
from models.presenter.presenter import Presenter
from tests.unit.models.still import FPS, Still


def test_frames_are_the_same_in_any_order(still: Still, motion: IdleMotion) -> None:
    shut = int(motion.closing.argmax())
    indices = [0, shut - 1, shut, shut + 20]
    with closing(MovingStill(still.reader(), still.track, motion)) as frames:
        forward = [frame.y.copy() for frame in frames.read(indices)]
        backward = [frame.y.copy() for frame in frames.read(indices[::-1])][::-1]
    for one, other in zip(forward, backward, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(forward[0], still.planes.y)
    assert all((frame != still.planes.y).any() for frame in forward[1:])


def test_frames_stay_valid_and_read_only(still: Still, motion: IdleMotion) -> None:
    with closing(MovingStill(still.reader(), still.track, motion)) as frames:
        first, second = frames.read([0, 90])
    assert (first.y != second.y).any()
    assert first.y.shape == second.y.shape == (still.info.height, still.info.width)
    assert not any(plane.flags.writeable for plane in second)


def test_a_frame_outside_the_plan_is_refused(still: Still, motion: IdleMotion) -> None:
    with (
        closing(MovingStill(still.reader(), still.track, motion)) as frames,
        pytest.raises(ValueError, match="index = 300"),
    ):
        list(frames.read([300]))


def test_the_presenter_of_a_still_is_a_source_of_moving_frames(still: Still, tmp_path: Path) -> None:
    with still.reader() as reader:
        built = Presenter.build(tmp_path, still.info, still.raw, reader)
    presenter = Presenter.load(tmp_path)
    assert presenter.info == built.info
    assert presenter.info.is_still and not presenter.talks
    assert presenter.info.num_frames == presenter.track.num_frames == 12 * FPS
    assert presenter.info.duration_seconds == pytest.approx(12)
    with closing(presenter.frames(still.reader())) as frames:
        start, later = frames.read([0, 150])
    np.testing.assert_array_equal(start.y, still.planes.y)
    assert (later.y != start.y).any()
    with closing(built.frames(still.reader())) as frames:
        (again,) = frames.read([150])
    np.testing.assert_array_equal(again.y, later.y)
