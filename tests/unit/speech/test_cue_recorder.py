"""Spoken texts, fitted into their slots and joined to one file."""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from config import MediaLimits, PipelineConfig
from errors import LipwrightError, MediaLimitError, StageTimeoutError, StoredFileError, VoiceError
from jobs.speech_messages import PlacedCue, RecordedCue, RecordedSpeech, with_name
from media.cancel_token import CancelToken
from media.decoding.decoder import Decoders
from media.dubbing.slots import DubWriter, FittedSpeech, SpeechSlot, fit_speech
from speech.cue_recorder import CueRecorder, record_timeout_s
from storage.cues import open_cues
from storage.file_keys import job_folder
from storage.file_store import FileStore
from storage.state import open_store

FOLDER = job_folder("1" * 32)
OUT = f"{FOLDER}/audio"
SLOTS = (
    SpeechSlot(6.0, 8.0, 9.0),  # the third to be heard; fits
    SpeechSlot(1.0, 2.0, 3.0),  # played faster, and uses the pause
    SpeechSlot(3.0, 4.0, 4.5),  # cut
    SpeechSlot(9.5, None, math.inf),  # takes as long as it needs
)
LENGTHS = (1.5, 1.7, 4.0, 2.0)


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    with Decoders(PipelineConfig().decoder) as decoders:
        yield decoders


@pytest.fixture
def config(tmp_path: Path) -> PipelineConfig:
    return PipelineConfig(data_dir=tmp_path)


@pytest.fixture
def files(config: PipelineConfig) -> FileStore:
    files = open_store(config)
    files.stored.make_folder(FOLDER)
    return files


def _speech(seconds: float, rate: int = 22050) -> bytes:
    """A WAV file with a tone between silences."""
    samples = np.zeros(round((seconds + 0.6) * rate), "<i2")
    times = np.arange(round(seconds * rate)) / rate
    samples[round(0.4 * rate) :][: len(times)] = 12000 * np.sin(2 * np.pi * 220 * times)
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return out.getvalue()


def _cue(config: PipelineConfig, files: FileStore, number: int, content: bytes) -> str:
    writer = files.new_upload("cue")
    writer.write(content)
    return open_cues(config, files.stored).add(writer.finish(), 1.0, None, f"{number:032x}", FOLDER).key


@pytest.fixture
def cues(config: PipelineConfig, files: FileStore) -> list[PlacedCue]:
    keys = [_cue(config, files, number, _speech(seconds)) for number, seconds in enumerate(LENGTHS)]
    return [PlacedCue(key, slot, f"turn {n}") for n, (key, slot) in enumerate(zip(keys, SLOTS, strict=True))]


def _record(
    config: PipelineConfig, files: FileStore, decoders: Decoders, cues: Sequence[PlacedCue], token: CancelToken
) -> RecordedSpeech:
    recorder = CueRecorder(config, files.stored, open_cues(config, files.stored), decoders)
    return recorder.record(cues, OUT, token)


def test_record_writes_fitted_cues_in_slot_order(
    tmp_path: Path, config: PipelineConfig, files: FileStore, decoders: Decoders, cues: list[PlacedCue]
) -> None:
    expected, recorded = tmp_path / "expected.flac", {}
    with DubWriter(expected) as writer:
        for cue in sorted(cues, key=lambda cue: cue.slot.start):
            with files.stored.fetched(cue.key) as path:
                fitted = FittedSpeech.from_bytes(fit_speech(path, cue.slot, MediaLimits()))
            recorded[cue.key] = RecordedCue(writer.seconds, fitted.seconds, fitted.speed, fitted.cut_seconds)
            writer.write(fitted.samples)

    found = _record(config, files, decoders, cues, CancelToken())
    with files.stored.fetched(OUT) as path:
        content = path.read_bytes()
    assert content == expected.read_bytes()
    assert found == RecordedSpeech(
        hashlib.sha256(content).hexdigest(), len(content), tuple(recorded[cue.key] for cue in cues)
    )
    fits, faster, cut, free = found.cues
    assert (fits.speed, fits.seconds, fits.cut_seconds) == (1, 2, 0)
    assert faster.speed > 1 and faster.audio_start == 0 and faster.cut_seconds == 0
    assert cut.cut_seconds > 0.5 and free.speed == 1 and free.seconds == pytest.approx(2, abs=0.03)


def test_record_places_the_closures_of_cues(
    config: PipelineConfig, files: FileStore, decoders: Decoders, cues: list[PlacedCue]
) -> None:
    store = open_cues(config, files.stored)
    for number, (placed, seconds) in enumerate(zip(cues, LENGTHS, strict=True)):
        cue, closures = store.record(placed.key), ((0.34, 0.5), (0.4 + seconds / 2, 0.6 + seconds / 2))
        assert cue is not None
        store._put(cue.model_copy(update={"closures": closures if number else ()}))
    fits, faster, cut, free = _record(config, files, decoders, cues, CancelToken()).cues
    assert fits.closures == ()
    first, second = faster.closures
    assert first[0] == pytest.approx(0, abs=0.02) and second[0] == pytest.approx(0.85 / faster.speed, abs=0.02)
    assert second[1] - second[0] == pytest.approx(0.2 / faster.speed, abs=0.002)
    assert cut.closures[0][0] == pytest.approx(cut.audio_start, abs=0.02)
    assert free.closures[1][0] == pytest.approx(free.audio_start + 1.0, abs=0.02)


def test_record_with_a_missing_or_damaged_cue_names_it(
    config: PipelineConfig, files: FileStore, decoders: Decoders, cues: list[PlacedCue]
) -> None:
    with pytest.raises(StoredFileError, match=r"^turn 2: .*missing"):
        _record(
            config, files, decoders, [*cues[:2], PlacedCue(f"{FOLDER}/{'f' * 32}", SLOTS[2], "turn 2")], CancelToken()
        )
    (files.root / cues[1].key).write_bytes(_speech(0.5))
    with pytest.raises(StoredFileError, match="^turn 1: the stored speech is missing or damaged"):
        _record(config, files, decoders, cues, CancelToken())
    assert files.stored.find(OUT) is None, "nothing is left of a recording that failed"


def test_record_with_a_cue_without_audio_names_it(
    config: PipelineConfig, files: FileStore, decoders: Decoders, cues: list[PlacedCue]
) -> None:
    broken = PlacedCue(_cue(config, files, 9, b"no audio" * 100), SLOTS[0], "turn 3")
    with pytest.raises(VoiceError, match="^turn 3: The voice returned audio that cannot be used"):
        _record(config, files, decoders, [*cues[1:], broken], CancelToken())


def test_record_of_more_than_allowed_raises(
    config: PipelineConfig, files: FileStore, decoders: Decoders, cues: list[PlacedCue]
) -> None:
    short = config.model_copy(update={"limits": MediaLimits(max_audio_seconds=3.0)})
    with pytest.raises(MediaLimitError, match="texts of at most 3 s in all"):
        _record(short, files, decoders, cues, CancelToken())


def test_record_that_is_cancelled_ends(
    config: PipelineConfig, files: FileStore, decoders: Decoders, cues: list[PlacedCue]
) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(LipwrightError, match="cancelled"):
        _record(config, files, decoders, cues, token)


def test_record_timeout_s_bounds_open_slots(config: PipelineConfig) -> None:
    cues = [PlacedCue("a", SLOTS[0], ""), PlacedCue("b", SLOTS[3], "")]
    assert record_timeout_s(config, cues) == config.jobs.sound_timeout_s(603.0) + 2


def test_with_name_keeps_the_error() -> None:
    error = with_name(StageTimeoutError("It timed out.", was_retried=True), "turns[7], at 2 s")
    named = pickle.loads(pickle.dumps(error))
    assert isinstance(named, StageTimeoutError) and named.was_retried
    assert str(named) == "turns[7], at 2 s: It timed out."
