from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.mouth_calibration import MouthCalibration, calibrate
from models.mouth_shape import CHANNELS, DEFAULT_SCALE, TRACKED_GAIN

OPENING = [CHANNELS.index(name) for name in ("open_in", "open_out", "upper", "lower", "jaw")]
WIDTH, CORNER = CHANNELS.index("width"), CHANNELS.index("corner_y")


def _speech(num_frames: int = 200) -> NDArray[np.float32]:
    return (np.random.default_rng(3).normal(0, 1, (num_frames, 8)) * DEFAULT_SCALE).astype(np.float32)


def _always(shape: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.ones(len(shape), np.bool_)


@pytest.mark.parametrize("liveliness", [0.6, 1.0, 1.6])
def test_opening_follows_the_talker(liveliness: float) -> None:
    predicted = _speech()
    gain = calibrate(predicted, predicted * TRACKED_GAIN * liveliness, _always(predicted)).gain / TRACKED_GAIN
    assert gain[OPENING] == pytest.approx(liveliness**0.7, rel=1e-3)


def test_wild_ratios_are_bounded() -> None:
    predicted = _speech()
    gain = calibrate(predicted, predicted * 20, _always(predicted)).gain / TRACKED_GAIN
    assert gain[0] == pytest.approx(2**0.7, rel=1e-3)


def test_a_held_smile_is_taken_over_while_speaking_only() -> None:
    predicted = _speech()
    tracked = predicted * TRACKED_GAIN
    tracked[:, WIDTH] += 0.05
    tracked[:, CORNER] += 0.03
    calibration = calibrate(predicted, tracked, _always(predicted))
    assert calibration.bias[WIDTH] == pytest.approx(0.6 * 0.05, abs=0.003)
    assert calibration.bias[CORNER] == pytest.approx(0.6 * 0.03, abs=0.002)
    assert (calibration.bias[OPENING] == 0).all()
    rest = calibration.apply(np.zeros((2, 8), np.float32), np.array([0, 1], np.float32))
    assert (rest[0] == 0).all()
    assert rest[1] == pytest.approx(calibration.bias)


def test_frames_without_speech_do_not_count() -> None:
    predicted = _speech()
    tracked = predicted * TRACKED_GAIN
    spoken = _always(predicted)
    spoken[100:] = False
    tracked[100:] = np.nan
    calibration = calibrate(predicted, tracked, spoken)
    assert calibration.gain[0] == pytest.approx(TRACKED_GAIN[0], rel=1e-3)


def test_a_talker_whose_sound_says_nothing_gets_average_speech_in_tracked_sizes() -> None:
    predicted, average = _speech(), MouthCalibration.of_talker()
    mute = calibrate(predicted, np.zeros_like(predicted), _always(predicted))
    silent = calibrate(predicted, predicted, np.zeros(len(predicted), np.bool_))
    for calibration in (mute, silent):
        assert (calibration.gain == average.gain).all()
        assert (calibration.bias == 0).all()
    assert average.gain == pytest.approx(MouthCalibration.default().gain * TRACKED_GAIN)


def test_closed_lips_are_opened_to_true_sizes() -> None:
    assert (MouthCalibration.default().gain[OPENING] == 1).all()


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="Expected"):
        calibrate(_speech(10), _speech(11), np.ones(10, np.bool_))
