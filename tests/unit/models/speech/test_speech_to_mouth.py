from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.mouth.motion import lip_jitter
from models.mouth.shape import CHANNELS, DEFAULT_SCALE
from models.speech.activity import spread
from models.speech.features import FeatureBlock
from models.speech.speech_to_mouth import MouthBlock, SpeechToMouth
from models.weights import weights_path
from models.weights.onnx_session import make_session
from tests.unit.models.speech.conftest import RATE, Extract, Predict, Samples

NTSC = Fraction(30000, 1001)
OPEN, OUTER, UPPER, LOWER = (CHANNELS.index(name) for name in ("open_in", "open_out", "upper", "lower"))


def _with_activity(block: FeatureBlock, **changed: NDArray[Any]) -> FeatureBlock:
    return replace(block, activity=replace(block.activity, **changed))


def test_predict_moves_in_speech_and_rests_in_pauses(voice: Samples, predict: Predict) -> None:
    silence = np.zeros(2 * RATE, np.int16)
    shapes = predict(np.concatenate([silence, voice, silence]))
    ratio = shapes.shape[50:-50].std(0) / DEFAULT_SCALE
    assert (ratio > 0.3).all() and (ratio < 2).all()
    assert (shapes.shape[:35] == 0).all() and (shapes.shape[-35:] == 0).all()
    assert (shapes.hidden[:35] == 0).all() and (np.square(shapes.hidden[50:-50]).sum(1) > 0).all()
    clean, clipped = (predict(np.clip(voice * gain, -32768, 32767).astype(np.int16)) for gain in (1.0, 3.0))
    assert np.corrcoef(clean.shape[:, OPEN], clipped.shape[:, OPEN])[0, 1] > 0.75


def test_predict_frames_and_gate_are_at_their_times(voice: Samples, extract: Extract, mouth: SpeechToMouth) -> None:
    block = extract(voice)
    dense = mouth.predict(block, Fraction(1000), 0, 3000).shape
    frames = mouth.predict(block, NTSC, 30, 40).shape
    times = np.arange(30, 70) * 1001 / 30000 * 1000
    expected = np.stack([np.interp(times, np.arange(3000), channel) for channel in dense.T], 1)
    assert np.abs(frames - expected).max() < 1e-4
    peak = mouth.predict(block, Fraction(50), 0, 150).shape[:, OPEN].argmax()
    assert abs(dense[:, OPEN].argmax() / 20 - peak) < 0.75  # the peak between rows
    block = extract(np.concatenate([np.zeros(RATE, np.int16), voice[: 2 * RATE]]))
    assert block.first_row == 0 and block.activity.gate[0] == 0 and block.activity.gate.max() == 1
    at_rows = mouth.predict(block, Fraction(50), 0, 140).gate  # neighbours that are mixed in would round its corners
    assert np.abs(at_rows - block.activity.gate[:140]).max() < 1e-5
    between = mouth.predict(block, Fraction(60), 0, 168).gate
    assert between.min() >= 0 and between.max() <= 1


def test_predict_high_frame_rate_is_smooth(voice: Samples, extract: Extract, mouth: SpeechToMouth) -> None:
    block = extract(voice)
    jitter = []
    for fps in (120, 500):
        shape = mouth.predict(block, Fraction(fps), 0, 4 * fps).shape
        jitter.append(lip_jitter(shape, np.ones(len(shape), bool), Fraction(fps)).rms or 0.0)
    # 1.1; with straight lines from row to row 2.5, as a kink is the sharper the more frames there are.
    assert jitter[1] < 1.4 * jitter[0]


def test_predict_noise_hum_and_chords_keep_the_mouth_closed(predict: Predict) -> None:
    for level_db in (-20, -40, -60, -80):
        noise = np.random.default_rng(1).normal(0, 32768 * 10 ** (level_db / 20), 3 * RATE).astype(np.int16)
        assert np.abs(predict(noise).shape).max() < 0.01
    time = np.arange(4 * RATE) / RATE
    for partials in ((50, 100, 150, 200), (220, 277, 330, 440, 554, 660, 880)):
        beats = np.exp(-4 * (time % 0.5)) if len(partials) > 4 else np.ones(len(time))
        sound = 2000 * beats * np.sin(2 * np.pi * np.outer(partials, time)).sum(0)
        opening = predict(sound.astype(np.int16)).shape[:, OPEN]
        assert np.abs(opening.mean()) < 0.002 and opening.std() < 0.004


@pytest.mark.parametrize("num_samples", [1, 320, 900])
def test_predict_short_sound_is_one_frame(predict: Predict, num_samples: int) -> None:
    shape = predict(np.full(num_samples, 9000, np.int16)).shape
    assert shape.shape == (1, 8) and np.isfinite(shape).all()


def test_predict_outside_the_block_repeats_or_raises(voice: Samples, extract: Extract, mouth: SpeechToMouth) -> None:
    block = extract(voice[:RATE], 0.5, 1.2)
    shapes = mouth.predict(block, Fraction(25), 13, 17).shape
    assert (shapes[13:] == shapes[-1]).all(), "the last row"
    block = extract(voice, 1.0, 2.0)
    for first, count in ((0, 5), (24, 40), (30, 0)):
        with pytest.raises(ValueError, match="frame"):
            mouth.predict(block, Fraction(25), first, count)


def test_predict_lips_part_once_ahead_of_speech(voice: Samples, extract: Extract, mouth: SpeechToMouth) -> None:
    quiet = np.random.default_rng(0).normal(0, 3, 2 * RATE).astype(np.int16)
    block = extract(np.concatenate([quiet, voice]))
    heard = int(block.activity.is_heard.argmax())  # the first row
    ahead = mouth.predict(block, Fraction(50), 0, heard + 1)
    opening = ahead.shape[(block.activity.gate > 0)[: heard + 1], OPEN]
    assert len(opening) > 20 and np.diff(opening).min() > -2e-3
    assert opening.max() < 0.07
    # What the network makes of the quiet, with all of it taken for speech, does more.
    open_ended = _with_activity(block, is_heard=np.ones_like(block.activity.is_heard))
    free = mouth.predict(open_ended, Fraction(50), 0, heard + 1).shape[(block.activity.gate > 0)[: heard + 1], OPEN]
    assert np.diff(free).min() < -2e-3


def _with_pause(voice: Samples, after_seconds: float, seconds: float) -> Samples:
    """The voice with quiet in it that is too short for the gate to close."""
    quiet = np.random.default_rng(1).normal(0, 3, int(seconds * RATE)).astype(np.int16)
    cut = int(after_seconds * RATE)
    return np.concatenate([voice[:cut], quiet, voice[cut:]])


def test_predict_short_pause_joins_the_words(voice: Samples, extract: Extract, mouth: SpeechToMouth) -> None:
    loud = 1.5 + int(np.abs(voice[int(1.5 * RATE) : int(2.5 * RATE)].astype(np.int32)).argmax()) / RATE
    block = extract(_with_pause(voice, loud, 0.6))
    opening = mouth.predict(block, Fraction(50), 0, block.activity.gate.shape[0] - 1).shape[:, OPEN]
    unheard = np.flatnonzero((block.activity.gate > 0) & ~block.activity.is_heard)
    unheard = unheard[(unheard > 75) & (unheard < 175)]
    assert len(unheard) > 8
    assert (block.activity.gate[unheard] == 1).all()
    steps = np.diff(opening[unheard[0] - 1 : unheard[-1] + 1])
    falls, rises = np.flatnonzero(steps < -2e-3), np.flatnonzero(steps > 2e-3)
    assert not len(falls) or not len(rises) or falls[-1] < rises[0], "opened and shut again where nothing is heard"
    # No jump where it ceases to be heard: elsewhere in speech mouths move as fast.
    assert abs(steps[0]) < np.quantile(np.abs(np.diff(opening)), 0.95)


def _with_background_noise(before: Samples, after: Samples) -> Samples:
    """4 seconds of pause between them, and noise so loud that the gate stays open."""
    pause = np.zeros(4 * RATE, np.int16)
    spoken = np.concatenate([before, pause, after]).astype(np.int32)
    noise = np.random.default_rng(2).normal(0, 32768 * 10 ** (-44 / 20), len(spoken))
    return np.asarray((2 * spoken + noise).clip(-32768, 32767), np.int16)


def test_predict_long_pause_closes_lips_until_speech(voice: Samples, extract: Extract, mouth: SpeechToMouth) -> None:
    shown = []
    for after in (voice[2 * RATE :], np.zeros_like(voice[2 * RATE :])):
        block = extract(_with_background_noise(voice[: 2 * RATE], after))
        assert (block.activity.gate == 1).all()
        shown.append(mouth.predict(block, Fraction(50), 0, len(block.activity.gate) - 1))
    waiting, silent = (block.shape[:, OPEN] for block in shown)
    middle, last = slice(150, 240), slice(257, 268)  # of a pause from row 100 to row 300
    assert max(waiting[middle].max(), silent[middle].max(), silent[last].max()) < 0.02
    assert waiting[last].min() > 0.04 and waiting[last].max() < 0.08
    assert waiting[last.start : 290].min() > 0.049, "shut on the way from the pause to the word"
    assert (np.diff(waiting[middle.start : last.stop]) > -1e-2).all()
    # The more lips wait, the less they are read from the network: a talker's own way is neither used nor learned there.
    network = make_session(weights_path("speech_to_mouth.onnx"), num_threads=1, device="cpu")
    block = extract(_with_background_noise(voice[: 2 * RATE], voice[2 * RATE :]))
    heard = network.run(["hidden"], {"features": block.features[None]})[0][0]
    read = np.linalg.norm(shown[0].hidden, axis=1) / np.linalg.norm(heard[: len(shown[0].hidden)], axis=1)
    assert read[last.start] < 0.5
    assert read[320:340].min() > 0.9, "in the word"


def test_predict_lips_meet_at_contacts(voice: Samples, extract: Extract, mouth: SpeechToMouth) -> None:
    block = extract(voice)
    network = make_session(weights_path("speech_to_mouth.onnx"), num_threads=1, device="cpu")
    rows = network.run(None, {"features": block.features[None]})[0][0, :-1]
    heard, contact = rows[:, :8] * DEFAULT_SCALE, rows[:, 8]
    open_gate = _with_activity(block, gate=np.ones_like(block.activity.gate))
    shown = mouth.predict(open_gate, Fraction(50), 0, len(rows)).shape
    is_open = heard[:, OPEN] > 0.05
    in_a_word = spread(is_open, 5, 0) & spread(is_open, 0, 5)  # shut for less than a fifth of a second
    touching, apart = in_a_word & (contact > 0.5), in_a_word & (contact < -4)
    assert touching.sum() > 3 and apart.sum() > 50
    assert (shown[touching, OPEN] < 0.8 * heard[touching, OPEN].clip(1e-3)).all()
    assert np.abs(shown[apart] - heard[apart]).max() < 2e-3
    # Heights of lips and mouth still belong together.
    moved = shown[touching] - heard[touching]
    assert np.abs(2 * moved[:, [UPPER, LOWER]].sum(1) - moved[:, [OPEN, OUTER]].sum(1)).max() < 1e-4


class _Network:
    """Predicts lips that narrow evenly, and close in the middle."""

    def __init__(self, num_hidden: int) -> None:
        self._num_hidden = num_hidden

    def run(self, outputs: None, inputs: dict[str, NDArray[np.float32]]) -> tuple[NDArray[np.float32], ...]:
        num = inputs["features"].shape[1]
        rows = np.zeros((1, num, len(CHANNELS) + 1), np.float32)
        rows[0, :, OPEN] = ((np.abs(np.arange(num) - num // 2) - 4) / 3).clip(0, 2)  # for less than a rest
        rows[0, :, CHANNELS.index("width")] = np.linspace(1, -3, num)
        rows[..., -1] = -9
        return rows, np.zeros((1, num, self._num_hidden), np.float32)


def test_predict_touching_lips_keep_width(voice: Samples, extract: Extract, monkeypatch: pytest.MonkeyPatch) -> None:
    block = extract(voice[: 2 * RATE])
    ones = np.ones_like(block.activity.gate)
    heard = _with_activity(block, gate=ones, is_heard=ones.astype(np.bool_))
    narrowing = SpeechToMouth()
    monkeypatch.setattr(narrowing, "_network", _Network(narrowing._num_hidden))
    shape = narrowing.predict(heard, Fraction(50), 0, len(ones) - 1).shape
    assert (shape[:, OPEN] == 0).sum() > 5
    assert np.abs(np.diff(shape[:, CHANNELS.index("width")], 2)).max() < 1e-4


def test_predict_blocks_split_in_pause_equal_whole(voice: Samples, extract: Extract, mouth: SpeechToMouth) -> None:
    def check(spoken: Samples, num_frames: int, cuts: list[int]) -> None:
        whole = extract(spoken)
        expected = mouth.predict(whole, Fraction(25), 0, num_frames)
        for first, stop in [(0, cut) for cut in cuts] + [(cut, num_frames) for cut in cuts]:
            block = extract(spoken, first / 25, stop / 25)
            part = mouth.predict(block, Fraction(25), first, stop - first)
            for name, tolerance in (("shape", 1e-4), ("hidden", 1e-3), ("gate", 1e-5)):
                assert np.abs(getattr(part, name) - getattr(expected, name)[first:stop]).max() < tolerance

    short, long = _with_pause(voice, 2.2, 0.7), _with_background_noise(voice[: 2 * RATE], voice[2 * RATE :])
    block = extract(short)
    unheard = np.flatnonzero((block.activity.gate > 0) & ~block.activity.is_heard)
    check(short, int(len(short) / RATE * 25), [row // 2 for row in unheard[(unheard > 100) & (unheard < 150)][::3]])
    check(long, 175, [120, 122, 123, 128, 132, 133, 135])  # they wait from frame 122 on, open from frame 133 on


def test_mouth_block_scaled_keeps_closed_lips() -> None:
    shape = np.random.default_rng(5).normal(0, 1, (20, 8)).astype(np.float32) * DEFAULT_SCALE
    shape[:, OPEN] = np.linspace(0, 0.2, 20)
    mouth = MouthBlock(shape, np.linspace(0, 1, 20, dtype=np.float32), np.ones((20, 4), np.float32))
    lively, calm = mouth.scaled(2), mouth.scaled(0.5)
    wide = shape[:, OPEN] > 0.05
    assert lively.shape[wide] == pytest.approx(2 * shape[wide])
    assert calm.shape == pytest.approx(0.5 * shape)
    assert lively.shape[0, OPEN] == 0
    assert lively.shape[1, OPEN] < 1.3 * shape[1, OPEN], "lips that nearly touch"
    assert (np.diff(lively.shape[:, OPEN]) > 0).all()
    others = [channel for channel in range(8) if channel not in (OPEN, OUTER, LOWER)]
    assert lively.shape[:, others] == pytest.approx(2 * shape[:, others])
    assert (lively.gate == mouth.gate).all()
    assert (lively.hidden == 2).all(), "the speaker's own way of moving is scaled as well"
    assert (mouth.scaled(0).shape == 0).all()


def test_predict_ignores_features_in_silence(voice: Samples, extract: Extract, mouth: SpeechToMouth) -> None:
    """So live sessions need not compute them in pauses."""
    block = extract(np.concatenate([voice[:RATE], np.zeros(2 * RATE, np.int16)]))
    unknown = replace(block, features=np.full_like(block.features, np.nan))
    paused = mouth.predict(unknown, Fraction(25), 50, 10)
    assert np.isnan(mouth.predict(unknown, Fraction(25), 10, 10).shape).any()
    known = mouth.predict(block, Fraction(25), 50, 10)
    assert (paused.shape == known.shape).all() and paused.hidden.shape == known.hidden.shape
    assert not paused.gate.any()
