"""Turns the corpora into examples for `training.train_speech`: features of many sounds, with their mouths.

    python -m training.speech_examples CORPORA EXAMPLES
    python -m training.speech_examples --javanese CORPORA JAVANESE

CORPORA is the folder of `training.speech_corpus`; EXAMPLES the .npz file to write (about 900 MB). JAVANESE holds
examples of the Javanese corpus. The features come from the shipped encoder by way of `models.speech.features`, so that
training hears what the product hears. The same corpora give the same EXAMPLES; JAVANESE also depends on the shipped
network, which finds the lag of each speaker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from lipwright.media.audio import SPEECH_SAMPLE_RATE
from models.mouth.shape import NUM_CHANNELS
from models.speech.features import SpeechFeatures, measure_level
from models.speech.level import ROWS_PER_SECOND
from models.weights import weights_path
from models.weights.onnx_session import make_session
from training.speech_alignment import align, align_talkers
from training.speech_augmentation import (
    NOISE_KINDS,
    Samples,
    add_noise,
    add_room,
    change_microphone,
    change_voice,
    make_babble,
    make_noise,
)
from training.speech_corpus import JAVANESE, Utterance, read_synthetic, read_talkers

_ROW_SAMPLES = SPEECH_SAMPLE_RATE // ROWS_PER_SECOND
# Peak of what is written as int16; the level is measured again when it is read.
_PEAK = 0.9
# Sentences on one tape: the encoder also has to meet speech that does not start at the start of the file.
_TAPE_LENGTH = 6
_TALKER_COPIES, _LONE_COPIES = 2, 6
_MAX_CLIPS = 250
_NUM_NEGATIVES, _NEGATIVE_SECONDS = 160, 3

Change = Callable[[Samples], tuple[Samples, float]]


@dataclass(frozen=True)
class Example:
    """One stretch of sound.

    Attributes:
        pool: How it was made: clean, tape, voice, room, table, table_room or negative.
        name: The talker, utterance or kind of noise.
        features: (N, F) float16.
        mouth: (N, 9) float32 as `Utterance.track`.
    """

    pool: str
    name: str
    features: NDArray[np.float16]
    mouth: NDArray[np.float32]


class ExampleMaker:
    """Plays, changes and hears utterances.

    Args:
        features: The front end.
        folder: Where sounds may be written for it.
        seed: Of everything random.
    """

    def __init__(self, features: SpeechFeatures, folder: Path, seed: int = 7) -> None:
        self._features, self._path = features, folder / "speech.npy"
        self._rng = np.random.default_rng(seed)

    def align(self, utterances: list[Utterance]) -> list[Utterance]:
        """Corrects the times of tracked clips and leaves out those that cannot be used."""
        return align(utterances, [self._hear(_level(u.samples)).astype(np.float32) for u in utterances])

    def align_talkers(self, utterances: list[Utterance]) -> list[Utterance]:
        """Corrects the times of tracked clips by one lag per talker, with what the shipped network predicts."""
        network = make_session(weights_path("speech_to_mouth.onnx"), num_threads=1, device="cpu")
        features = (self._hear(_level(u.samples)).astype(np.float32)[None] for u in utterances)
        return align_talkers(utterances, [network.run(None, {"features": rows})[0][0] for rows in features])

    def talkers(self, utterances: list[Utterance]) -> Iterable[Example]:
        """Makes the examples of tracked talkers: clean ones, alone and in a row, other voices and other rooms."""
        babble = make_babble([u.samples for u in utterances[::40]], 20 * SPEECH_SAMPLE_RATE, self._rng)
        for talker in sorted({u.name for u in utterances}):
            clips = [u for u in utterances if u.name == talker]
            clips = [clips[index] for index in self._rng.permutation(len(clips))[:_MAX_CLIPS]]
            copies = 1 if len(clips) == _MAX_CLIPS else _LONE_COPIES if len(clips) == 1 else _TALKER_COPIES
            yield from self._record("clean", clips, _unchanged, 1)
            yield from self._record("tape", clips, _unchanged, _TAPE_LENGTH)
            yield from self._record("voice", clips * copies, self._other_voice, _TAPE_LENGTH)
            yield from self._record("room", clips * copies, lambda s: self._other_room(s, babble), _TAPE_LENGTH)

    def table(self, utterances: list[Utterance]) -> Iterable[Example]:
        """Makes the examples of synthetic speech: clean ones, and half of them in other rooms."""
        babble = make_babble([u.samples for u in utterances[::7]], 20 * SPEECH_SAMPLE_RATE, self._rng)
        yield from self._record("table", utterances, _unchanged, _TAPE_LENGTH)
        yield from self._record("table_room", utterances[::2], lambda s: self._other_room(s, babble), _TAPE_LENGTH)

    def negatives(self) -> Iterable[Example]:
        """Makes noises, music and silence, with a mouth at rest."""
        for index in range(_NUM_NEGATIVES):
            kind = NOISE_KINDS[index % len(NOISE_KINDS)]
            level = 0.0 if index % 10 == 9 else 10 ** (-self._rng.uniform(15, 65) / 20)
            features = self._hear(level * make_noise(_NEGATIVE_SECONDS * SPEECH_SAMPLE_RATE, kind, self._rng))
            mouth = np.zeros((len(features), NUM_CHANNELS + 1), np.float32)
            mouth[:, -1] = 1
            yield Example("negative", kind, features, mouth)

    def _record(self, pool: str, utterances: list[Utterance], change: Change, length: int) -> Iterable[Example]:
        """Puts `length` utterances at a time on a tape and cuts them out of its features again."""
        order = self._rng.permutation(len(utterances))
        for start in range(0, len(order), length):
            chosen = [utterances[index] for index in order[start : start + length]]
            changed = [change(utterance.samples) for utterance in chosen]
            sounds = [_level(sound[: len(sound) // _ROW_SAMPLES * _ROW_SAMPLES]) for sound, _ in changed]
            features = self._hear(np.concatenate(sounds))
            row = 0
            for utterance, sound, (_, factor) in zip(chosen, sounds, changed, strict=True):
                part = features[row : row + len(sound) // _ROW_SAMPLES]
                row += len(sound) // _ROW_SAMPLES
                yield Example(pool, utterance.name, part, utterance.at_rows(len(part), factor))

    def _hear(self, samples: Samples) -> NDArray[np.float16]:
        np.save(self._path, (samples.clip(-1, 1) * 32767).astype(np.int16))
        block = self._features.extract(self._path, measure_level(self._path), 0, len(samples) / SPEECH_SAMPLE_RATE)
        return block.features.astype(np.float16)

    def _other_voice(self, samples: Samples) -> tuple[Samples, float]:
        if self._rng.random() < 0.5:
            samples = change_microphone(samples, self._rng)
        return change_voice(samples, self._rng)

    def _other_room(self, samples: Samples, babble: Samples) -> tuple[Samples, float]:
        if self._rng.random() < 0.7:
            samples = change_microphone(samples, self._rng)
        if self._rng.random() < 0.45:
            samples = add_room(samples, self._rng)
        if self._rng.random() < 0.75:
            samples = add_noise(samples, self._rng, babble)
        return samples, 1.0


def save_examples(path: Path, examples: list[Example]) -> None:
    """Writes examples; `load_examples` reads them."""
    np.savez(
        path,
        pools=[example.pool for example in examples],
        names=[example.name for example in examples],
        ends=np.cumsum([len(example.mouth) for example in examples]),
        features=np.concatenate([example.features for example in examples]),
        mouths=np.concatenate([example.mouth for example in examples]),
    )


def load_examples(path: Path) -> list[Example]:
    """Reads the file of `save_examples`."""
    with np.load(path) as stored:
        cuts = stored["ends"][:-1]
        parts = np.split(stored["features"], cuts), np.split(stored["mouths"], cuts)
        return [
            Example(str(pool), str(name), features, mouth)
            for pool, name, features, mouth in zip(stored["pools"], stored["names"], *parts, strict=True)
        ]


def _unchanged(samples: Samples) -> tuple[Samples, float]:
    return samples, 1.0


def _level(samples: Samples) -> Samples:
    """Brings the loud part of each sentence of a tape to one level, and the peak to what int16 holds."""
    loud = np.quantile(np.abs(samples), 0.99) + 1e-6
    levelled: Samples = (samples * min(0.3 / loud, _PEAK / (np.abs(samples).max() + 1e-6))).astype(np.float32)
    return levelled


def main(
    corpora: Path,
    examples: Path,
    javanese: Annotated[bool, typer.Option("--javanese", help="Examples of the Javanese corpus alone.")] = False,
) -> None:
    """Reads CORPORA and writes EXAMPLES."""
    with TemporaryDirectory() as folder:
        maker = ExampleMaker(SpeechFeatures(num_threads=1, device="cpu"), Path(folder))
        if javanese:
            made = list(maker.talkers(maker.align_talkers(read_talkers(corpora, JAVANESE)[0])))
        else:
            aligned = maker.align(read_talkers(corpora)[0])
            made = [*maker.talkers(aligned), *maker.table(read_synthetic(corpora)), *maker.negatives()]
    save_examples(examples, made)


if __name__ == "__main__":
    typer.run(main)
