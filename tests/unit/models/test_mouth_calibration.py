from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.mouth_calibration import MouthCalibration, calibrate
from models.mouth_shape import CHANNELS, DEFAULT_SCALE

OPENING = [CHANNELS.index(name) for name in ("open_in", "open_out", "upper", "lower", "jaw")]
WIDTH, CORNER = CHANNELS.index("width"), CHANNELS.index("corner_y")


def _speech(num_frames: int = 200) -> NDArray[np.float32]:
    return (np.random.default_rng(3).normal(0, 1, (num_frames, 8)) * DEFAULT_SCALE).astype(np.float32)


def _always(shape: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.ones(len(shape), np.bool_)


@pytest.mark.parametrize("liveliness", [0.6, 1.0, 1.6])
def test_opening_follows_the_talker(liveliness: float) -> None:
    predicted = _speech()
    gain = calibrate(predicted, predicted * liveliness, _always(predicted)).gain
    assert gain[OPENING] == pytest.approx(liveliness**0.7, rel=1e-3)


def test_wild_ratios_are_bounded() -> None:
    predicted = _speech()
    assert calibrate(predicted, predicted * 20, _always(predicted)).gain[0] == pytest.approx(2**0.7, rel=1e-3)


def test_a_held_smile_is_taken_over_while_speaking_only() -> None:
    predicted = _speech()
    tracked = predicted.copy()
    tracked[:, WIDTH] += 0.05
    tracked[:, CORNER] += 0.03
    calibration = calibrate(predicted, tracked, _always(predicted))
    assert calibration.bias[WIDTH] == pytest.approx(0.6 * 0.05, abs=0.002)
    assert calibration.bias[CORNER] == pytest.approx(0.6 * 0.03, abs=0.002)
    assert (calibration.bias[OPENING] == 0).all()
    rest = calibration.apply(np.zeros((2, 8), np.float32), np.array([0, 1], np.float32))
    assert (rest[0] == 0).all()
    assert rest[1] == pytest.approx(calibration.bias)


def test_frames_without_speech_do_not_count() -> None:
    predicted = _speech()
    tracked = predicted.copy()
    spoken = _always(predicted)
    spoken[100:] = False
    tracked[100:] = np.nan
    calibration = calibrate(predicted, tracked, spoken)
    assert calibration.gain[0] == pytest.approx(1, rel=1e-3)


def test_sources_that_do_not_speak_get_the_default() -> None:
    predicted, default = _speech(), MouthCalibration.default()
    still = calibrate(predicted, np.zeros_like(predicted), _always(predicted))
    silent = calibrate(predicted, predicted, np.zeros(len(predicted), np.bool_))
    for calibration in (still, silent):
        assert (calibration.gain == default.gain).all()
        assert (calibration.bias == 0).all()
    assert (default.gain[OPENING] > 1).all()


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="Expected"):
        calibrate(_speech(10), _speech(11), np.ones(10, np.bool_))
