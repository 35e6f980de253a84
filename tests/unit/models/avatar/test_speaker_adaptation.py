import numpy as np
import pytest
from numpy.typing import NDArray

from models.avatar.speaker_adaptation import SpeakerAdaptation, learn
from models.mouth.shape import CHANNELS, DEFAULT_SCALE

FPS, NUM_HIDDEN = 25, 40
OPEN, WIDTH = CHANNELS.index("open_in"), CHANNELS.index("width")
Floats = NDArray[np.float32]


def _hidden(seconds: float, seed: int = 0) -> Floats:
    """A layer that moves as smoothly as speech, with a norm near that of the network's."""
    num = round(seconds * FPS)
    rng = np.random.default_rng(seed)
    kernel = np.hanning(7) / np.linalg.norm(np.hanning(7))
    smooth = [np.convolve(rng.normal(size=num + 6), kernel, "valid") for _ in range(NUM_HIDDEN)]
    return np.asarray(np.stack(smooth, 1) * 1.45, np.float32)


def _habit() -> Floats:
    """(H, 8) a talker who does a tenth to a half of each channel's usual movement otherwise."""
    rng = np.random.default_rng(9)
    return np.asarray(rng.normal(size=(NUM_HIDDEN, 8)) * DEFAULT_SCALE * 0.052, np.float32)


def _residual(hidden: Floats, seed: int = 5, noise: float = 0.3) -> Floats:
    tracker = np.random.default_rng(seed).normal(size=(len(hidden), 8)) * DEFAULT_SCALE * noise
    return np.asarray(hidden @ _habit() + tracker, np.float32)


def _offset(way: SpeakerAdaptation, hidden: Floats) -> Floats:
    return way.applied(np.zeros((len(hidden), 8), np.float32), hidden)


def _left(way: SpeakerAdaptation) -> Floats:
    """(8,) share of the deviation that is left, in speech that was not learned from."""
    unseen = _hidden(60, seed=77)
    truth = unseen @ _habit()
    return np.asarray(np.square(truth - _offset(way, unseen)).mean(0) / np.square(truth).mean(0), np.float32)


def test_learn_longer_speech_leaves_less_deviation() -> None:
    left = [_left(learn(_hidden(s), _residual(_hidden(s)), FPS)[0]).mean() for s in (2, 10, 60)]
    assert 0.5 < left[0] < 1.02
    assert left[0] > left[1] > left[2]
    assert left[2] < 0.4
    shape = _habit()
    assert (SpeakerAdaptation.unknown().applied(shape, np.zeros((0, 0), np.float32)) == shape).all()


def test_learn_average_talker_changes_little() -> None:
    """What the tracker mistakes is not taken for a habit."""
    for seconds in (2, 60):
        hidden = _hidden(seconds)
        noise = np.random.default_rng(3).normal(size=(len(hidden), 8)) * DEFAULT_SCALE * 0.5
        way, offset = learn(hidden, noise.astype(np.float32), FPS)
        assert (_offset(way, _hidden(20, seed=8)).std(0) < 0.12 * DEFAULT_SCALE).all()
        assert (offset.std(0) < 0.12 * DEFAULT_SCALE).all()


def test_learn_noise_in_one_channel_keeps_the_others() -> None:
    hidden = _hidden(30)
    residual = _residual(hidden)
    residual[:, WIDTH] = np.random.default_rng(4).normal(size=len(hidden)) * DEFAULT_SCALE[WIDTH]
    way, _ = learn(hidden, residual, FPS)
    assert _offset(way, _hidden(20, seed=8))[:, WIDTH].std() < 0.3 * DEFAULT_SCALE[WIDTH]
    assert _left(way)[OPEN] < 0.6


def test_learn_offsets_are_cross_validated() -> None:
    """So that the size of the movement is measured on what unseen speech will get."""
    hidden, noise = _hidden(10), 1.5
    seen, again = (_residual(hidden, seed, noise) for seed in (5, 6))  # again: with other errors of the tracker
    way, offset = learn(hidden, seen, FPS)

    def agrees(offsets: Floats) -> float:
        """By how much offsets agree better with the errors that were learned from than with others."""
        return float(((seen - again) * offsets / DEFAULT_SCALE**2).mean())

    assert agrees(_offset(way, hidden)) > 0.01
    assert abs(agrees(offset)) < 0.3 * agrees(_offset(way, hidden))


def test_learn_weighs_frames_by_time_and_few_are_bounded() -> None:
    hidden = _hidden(10)
    residual = _residual(hidden, noise=0)
    once, _ = learn(hidden, residual, FPS)
    twice, _ = learn(np.repeat(hidden, 2, 0), np.repeat(residual, 2, 0), 2 * FPS)
    assert twice.weights == pytest.approx(once.weights, rel=0.02, abs=1e-5)
    for num_frames in (1, 3, 12):
        few = hidden[:num_frames]
        way, offset = learn(few, _residual(few), FPS)
        assert offset.shape == (num_frames, 8)
        assert (np.abs(_offset(way, _hidden(20, seed=8))).max(0) < DEFAULT_SCALE).all()
