from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from models.avatar.mouth_calibration import MouthCalibration, OwnSpeech, calibrate, calibrate_on_sound
from models.avatar.source_sync import SourceSync
from models.avatar.speaker_adaptation import SpeakerAdaptation, learn
from models.geometry.head_frame import mean_face
from models.mouth.lip_model import LipModel
from models.mouth.shape import CHANNELS, DEFAULT_SCALE
from models.speech.speech_to_mouth import MouthBlock
from models.track.face_track import FaceTrack, finish_track
from tests.unit.models.films import head_pose

OPENING = [CHANNELS.index(name) for name in ("open_in", "open_out", "upper", "lower", "jaw")]
WIDTH, CORNER, JAW = CHANNELS.index("width"), CHANNELS.index("corner_y"), CHANNELS.index("jaw")
PROTRUDE = CHANNELS.index("protrude")


def _speech(num_frames: int = 200) -> NDArray[np.float32]:
    return (np.random.default_rng(3).normal(0, 1, (num_frames, 8)) * DEFAULT_SCALE).astype(np.float32)


def _mouth(shape: NDArray[np.float32], gate: ArrayLike) -> MouthBlock:
    return MouthBlock(shape, np.broadcast_to(np.asarray(gate, np.float32), len(shape)))


def _calibrated(predicted: NDArray[np.float32], tracked: NDArray[np.float32]) -> MouthCalibration:
    """From frames at 25 fps, with speech in all of them."""
    return calibrate(predicted, tracked, np.ones(len(predicted), np.bool_), Fraction(25))


@pytest.mark.parametrize(("liveliness", "gain"), [(0.6, 0.6), (1.6, 1.6), (20, 2)])
def test_calibrate_opening_gain_follows_the_talker(liveliness: float, gain: float) -> None:
    predicted = _speech()
    found = _calibrated(predicted, predicted * liveliness).gain
    assert found[OPENING] == pytest.approx(gain, rel=0.12)  # eight seconds: little is left of the prior


@pytest.mark.parametrize("liveliness", [1.0, 2.6])
def test_calibrate_width_gain_follows_the_speaker(liveliness: float) -> None:
    predicted = _speech(1200)
    tracked = predicted.copy()
    tracked[:, WIDTH] *= liveliness
    gain = _calibrated(predicted, tracked).gain
    assert gain[WIDTH] == gain[PROTRUDE] == pytest.approx(liveliness, rel=0.15)
    assert gain[OPENING] == pytest.approx(1.0, rel=0.12)
    tracked[:, WIDTH] += 0.06 * np.sin(np.arange(1200) / 25)  # smiles that pass
    assert _calibrated(predicted, tracked).gain[WIDTH] == pytest.approx(gain[WIDTH], rel=0.15)


def test_default_calibration_widens_speech_not_silence() -> None:
    average, predicted = MouthCalibration.default(), _speech()
    opening = average.gain[OPENING]
    assert 1.0 < opening.min() == opening.max() <= 1.2, "wider than those of the readers it learned from"
    moved = average.apply(_mouth(predicted, 1))
    assert 1.6 < moved[:, WIDTH].std() / predicted[:, WIDTH].std() < 2.4
    assert (average.apply(_mouth(np.zeros_like(predicted), 0)) == 0).all()
    predicted = np.zeros((3, 8), np.float32)
    predicted[:, WIDTH] = -0.01, -0.2, 0.2
    gain, width = average.gain[WIDTH], average.apply(_mouth(predicted, 1))[:, WIDTH]
    assert width[0] == pytest.approx(-0.01 * gain, rel=0.01)
    assert -0.16 < width[1] < -0.14
    assert width[2] == pytest.approx(0.2 * gain)


def test_calibrate_short_or_faint_speech_stays_near_the_average() -> None:
    predicted = _speech()
    parts = (predicted[:15], _speech(40) * 0.4, _speech(40), predicted[:40], predicted)
    few, faint, loud, some, all_frames = (float(_calibrated(part, part * 1.6).gain[0]) for part in parts)
    assert 1.1 < few < some < all_frames < 1.6 and few < 1.5
    assert 1 < faint < 0.93 * loud


def test_calibrate_lips_and_jaw_follow_the_opening() -> None:
    opening = np.abs(_speech()[:, :1]) * 1.5
    predicted = np.asarray(opening * [1, 0.95, 0, 0.2, 0.9, 0.6, 0, 0], np.float32)
    tracked = predicted.copy()
    tracked[:, JAW] *= 0.5  # a chin that hardly moves
    calibration = _calibrated(predicted, tracked)
    corrected = calibration.apply(_mouth(predicted, 0))
    assert np.polyfit(tracked[:, JAW], corrected[:, JAW], 1)[0] == pytest.approx(1, abs=0.12)
    assert np.polyfit(tracked[:, 0], corrected[:, 0], 1)[0] == pytest.approx(1, abs=0.05)
    assert corrected[:, WIDTH] == pytest.approx(0)
    # A chin that moves with wide mouths alone: its slope around the mean, applied from rest, is too much for all.
    tracked = predicted.copy()
    tracked[:, JAW] = 3 * np.maximum(tracked[:, JAW] - tracked[:, JAW].mean(), 0)
    corrected = _calibrated(predicted, tracked).apply(_mouth(predicted, 0))
    assert abs(corrected[:, JAW].mean() - tracked[:, JAW].mean()) < 0.5 * tracked[:, JAW].mean()


def test_calibrate_held_smile_is_added_in_speech_only() -> None:
    predicted = _speech()
    tracked = predicted.copy()
    tracked[:, WIDTH] += 0.05
    tracked[:, CORNER] += 0.03
    calibration = _calibrated(predicted, tracked)
    assert calibration.bias[WIDTH] == pytest.approx(0.6 * 0.05, abs=0.003)
    assert calibration.bias[CORNER] == pytest.approx(0.6 * 0.03, abs=0.002)
    assert (calibration.bias[OPENING] == 0).all()
    silent, spoken = calibration.apply(_mouth(np.zeros((2, 8), np.float32), [0, 1]))
    assert (silent == 0).all() and spoken == pytest.approx(calibration.bias)


def test_calibrate_compares_frames_with_speech_and_motion() -> None:
    predicted, average, has_speech = _speech(), MouthCalibration.default(), np.arange(200) < 100
    tracked = predicted.copy()
    tracked[100:] = np.nan
    calibration = calibrate(predicted, tracked, has_speech, Fraction(25))
    assert calibration.gain == pytest.approx(_calibrated(predicted[:100], tracked[:100]).gain)
    mute = _calibrated(predicted, np.zeros_like(predicted))
    silent = calibrate(predicted, predicted, np.zeros(200, np.bool_), Fraction(25))
    for unknown in (mute, silent):
        assert (unknown.gain == average.gain).all() and (unknown.bias == 0).all()
    with pytest.raises(ValueError, match="Expected"):
        calibrate(_speech(10), _speech(11), np.ones(10, np.bool_), Fraction(25))


def _sound(num_rows: int) -> MouthBlock:
    """Syllables in rows of 20 ms: all channels move with one opening of changing size, read from a layer of six."""
    rng = np.random.default_rng(11)
    syllables = np.interp(np.arange(num_rows), np.arange(0, num_rows + 9, 8), rng.uniform(0, 3, num_rows // 8 + 2))
    shape = syllables[:, None] * DEFAULT_SCALE * [1, 0.95, -0.5, 0.1, 0.9, 0.8, 0, -0.3]
    hidden = np.abs(np.sin(np.outer(np.arange(num_rows) / 7, np.arange(1, 7)))) * 5.4
    open_gate = np.ones(num_rows, np.float32)
    return MouthBlock(shape.astype(np.float32), open_gate, hidden.astype(np.float32))


def _talker(sound: MouthBlock, lag_rows: int, smile: float = 0.0) -> FaceTrack:
    """100 frames at 25 fps of a face whose mouth does what is heard `lag_rows` later."""
    rows = np.arange(100) * 2 + lag_rows
    shape = sound.shape[rows.clip(0, len(sound.shape) - 1)]
    shape[:, CORNER] += smile * (rows < 150)
    head = LipModel.load().deform(mean_face().astype(np.float32), shape)
    return finish_track(head_pose(100, np.full(100, 80), 90).to_image(head), np.ones(100, np.bool_))


def _on_sound(track: FaceTrack, sound: MouthBlock, *, talks: bool = True) -> tuple[MouthCalibration, OwnSpeech]:
    calibration = calibrate_on_sound(track, talks, Fraction(25), sound)
    assert calibration.own_speech is not None
    return calibration, calibration.own_speech


@pytest.mark.parametrize("lag_rows", [-14, 9])
def test_calibrate_on_sound_measures_and_removes_the_offset(lag_rows: int) -> None:
    # Speech in the first half only: a sound that is compared at the wrong time takes in the wrong frames.
    sound = replace(_sound(200), gate=(np.arange(200) < 100).astype(np.float32))
    (calibration, own), (in_time, _) = (_on_sound(_talker(sound, lag), sound) for lag in (lag_rows, 0))
    assert own.sync.offset_seconds == pytest.approx(lag_rows * 0.02, abs=0.01)
    assert calibration.is_fitted and calibration.gain == pytest.approx(in_time.gain, rel=0.12)
    assert own.opening_std == pytest.approx(sound.shape[:100, 0].std(), rel=0.2)
    assert own.jitter is not None and own.jitter > 0


def test_calibrate_on_sound_aligns_frames_with_their_sound() -> None:
    sound = replace(_sound(200), gate=(np.arange(200) < 150).astype(np.float32))
    # The corners are held high in speech and nowhere else: compared nine frames too late, speech is taken for silence.
    (late, _), (in_time, _) = (_on_sound(_talker(sound, lag, smile=0.05), sound) for lag in (18, 0))
    assert late.bias[CORNER] == pytest.approx(in_time.bias[CORNER], abs=0.001)


def _habitual(sound: MouthBlock, lag_rows: int) -> FaceTrack:
    """A talker who opens the mouth further wherever the first number of the layer is high."""
    shape = sound.shape.copy()
    shape[:, OPENING] += 0.0185 * sound.hidden[:, :1]
    return _talker(replace(sound, shape=shape), lag_rows)


@pytest.mark.parametrize("lag_rows", [0, 10])
def test_calibrate_on_sound_learns_the_speaker_at_its_offset(lag_rows: int) -> None:
    sound = _sound(200)
    calibration, own = _on_sound(_habitual(sound, lag_rows), sound)
    assert own.sync.offset_seconds == pytest.approx(lag_rows * 0.02, abs=0.015)
    assert own.learned_seconds == pytest.approx(4 - lag_rows * 0.02, abs=0.1)
    before, after = (
        replace(calibration, adaptation=way).apply(sound)[::2, 0]
        for way in (SpeakerAdaptation.unknown(), calibration.adaptation)
    )
    shown = (sound.shape[:, 0] + 0.0185 * sound.hidden[:, 0])[::2]
    assert np.corrcoef(after, shown)[0, 1] > np.corrcoef(before, shown)[0, 1] + 0.05


def test_calibrate_on_sound_unaligned_or_silent_learns_nothing() -> None:
    sound = _sound(200)
    strange = replace(_sound(200), shape=np.roll(sound.shape, 90, axis=0), hidden=np.roll(sound.hidden, 90, axis=0))
    calibration, own = _on_sound(_habitual(strange, 0), sound)
    assert own.sync.offset_seconds is None and own.learned_seconds == 0
    assert not len(calibration.adaptation.weights)
    calibration, own = _on_sound(_talker(sound, 6), sound, talks=False)
    assert not calibration.is_fitted
    assert (calibration.gain == MouthCalibration.default().gain).all()
    assert own.sync.offset_seconds == pytest.approx(0.12, abs=0.01) and own.jitter is None


def test_calibrate_on_sound_ignores_hidden_mouths() -> None:
    sound = _sound(200)
    track = _habitual(sound, 0)
    hidden_frames = np.arange(100) >= 60
    covered = replace(
        track,
        driving_weight=np.where(hidden_frames, 0, 1).astype(np.float32),
        visible=track.visible & ~hidden_frames,
        shape=np.where(hidden_frames[:, None], np.float32(0.5), track.shape),
    )
    calibration, own = _on_sound(covered, sound)
    assert own.sync.offset_seconds is not None
    assert own.learned_seconds == pytest.approx(2.4, abs=0.1)
    assert np.abs(calibration.adaptation.applied(sound.shape, sound.hidden) - sound.shape).max() < 0.15


OWN = OwnSpeech(SourceSync(0.12, 0.9, 0.7, 12.0), 0.04, 0.008, 11.5)


@pytest.mark.parametrize("own", [None, OWN, OwnSpeech(SourceSync(None, 0.1, 0.2, 0.5), None, None)])
def test_calibration_load_equals_saved(tmp_path: Path, own: OwnSpeech | None) -> None:
    known = SpeakerAdaptation(np.arange(24, dtype=np.float32).reshape(3, 8))
    gain, bias, follow = np.arange(8, dtype=np.float32), np.ones(8, np.float32), np.full(8, 2, np.float32)
    saved = MouthCalibration(gain, bias, own is not None, own, follow, known if own else SpeakerAdaptation.unknown())
    saved.save(tmp_path / "calibration.npz")
    np.testing.assert_equal(asdict(MouthCalibration.load(tmp_path / "calibration.npz")), asdict(saved))
    assert [path.name for path in tmp_path.iterdir()] == ["calibration.npz"]


FPS, NUM_HIDDEN = 25, 40
OPEN = CHANNELS.index("open_in")
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
    assert 0.5 < left[0] < 1.02 and left[0] > left[1] > left[2]
    assert left[2] < 0.4


def test_learn_noise_in_one_channel_keeps_the_others() -> None:
    hidden = _hidden(30)
    residual = _residual(hidden)
    residual[:, WIDTH] = np.random.default_rng(4).normal(size=len(hidden)) * DEFAULT_SCALE[WIDTH]
    way, offsets = learn(hidden, residual, FPS)
    for offset in (offsets, _offset(way, _hidden(20, seed=8))):
        assert offset[:, WIDTH].std() < 0.3 * DEFAULT_SCALE[WIDTH]
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
