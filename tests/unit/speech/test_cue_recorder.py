from __future__ import annotations

import hashlib
import math
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.media_files import wav_bytes
from config import MediaLimits, PipelineConfig
from errors import LipwrightError, MediaLimitError, StageTimeoutError, StoredFileError, VoiceError
from jobs.speech_messages import PlacedCue, RecordedCue, RecordedSpeech, with_name
from media.cancel_token import CancelToken
from media.decoding.decoder import Decoders
from media.dubbing.slots import DubWriter, FittedSpeech, SpeechSlot, fit_speech
from speech.cue_recorder import CueRecorder, record_timeout_s
from storage.cues import open_cues
from storage.file_keys import job_folder
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


def _speech(seconds: float, rate: int = 22050) -> bytes:
    """A WAV file with a tone between silences."""
    samples = np.zeros(round((seconds + 0.6) * rate), "<i2")
    times = np.arange(round(seconds * rate)) / rate
    samples[round(0.4 * rate) :][: len(times)] = 12000 * np.sin(2 * np.pi * 220 * times)
    return wav_bytes(samples, rate)


class Recording:
    """A CueRecorder with stored cues, whose slots are `SLOTS`."""

    def __init__(self, root: Path, decoders: Decoders) -> None:
        self.config = PipelineConfig(data_dir=root)
        self.files = open_store(self.config)
        self.files.stored.make_folder(FOLDER)
        self._decoders = decoders
        keys = [self.add(number, _speech(seconds)) for number, seconds in enumerate(LENGTHS)]
        self.cues = [PlacedCue(key, slot, f"turn {n}") for n, (key, slot) in enumerate(zip(keys, SLOTS, strict=True))]

    def add(self, number: int, content: bytes) -> str:
        """The key of a new cue."""
        writer = self.files.new_upload("cue")
        writer.write(content)
        cues = open_cues(self.config, self.files.stored)
        return cues.add(writer.finish(), 1.0, None, f"{number:032x}", FOLDER).key

    def record(self, *cues: PlacedCue, token: CancelToken | None = None) -> RecordedSpeech:
        """Record these cues, or all."""
        stored = self.files.stored
        recorder = CueRecorder(self.config, stored, open_cues(self.config, stored), self._decoders)
        return recorder.record(cues or self.cues, OUT, token or CancelToken())


@pytest.fixture
def recording(tmp_path: Path, decoders: Decoders) -> Recording:
    return Recording(tmp_path, decoders)


def test_record_writes_fitted_cues_in_slot_order(tmp_path: Path, recording: Recording) -> None:
    expected, recorded, stored = tmp_path / "expected.flac", {}, recording.files.stored
    with DubWriter(expected) as writer:
        for cue in sorted(recording.cues, key=lambda cue: cue.slot.start):
            with stored.fetched(cue.key) as path:
                fitted = FittedSpeech.from_bytes(fit_speech(path, cue.slot, MediaLimits()))
            recorded[cue.key] = RecordedCue(writer.seconds, fitted.seconds, fitted.speed, fitted.cut_seconds)
            writer.write(fitted.samples)

    found = recording.record()
    with stored.fetched(OUT) as path:
        content = path.read_bytes()
    assert content == expected.read_bytes()
    assert found == RecordedSpeech(
        hashlib.sha256(content).hexdigest(), len(content), tuple(recorded[cue.key] for cue in recording.cues)
    )
    fits, faster, cut, free = found.cues
    assert (fits.speed, fits.seconds, fits.cut_seconds) == (1, 2, 0)
    assert faster.speed > 1 and faster.audio_start == 0 and faster.cut_seconds == 0
    assert cut.cut_seconds > 0.5 and free.speed == 1 and free.seconds == pytest.approx(2, abs=0.03)


def test_record_with_a_missing_or_damaged_cue_names_it(recording: Recording) -> None:
    with pytest.raises(StoredFileError, match=r"^turn 2: .*missing"):
        recording.record(*recording.cues[:2], PlacedCue(f"{FOLDER}/{'f' * 32}", SLOTS[2], "turn 2"))
    (recording.files.root / recording.cues[1].key).write_bytes(_speech(0.5))
    with pytest.raises(StoredFileError, match="^turn 1: the stored speech is missing or damaged"):
        recording.record()
    assert recording.files.stored.find(OUT) is None, "nothing is left of a recording that failed"


def test_record_with_a_cue_without_audio_names_it(recording: Recording) -> None:
    broken = PlacedCue(recording.add(9, b"no audio" * 100), SLOTS[0], "turn 3")
    with pytest.raises(VoiceError, match="^turn 3: The voice returned audio that cannot be used"):
        recording.record(*recording.cues[1:], broken)


def test_record_of_more_than_allowed_raises(recording: Recording) -> None:
    recording.config = recording.config.model_copy(update={"limits": MediaLimits(max_audio_seconds=3.0)})
    with pytest.raises(MediaLimitError, match="texts of at most 3 s in all"):
        recording.record()


def test_record_that_is_cancelled_ends(recording: Recording) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(LipwrightError, match="cancelled"):
        recording.record(token=token)


def test_record_timeout_s_bounds_open_slots() -> None:
    config = PipelineConfig()
    cues = [PlacedCue("a", SLOTS[0], ""), PlacedCue("b", SLOTS[3], "")]
    assert record_timeout_s(config, cues) == config.jobs.sound_timeout_s(603.0) + 2


def test_with_name_keeps_the_error() -> None:
    error = with_name(StageTimeoutError("It timed out.", was_retried=True), "turns[7], at 2 s")
    named = pickle.loads(pickle.dumps(error))
    assert isinstance(named, StageTimeoutError) and named.was_retried
    assert str(named) == "turns[7], at 2 s: It timed out."
