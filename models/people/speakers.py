"""Active speaker detection: which of the visible people speaks, or none of them.

The mouth that the source's own sound predicts (`models.speech.speech_to_mouth`) is compared with the mouth of every
tracked person. Both are reduced to two values per frame, opening and width, without what is slower than a second. A
frame of a person has one of three densities, Gaussian and independent for both values:

    quiet    the mouth hardly moves
    moving   it moves as in speech, with no relation to the sound
    matched  it follows the predicted mouth

Somebody who does not speak is quiet or moving (laughs, chews, is dubbed); somebody who speaks is matched or, where the
prediction is poor, moving. Which of the two changes about once a second and is summed out, so that a mouth that just
moves is weak evidence however long it moves, and one that follows the sound is strong evidence. The ratio of both
likelihoods is the emission of a hidden Markov model whose states are the visible people and "none"; forward-backward
smoothing (Rabiner, 1989) gives the probability of each state in each frame. Frames without speech carry no evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from models.avatar.source_sync import SourceSync, measure_sync, sample_rows, without_slow
from models.mouth.shape import CHANNELS, DEFAULT_SCALE, NUM_CHANNELS
from models.people.report import SpeakerTurn
from models.speech.features import FeatureBlock
from models.speech.level import ROWS_PER_SECOND
from models.speech.speech_to_mouth import SpeechToMouth

# Mean of these channels, each in units of its spread in speech, is the opening.
_OPENING = [CHANNELS.index(name) for name in ("open_in", "open_out", "lower", "jaw")]
_WIDTH = CHANNELS.index("width")
# Of opening and width, in units of `DEFAULT_SCALE`: slope and residual of a mouth that speaks. Medians of six GRID and
# eleven wild clips with their own sound are .82 and .92, .68 and 1.15 (slopes), .31 and .49, .59 and .96 (residuals).
_SLOPE, _RESIDUAL = np.array([0.85, 0.85]), np.array([0.4, 0.75])
# Larger than the noise of the tracker, .1 to .3, because mouths at rest twitch and smile. With .3, and with .5, .01
# less of the frames of the films in docs/quality.md is assigned correctly.
_QUIET = np.array([0.4, 0.45])
_CLIP: Final = 4.0  # limits the effect of a lost track
# Half or twice any of these changes the share of frames that is assigned correctly by .01 at most (with half of
# `_SAMPLES_PER_SECOND`: .03 less).
_SAMPLES_PER_SECOND: Final = 4.0  # independent ones: about the number of syllables
_MOVING, _MATCHED = 0.2, 0.9  # share of those who do not speak that move; of those who speak that match
_CHANGES_PER_SECOND: Final = 1.0  # between quiet and moving, and between matched and moving
_TURN_SECONDS: Final = 2.5
# Evidence per second against "none": speech under a mouth that moves usually belongs to it.
_VISIBLE_EVIDENCE: Final = 1.2
_PAUSE_SECONDS: Final = 0.5
_MIN_TURN_SECONDS: Final = 0.2  # shorter ones are sounds that resemble speech
_ABSENT: Final = -30.0
_MAX_YAW: Final = 40.0  # degrees from which the mouth is not measured


class SourceMouth(NamedTuple):
    """The mouth that a source's own sound predicts, in M rows of 20 ms."""

    shape: NDArray[np.float32]  # (M, 8) `models.mouth.shape` channels
    gate: NDArray[np.float32]  # (M,) 1 in speech, 0 in silence
    is_heard: NDArray[np.bool_]  # (M,) whether somebody speaks, seen or not

    @classmethod
    def predict(
        cls, network: SpeechToMouth, features: FeatureBlock, is_heard: NDArray[np.bool_], first_row: int
    ) -> Self:
        """Predict as many rows as `is_heard` has, which is that of the rows from `first_row`."""
        mouth = network.predict(features, Fraction(ROWS_PER_SECOND), first_row, len(is_heard))
        return cls(mouth.shape, mouth.gate, is_heard)

    @classmethod
    def concatenate(cls, parts: Sequence[SourceMouth]) -> Self:
        """Join parts in order."""
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))


@dataclass(frozen=True)
class TrackedMouths:
    """The mouths of P people in N frames of a source."""

    shape: NDArray[np.float32]  # (P, N, 8) `models.mouth.shape.measure`, any constant offset; 0 where absent
    is_seen: NDArray[np.bool_]  # (P, N) whether the person is in the picture
    is_frontal: NDArray[np.bool_]  # (P, N) whether the mouth can be measured

    @classmethod
    def empty(cls, num_people: int, num_frames: int) -> Self:
        """Return people who are never seen."""
        size = (num_people, num_frames)
        return cls(np.zeros((*size, NUM_CHANNELS), np.float32), np.zeros(size, bool), np.zeros(size, bool))

    def add(self, person: int, frame: NDArray[np.int32], mouth: NDArray[np.float32], yaw: NDArray[np.float32]) -> None:
        """Enter the frames in which a person is seen, in place."""
        self.shape[person, frame], self.is_seen[person, frame] = mouth, True
        self.is_frontal[person, frame] = np.abs(yaw) < _MAX_YAW


class Speakers(NamedTuple):
    """Who speaks in N frames."""

    probability: NDArray[np.float64]  # (1 + P, N) probability of "none" and of each person
    is_heard: NDArray[np.bool_]  # (N,) whether somebody speaks, seen or not
    sync: SourceSync

    def turns(self, fps: Fraction) -> list[SpeakerTurn]:
        """Return the stretches of speech in which one state is the most probable; short pauses are part of them."""
        state = np.where(self.is_heard, self.probability.argmax(0), -1)
        bounds = [0, *(np.flatnonzero(np.diff(state)) + 1).tolist(), len(state)]
        spans: list[tuple[int, int]] = []
        for start, stop in zip(bounds, bounds[1:], strict=False):
            if start == stop or state[start] < 0:
                continue
            is_same = spans and state[spans[-1][0]] == state[start]
            if is_same and start - spans[-1][1] <= _PAUSE_SECONDS * fps:
                start, _ = spans.pop()
            spans.append((start, stop))
        long = [span for span in spans if span[1] - span[0] >= _MIN_TURN_SECONDS * fps]
        return [self._turn(int(state[start]), start, stop, fps) for start, stop in long]

    def _turn(self, state: int, start: int, stop: int, fps: Fraction) -> SpeakerTurn:
        confidence = float(self.probability[state, start:stop].mean())
        return SpeakerTurn(
            start=round(float(start / fps), 3),
            end=round(float(stop / fps), 3),
            person=state - 1 if state else None,
            confidence=round(min(confidence, 1.0), 3),
        )


def find_speakers(mouths: TrackedMouths, fps: Fraction, sound: SourceMouth) -> Speakers:
    """Find who speaks in each frame, after measuring and removing the source's own audio-video offset."""
    rate = float(fps)
    seen = np.stack(
        [
            np.clip(without_slow(_opening_and_width(shape), ok, rate), -_CLIP, _CLIP)
            for shape, ok in zip(mouths.shape, mouths.is_frontal, strict=True)
        ]
    )
    sync = _sync(mouths, fps, sound)
    times = np.arange(seen.shape[1]) / rate + (sync.offset_seconds or 0.0)
    predicted = sample_rows(sound.shape, times)
    heard = (sample_rows(sound.is_heard.astype(np.float32), times) > 0.5) & (times < len(sound.gate) / ROWS_PER_SECOND)
    expected = without_slow(_opening_and_width(predicted), np.ones(len(times), bool), rate)
    ratios = _log_ratios(seen, expected, mouths.is_frontal & heard, rate)
    none = np.full((1, len(times)), -_VISIBLE_EVIDENCE / rate) * heard
    emission = np.concatenate([none, np.where(mouths.is_seen, ratios, _ABSENT)])
    return Speakers(_smooth(emission, min(1.0, 1 / (_TURN_SECONDS * rate))), heard, sync)


def _sync(mouths: TrackedMouths, fps: Fraction, sound: SourceMouth) -> SourceSync:
    """Measure the offset on the sum of all mouths: few people move their mouths while another one speaks."""
    rate = float(fps)
    total = sum(without_slow(shape, ok, rate) for shape, ok in zip(mouths.shape, mouths.is_frontal, strict=True))
    present = np.asarray(mouths.is_frontal.any(0))
    return measure_sync(np.asarray(total, np.float32), present, fps, sound.shape, sound.gate)


def _opening_and_width(shape: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (N, 2) opening and width of (N, 8) mouths in units of their spread in speech."""
    scaled = shape.astype(np.float64) / DEFAULT_SCALE
    return np.stack([scaled[:, _OPENING].mean(1), scaled[:, _WIDTH]], 1)


def _log_ratios(
    seen: NDArray[np.float64], expected: NDArray[np.float64], counts: NDArray[np.bool_], rate: float
) -> NDArray[np.float64]:
    """Return (P, N) log-likelihood ratios of speaking to not speaking.

    Args:
        seen: (P, N, 2) values of each person.
        expected: (N, 2) values that the sound predicts.
        counts: (P, N) frames with evidence.
        rate: Frames per second.
    """
    weight = np.where(counts, _SAMPLES_PER_SECOND / rate, 0.0)
    quiet = weight * _log_normal(seen, _QUIET)
    moving = weight * _log_normal(seen, np.ones(2))
    matched = weight * _log_normal(seen - _SLOPE * expected, _RESIDUAL)
    change = min(1.0, _CHANGES_PER_SECOND / rate)
    return _log_switching(moving, matched, _MATCHED, change) - _log_switching(quiet, moving, _MOVING, change)


def _log_normal(values: NDArray[np.float64], std: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum over the last axis of the log-densities, up to a constant."""
    return np.asarray((-0.5 * (values / std) ** 2 - np.log(std)).sum(-1))


def _log_switching(
    first: NDArray[np.float64], second: NDArray[np.float64], share: float, change: float
) -> NDArray[np.float64]:
    """Return the (P, N) log-likelihood of each frame given those before it, for a source that switches.

    Args:
        first: (P, N) log-likelihoods while it is in its first state.
        second: (P, N) the same for the second.
        share: Stationary probability of the second state.
        change: Probability that the state is sampled again in a frame, from its stationary distribution.
    """
    top = np.maximum(first, second)
    a, b = np.exp(first - top), np.exp(second - top)
    result, probability = np.empty_like(top), np.full(len(top), share)
    for frame in range(top.shape[1]):
        both = (1 - probability) * a[:, frame] + probability * b[:, frame]
        result[:, frame] = np.log(both)
        probability = (1 - change) * probability * b[:, frame] / both + change * share
    return result + top


def _smooth(emission: NDArray[np.float64], change: float) -> NDArray[np.float64]:
    """Return (S, N) probabilities of S states given (S, N) log-likelihoods, by forward-backward smoothing.

    A state changes to each other one with the same probability, `change` in total.
    """
    num_states, num_frames = emission.shape
    if num_states == 1:
        return np.ones_like(emission)
    likelihood = np.exp(emission - emission.max(0))
    to_other = change / (num_states - 1)
    to_same = 1 - change - to_other
    forward, backward = np.empty_like(likelihood), np.ones_like(likelihood)
    current = np.full(num_states, 1 / num_states)
    for frame in range(num_frames):
        current = (to_same * current + to_other) * likelihood[:, frame]
        current /= current.sum()
        forward[:, frame] = current
    for frame in range(num_frames - 1, 0, -1):
        current = likelihood[:, frame] * backward[:, frame]
        current = to_same * current + to_other * current.sum()
        backward[:, frame - 1] = current / current.sum()
    posterior = forward * backward
    return np.asarray(posterior / posterior.sum(0))
