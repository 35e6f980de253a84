"""Measures the benefit of speaker adaptation by amount of speech; used to choose the precision of the prior.

    python -m training.speaker_adaptation_figures EXAMPLES CORPORA

EXAMPLES and CORPORA are those of `training.train_speech`. Four networks are trained, each without four of the
speakers. For each left-out speaker with enough clips, some clips are learned from as in the product
(`models.avatar.speaker_adaptation`, then `models.avatar.mouth_calibration`), and others are predicted. Prints the means
over draws and speakers. Takes about two minutes per network on one core, and as much for the rest.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from models.avatar.mouth_calibration import calibrate
from models.avatar.speaker_adaptation import SpeakerAdaptation, learn
from models.mouth.shape import CHANNELS, NUM_CHANNELS
from models.speech.level import ROWS_PER_SECOND
from models.speech.speech_to_mouth import MouthBlock
from training.speech_corpus import read_talkers
from training.speech_examples import Example, load_examples
from training.speech_network import MouthTcn
from training.train_speech import FOLDS, train

Floats = NDArray[np.float32]

_SECONDS: Final = (6, 15, 30, 60)
_PRECISIONS: Final = (None, 3.0, 10.0, 20.0, 30.0, 100.0)  # None: nothing is learned
_CLIP_SECONDS: Final = 3
_DRAWS: Final = 4
_MIN_UNSEEN, _MAX_UNSEEN = 5, 40  # clips that are predicted
_CLOSED, _WIDE = 0.15, 0.95  # closed is under this share of the opening that is this quantile
_OPENING, _WIDTH = CHANNELS.index("open_in"), CHANNELS.index("width")


class Clip(NamedTuple):
    """One sentence of N rows of 20 ms: the predicted mouth, and the (N, 8) true one in eye distances."""

    mouth: MouthBlock
    truth: Floats


def predict_clip(network: MouthTcn, example: Example, average: Floats, scale: Floats) -> Clip:
    """Predicts the mouth of a clip whose speaker the network does not know.

    Args:
        network: With one head.
        example: The clip.
        average: (8,) standard deviation of each channel of the average speaker, in eye distances.
        scale: (8,) that of this speaker.
    """
    features = torch.from_numpy(example.features[None].astype(np.float32))
    with torch.no_grad():
        hidden = network.hidden(features)
        outputs = network.head(hidden)[0].T.numpy()
    num_rows = len(example.mouth)
    shape = (outputs[:, :NUM_CHANNELS] * average).astype(np.float32)
    open_gate = np.ones(num_rows, np.float32)
    mouth = MouthBlock(shape, open_gate, hidden[0].T.numpy())
    return Clip(mouth, (example.mouth[:, :NUM_CHANNELS] * scale).astype(np.float32))


def figures_of(film: Sequence[Clip], unseen: Sequence[Clip], prior_seconds: float | None) -> dict[str, float]:
    """Learns from some clips of a speaker and scores others.

    Args:
        film: Clips to learn from.
        unseen: Clips to predict.
        prior_seconds: Precision of the prior; None: no adaptation.
    """
    mouth, truth = _join(film)
    adaptation, offset = SpeakerAdaptation.unknown(), np.zeros_like(truth)
    if prior_seconds is not None:
        prior = np.full(NUM_CHANNELS, prior_seconds)
        adaptation, offset = learn(mouth.hidden, truth - mouth.shape, ROWS_PER_SECOND, prior)
    everywhere = np.ones(len(truth), np.bool_)
    calibration = calibrate(mouth.shape + offset, truth, everywhere, Fraction(ROWS_PER_SECOND))
    said, shown = _join(unseen)
    found = replace(calibration, adaptation=adaptation).apply(said)
    return _score(found, shown)


def _join(clips: Sequence[Clip]) -> tuple[MouthBlock, Floats]:
    names = [field.name for field in fields(MouthBlock)]
    joined = (np.concatenate([getattr(clip.mouth, name) for clip in clips]) for name in names)
    return MouthBlock(*joined), np.concatenate([clip.truth for clip in clips])


def _score(found: Floats, truth: Floats) -> dict[str, float]:
    scores = {}
    for name, channel in (("opening", _OPENING), ("width", _WIDTH)):
        ours, theirs = found[:, channel], truth[:, channel]
        scores[f"{name} r"] = float(np.corrcoef(ours, theirs)[0, 1])
        scores[f"{name} error"] = float(np.sqrt(np.square(ours - theirs).mean()) / theirs.std())
        scores[f"{name} spread"] = float(ours.std() / theirs.std())
    least = _CLOSED * np.quantile(truth[:, _OPENING], _WIDE)
    closed, truly = found[:, _OPENING] < least, truth[:, _OPENING] < least
    scores["closed, precision"] = float((closed & truly).sum() / max(1, closed.sum()))
    scores["closed, recall"] = float((closed & truly).sum() / max(1, truly.sum()))
    return scores


def figures(talkers: dict[str, list[Clip]], seconds: int, prior_seconds: float | None) -> dict[str, float]:
    """Returns means over draws and over speakers with enough clips, and the number of speakers as `talkers`."""
    of_talker = [
        _mean([figures_of(film, unseen, prior_seconds) for film, unseen in _draws(clips, seconds // _CLIP_SECONDS)])
        for clips in talkers.values()
        if len(clips) >= seconds // _CLIP_SECONDS + _MIN_UNSEEN
    ]
    return {"talkers": float(len(of_talker))} | _mean(of_talker)


def _draws(clips: list[Clip], num_film: int) -> Iterator[tuple[list[Clip], list[Clip]]]:
    rng = np.random.default_rng(7)
    for _ in range(_DRAWS):
        order = [clips[index] for index in rng.permutation(len(clips))]
        yield order[:num_film], order[num_film : num_film + _MAX_UNSEEN]


def _mean(scored: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([scores[name] for scores in scored])) for name in scored[0]}


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads EXAMPLES and CORPORA and prints the figures."""
    parser = argparse.ArgumentParser(description="Print the benefit of speaker adaptation.")
    for name in ("examples", "corpora"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    examples = load_examples(options.examples)
    _, scales = read_talkers(options.corpora)
    average = np.exp(np.mean([np.log(scale) for scale in scales.values()], 0)).astype(np.float32)
    talkers: dict[str, list[Clip]] = {}
    for fold in FOLDS:
        network = train([[e for e in examples if e.name not in fold]], seed=0).with_first_head(torch.ones(NUM_CHANNELS))
        for example in (e for e in examples if e.pool == "clean" and e.name in fold):
            clip = predict_clip(network.eval(), example, average, scales[example.name])
            talkers.setdefault(example.name, []).append(clip)
    for seconds in _SECONDS:
        for prior_seconds in _PRECISIONS:
            found = figures(talkers, seconds, prior_seconds)
            print(seconds, prior_seconds, *(f"{name} {value:.3f}" for name, value in found.items()), flush=True)


if __name__ == "__main__":
    main()
