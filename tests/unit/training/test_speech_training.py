import json
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from models.mouth.shape import CHANNELS, NUM_CHANNELS
from models.speech.features import SpeechFeatures
from training.speech_corpus import read_synthetic, read_talkers
from training.speech_examples import Example, ExampleMaker, load_examples, save_examples
from training.speech_network import NUM_FEATURES
from training.train_speech import predict, train

RATE = 16000
OPEN = CHANNELS.index("open_in")


def _voice(num_samples: int, seed: int = 0) -> NDArray[np.float32]:
    """A buzz that comes and goes."""
    time = np.arange(num_samples) / RATE
    buzz = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 20))
    return (0.1 * buzz * (np.sin(2 * np.pi * 2 * time + seed) > 0)).astype(np.float32)


def _write_corpora(folder: Path) -> None:
    frames = np.arange(75)
    for name, talkers in (("grid_s1", ["s1", "s1"]), ("grid_talkers", ["s8", "s9"])):
        reach = [1, 1] if name == "grid_s1" else [1, 2]
        opening = np.concatenate([0.1 * k * np.maximum(0, np.sin(frames / 3)) + 0.004 for k in reach])
        measures = np.repeat(opening[:, None], NUM_CHANNELS, 1).astype(np.float32)
        soundfile.write(folder / f"{name}.flac", np.concatenate([_voice(3 * RATE), _voice(3 * RATE)]), RATE)
        np.savez(
            folder / f"{name}.npz",
            audio_offset=[0, 3 * RATE, 6 * RATE],
            frame_offset=[0, 75, 150],
            measures=measures,
            rest=measures[:, 0] < 0.01,
            talkers=np.array(talkers),
        )
    units = [["_", 0.0, 0.3], ["p", 0.3, 0.45], ["a", 0.45, 0.8], ["_", 0.8, 1.0]]
    names = ["espeak_ja_voice_0", "voice_0"]
    soundfile.write(folder / "synth.flac", np.concatenate([_voice(RATE, 1), _voice(RATE)]), RATE)
    told = {"names": names, "audio_offset": [0, RATE, 2 * RATE], "units": [units, units]}
    (folder / "synth_units.json").write_text(json.dumps(told))


def test_example_maker_examples_survive_save_and_load(tmp_path: Path) -> None:
    _write_corpora(tmp_path)
    maker = ExampleMaker(SpeechFeatures(num_threads=1, device="cpu"), tmp_path)
    examples = [*maker.talkers(read_talkers(tmp_path)[0]), *maker.table(read_synthetic(tmp_path))]
    assert {e.pool for e in examples} == {"clean", "tape", "voice", "room", "table", "table_room"}
    assert {e.features.shape[1] for e in examples} == {NUM_FEATURES}
    assert all(len(e.features) == len(e.mouth) > 30 for e in examples)
    save_examples(tmp_path / "examples.npz", examples)
    again = load_examples(tmp_path / "examples.npz")
    assert [(e.pool, e.name) for e in again] == [(e.pool, e.name) for e in examples]
    assert all((a.features == b.features).all() for a, b in zip(again, examples, strict=True))


def _example(pool: str, name: str, rng: np.random.Generator) -> Example:
    """Features that say everything of a mouth that moves smoothly."""
    mixing = np.random.default_rng(5).normal(size=(8, NUM_FEATURES))
    motion = np.stack([np.convolve(rng.normal(size=208), np.hanning(9), "valid") for _ in range(8)], 1) / 2
    mouth = np.hstack([motion, motion[:, :1] < 0]).astype(np.float32)
    return Example(pool, name, (motion @ mixing).astype(np.float16), mouth)


POOLS = ("clean", "tape", "voice", "room", "table", "table_room")


def test_train_predicts_mouths_of_an_unseen_talker() -> None:
    rng = np.random.default_rng(0)
    examples = [_example(pool, f"talker{index % 2}", rng) for pool in POOLS for index in range(4)]
    rest = Example("negative", "hum", np.full((150, NUM_FEATURES), 30, np.float16), np.zeros((150, 9), np.float32))
    network = train([[*examples, rest]], seed=1, num_steps=30)
    unseen = _example("clean", "another", rng)
    found = predict(network, unseen)
    assert np.corrcoef(found[:, OPEN], unseen.mouth[:, OPEN])[0, 1] > 0.8
    assert np.abs(predict(network, rest)[:, :8]).mean() < 0.5
