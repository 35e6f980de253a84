import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from models.mouth.shape import CHANNELS, NUM_CHANNELS
from models.speech.features import SpeechFeatures
from training.mouth_table import shape_phones
from training.speech_alignment import align, align_talkers
from training.speech_augmentation import NOISE_KINDS, add_noise, add_room, change_microphone, change_voice, make_noise
from training.speech_batches import REAL, Batches, talker_trust
from training.speech_corpus import JAVANESE, Utterance, read_synthetic, read_talkers
from training.speech_examples import Example, ExampleMaker, load_examples, save_examples
from training.speech_network import NUM_FEATURES
from training.track_speakers import TrackedClip, write_corpus
from training.train_speech import predict, train

RATE = 16000
OPEN, WIDTH = CHANNELS.index("open_in"), CHANNELS.index("width")


def _voice(num_samples: int, seed: int = 0) -> NDArray[np.float32]:
    """A buzz that comes and goes."""
    time = np.arange(num_samples) / RATE
    buzz = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 20))
    return (0.1 * buzz * (np.sin(2 * np.pi * 2 * time + seed) > 0)).astype(np.float32)


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    folder, frames = tmp_path, np.arange(75)
    for name, talkers, reach in (("grid_s1", ["s1", "s1"], (1, 1)), ("grid_talkers", ["s8", "s9"], (1, 2))):
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
    soundfile.write(folder / "synth.flac", np.concatenate([_voice(RATE, 1), _voice(RATE)]), RATE)
    told = {"names": ["espeak_ja_voice_0", "voice_0"], "audio_offset": [0, RATE, 2 * RATE], "units": [units, units]}
    (folder / "synth_units.json").write_text(json.dumps(told))
    return folder


def test_read_talkers_tracks_are_scaled_by_talker(corpora: Path) -> None:
    clips, scales = read_talkers(corpora)
    assert [clip.name for clip in clips] == ["s1", "s1", "s8", "s9"]
    assert scales["s9"] == pytest.approx(2 * scales["s8"], rel=1e-3)
    for clip in clips:
        assert clip.track[:, :8].std(0) == pytest.approx(np.ones(8), rel=1e-3)
        assert np.quantile(clip.track[:, OPEN], 0.05) == pytest.approx(0, abs=1e-3)
        assert clip.track[0, 8] == 1 and clip.track[clip.track[:, OPEN].argmax(), 8] == 0
    expected = np.interp(np.arange(60) * 0.625, np.arange(75), clips[0].track[:, OPEN])
    assert np.abs(clips[0].at_rows(60, 1.25)[:, OPEN] - expected).max() < 1e-5


def test_write_corpus_keeps_speakers_and_frame_rate(tmp_path: Path) -> None:
    def clip(speaker: str, reach: float, seconds: float) -> TrackedClip:
        opening = reach * np.maximum(0, np.sin(np.arange(round(seconds * 30)) / 4))
        measures = np.repeat(opening[:, None], NUM_CHANNELS, 1).astype(np.float32)
        samples = (_voice(round(seconds * RATE)) * 20000).astype(np.int16)
        return TrackedClip(speaker, samples, measures, 30.0)

    write_corpus(tmp_path / "javanese", [clip("01", 0.1, 3), clip("02", 0.2, 2), clip("02", 0.2, 0.5)])
    clips, scales = read_talkers(tmp_path, JAVANESE)
    expected = [("01", 30.0, 90, 3 * RATE), ("02", 30.0, 60, 2 * RATE)]
    assert [(c.name, c.rate, len(c.track), len(c.samples)) for c in clips] == expected
    assert scales["02"] == pytest.approx(2 * scales["01"], rel=0.05)
    with pytest.raises(ValueError, match="one frame rate"):
        write_corpus(tmp_path / "short", [clip("01", 0.1, 0.5)])


def test_read_synthetic_tracks_follow_the_phones(corpora: Path) -> None:
    (utterance,) = read_synthetic(corpora)  # Japanese is mislabelled
    assert utterance.name == "voice_0"
    assert np.abs(utterance.samples - _voice(RATE)).max() < 1e-3
    assert utterance.track.shape == (50, 9)
    assert utterance.track[18:22, OPEN].max() < 0.2 < 1 < utterance.track[30:36, OPEN].min()
    assert utterance.track[5:12, 8].all() and utterance.track[18:22, 8].all()
    assert not utterance.track[28:38, 8].any()


def test_shape_phones_rounds_vowels_and_closes_lips() -> None:
    shape, touch = shape_phones([("i", 0.0, 0.3), ("p", 0.3, 0.4), ("u", 0.4, 0.8)], 40)
    assert shape[25:35, WIDTH].max() < -0.04 < -0.015 < shape[3:10, WIDTH].min()
    assert shape[17, OPEN] < 0.015
    assert touch[15:20].all() and touch.sum() == 6


def _moving(name: str, seed: int) -> Utterance:
    motion = np.convolve(np.random.default_rng(seed).normal(size=300), np.hanning(9), "valid")[:200]
    track = np.repeat(motion[:, None], 9, 1).astype(np.float32)
    return Utterance(name, np.zeros(4 * RATE, np.float32), track, 50)


def _heard(clip: Utterance, lag: int) -> NDArray[np.float32]:
    """(T, 12) features that follow the clip's motion `lag` rows later."""
    noise = np.random.default_rng(lag + 50).normal(0, 0.05, (200, 12))
    return (np.outer(np.roll(clip.track[:, 0], lag), np.linspace(-1, 1, 12)) + noise).astype(np.float32)


def test_align_shifts_clips_and_drops_unrelated_ones() -> None:
    lags = (0, 0, 0, 3, -12)
    clips = [_moving("many" if lag == 0 else f"other{lag}", lag + 50) for lag in lags]
    heard = [_heard(clip, lag) for clip, lag in zip(clips, lags, strict=True)]
    aligned = align([*clips, _moving("other5", 55)], [*heard, _heard(_moving("other7", 57), 7)])
    assert [clip.name for clip in aligned] == [clip.name for clip in clips]
    assert [clip.first_row for clip in aligned] == pytest.approx([0, 0, 0, -3, 12], abs=0.3)


def test_align_talkers_uses_one_lag_per_talker() -> None:
    lags = (-6, -6, 9, 2)
    clips = [_moving(name, 8 + seed) for seed, name in enumerate(("early", "early", "early", "late"))]
    predicted = [np.roll(clip.track[:, :8], -lag, 0) for clip, lag in zip(clips, lags, strict=True)]
    aligned = align_talkers(clips, predicted)
    assert [clip.name for clip in aligned] == ["early", "early", "late"], "the clip with another lag is left out"
    assert [clip.first_row for clip in aligned] == pytest.approx([-6, -6, 2], abs=0.3)


def test_augmentations_keep_the_times_of_speech() -> None:
    rng, voice = np.random.default_rng(3), _voice(3 * RATE)
    loud = np.convolve(np.abs(voice), np.ones(400) / 400, "same") > 0.02
    for change in (change_microphone, add_room, add_noise):
        changed = change(voice, rng)
        assert changed.shape == voice.shape
        level = np.convolve(np.abs(changed), np.ones(400) / 400, "same")
        assert level[loud].mean() > 1.3 * level[~loud].mean()
        assert np.abs(changed - voice).max() > 1e-3
    other, factor = change_voice(voice, rng)
    assert len(other) == pytest.approx(len(voice) / factor, abs=2)
    for kind in NOISE_KINDS:
        noise = make_noise(RATE, kind, np.random.default_rng(1))
        assert noise.shape == (RATE,) and noise.std() == pytest.approx(1, rel=1e-3)


def test_example_maker_examples_survive_save_and_load(corpora: Path) -> None:
    maker = ExampleMaker(SpeechFeatures(num_threads=1, device="cpu"), corpora)
    examples = [*maker.talkers(read_talkers(corpora)[0]), *maker.table(read_synthetic(corpora))]
    assert {e.pool for e in examples} == {"clean", "tape", "voice", "room", "table", "table_room"}
    assert {e.features.shape[1] for e in examples} == {NUM_FEATURES}
    assert all(len(e.features) == len(e.mouth) > 30 for e in examples)
    save_examples(corpora / "examples.npz", examples)
    again = load_examples(corpora / "examples.npz")
    assert [(e.pool, e.name) for e in again] == [(e.pool, e.name) for e in examples]
    assert all((a.features == b.features).all() for a, b in zip(again, examples, strict=True))


def _example(pool: str, name: str, rng: np.random.Generator) -> Example:
    """Features that say everything of a mouth that moves smoothly."""
    mixing = np.random.default_rng(5).normal(size=(8, NUM_FEATURES))
    motion = np.stack([np.convolve(rng.normal(size=208), np.hanning(9), "valid") for _ in range(8)], 1) / 2
    mouth = np.hstack([motion, motion[:, :1] < 0]).astype(np.float32)
    return Example(pool, name, (motion @ mixing).astype(np.float16), mouth)


POOLS = ("clean", "tape", "voice", "room", "table", "table_room")


def test_talker_trust_is_low_for_a_badly_tracked_channel() -> None:
    rng = np.random.default_rng(6)
    examples = [_example("clean", name, rng) for name in ("many", "many", "many", "many", "well", "badly")]
    examples[-1].mouth[:, WIDTH] = _example("clean", "another", rng).mouth[:, WIDTH]
    trust = talker_trust(examples)
    assert trust["badly"][WIDTH] < 0.2
    assert trust["badly"][OPEN] == pytest.approx(1, abs=0.2)
    assert trust["well"] == pytest.approx(trust["many"], rel=0.2)


def _drawn(corpora: list[list[Example]], num_batches: int, *names: str) -> list[NDArray[Any]]:
    """Those arrays of some batches."""
    batches = Batches(corpora, seed=3)
    drawn = [batches.draw() for _ in range(num_batches)]
    return [np.concatenate([getattr(batch, name) for batch in drawn]) for name in names]


def test_batches_splice_talkers_and_mask_the_seams() -> None:
    pools = [*POOLS, "negative"] * 2
    examples = [_example(pool, f"talker{i}", np.random.default_rng(i)) for i, pool in enumerate(pools)]
    for number, example in enumerate(examples):
        example.features[:, 0] = example.mouth[:, -1] = number
    features, mouths, valid, kinds = _drawn([examples], 8, "features", "mouths", "valid", "kinds")
    heard = features[..., 0].round(2)
    assert (heard == mouths[..., -1].round(2)).all(), "a mouth stays with its sound"
    seams = np.diff(heard) != 0
    assert not seams[kinds != 0].any() and 0.3 < seams[kinds == 0].any(1).mean() < 0.9
    for row, before in np.argwhere(seams):
        assert not valid[row, max(0, before - 3) : before + 5].any()
    assert 0.5 < valid[kinds == 0].mean() < 0.95


def test_batches_mix_two_corpora_of_real_speech() -> None:
    rng = np.random.default_rng(4)
    first = [_example(pool, "first", rng) for pool in (*POOLS, "negative") for _ in range(3)]
    second = [_example(pool, "second", rng) for pool in POOLS[:4]]
    for example in second:
        example.mouth[:, WIDTH] = 9
    kinds, mouths = _drawn([first, second], 12, "kinds", "mouths")
    is_second = mouths[..., WIDTH] == 9
    assert 0.3 < is_second[kinds == REAL].mean() < 0.5 and not is_second[kinds != REAL].any()


def test_train_predicts_mouths_of_an_unseen_talker() -> None:
    rng = np.random.default_rng(0)
    examples = [_example(pool, f"talker{index % 2}", rng) for pool in POOLS for index in range(4)]
    rest = Example("negative", "hum", np.full((150, NUM_FEATURES), 30, np.float16), np.zeros((150, 9), np.float32))
    network = train([[*examples, rest]], seed=1, num_steps=30)
    unseen = _example("clean", "another", rng)
    found = predict(network, unseen)
    assert np.corrcoef(found[:, OPEN], unseen.mouth[:, OPEN])[0, 1] > 0.8
    assert np.abs(predict(network, rest)[:, :8]).mean() < 0.5
