"""The figures by which the weight of the prior is chosen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.mouth.shape import DEFAULT_SCALE
from models.speech.speech_to_mouth import MouthBlock
from training.speaker_adaptation_figures import Clip, figures, predict_clip
from training.speech_examples import Example
from training.speech_network import NUM_FEATURES, MouthTcn

_ROWS, _HIDDEN = 150, 24


def _clips(habit: float, num_clips: int = 12) -> list[Clip]:
    """Sentences whose prediction lacks what a second half of the layer says, by `habit`."""
    rng = np.random.default_rng(2)
    heads = rng.normal(size=(2, _HIDDEN, 8)) * DEFAULT_SCALE * 0.2
    clips = []
    for _ in range(num_clips):
        smooth = [np.convolve(rng.normal(size=_ROWS + 8), np.hanning(9), "valid") for _ in range(_HIDDEN)]
        hidden = np.stack(smooth, 1).astype(np.float32)
        predicted = np.asarray(hidden @ heads[0], np.float32)
        truth = np.asarray(predicted + habit * (hidden @ heads[1]), np.float32)
        open_gate = np.ones(_ROWS, np.float32)
        clips.append(Clip(MouthBlock(predicted, open_gate, hidden), truth))
    return clips


def test_what_is_learned_is_seen_in_the_figures() -> None:
    talkers = {"unusual": _clips(1.0), "with few clips": _clips(1.0)[:4]}
    without, with_way = (figures(talkers, 15, prior) for prior in (None, 20.0))
    assert without["talkers"] == with_way["talkers"] == 1
    assert with_way["opening r"] > without["opening r"] + 0.1
    assert with_way["opening error"] < without["opening error"]
    usual = figures({"usual": _clips(0.0)}, 15, 20.0)
    assert usual["opening r"] > 0.99


def test_a_clip_is_predicted_in_eye_distances() -> None:
    torch.manual_seed(0)
    network, rng = MouthTcn(num_heads=1).eval(), np.random.default_rng(1)
    features = rng.normal(size=(30, NUM_FEATURES)).astype(np.float16)
    example = Example("clean", "s1", features, np.ones((30, 9), np.float32))
    average, scale = np.full(8, 0.05, np.float32), np.full(8, 0.1, np.float32)
    clip = predict_clip(network, example, average, scale)
    assert clip.truth == pytest.approx(np.full((30, 8), 0.1))
    with torch.no_grad():
        outputs = network(torch.from_numpy(features[None].astype(np.float32)))[0].numpy()
    assert clip.mouth.shape == pytest.approx(outputs[:, :8] * 0.05, abs=1e-5)
    assert clip.mouth.hidden.shape == (30, 96)
