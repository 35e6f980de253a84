"""Texts of jobs: spoken once, found again, and what happens when a voice fails."""

from __future__ import annotations

import asyncio
import hashlib
import math
import pickle
import sys
import threading
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.media_files import wav_bytes
from deployments.runtime.calls import CallOutcome, classify
from lipwright.config import CloningConfig, MediaLimits, PipelineConfig, TtsConfig
from lipwright.errors import (
    LipwrightError,
    MediaLimitError,
    OptionError,
    StageTimeoutError,
    StoredFileError,
    VoiceError,
    with_name,
)
from lipwright.jobs.model.base import utc_now
from lipwright.jobs.speech_messages import PlacedCue, RecordedCue, RecordedSpeech
from lipwright.media.cancel_token import CancelToken
from lipwright.media.decoding.decoder import Decoders
from lipwright.media.dubbing.slots import DubWriter, FittedSpeech, SpeechSlot, fit_speech
from lipwright.speech import cue_speaker
from lipwright.speech.child_process import kill
from lipwright.speech.cue_recorder import CueRecorder, record_timeout_s
from lipwright.speech.cue_speaker import cue_digest
from lipwright.speech.service import TtsService, tts_service
from lipwright.storage.cues import CueStore, SpokenCue, open_cues
from lipwright.storage.file_keys import CUES, cues_folder, job_cues_folder, job_folder
from lipwright.storage.state import open_store
from lipwright.storage.voices import VoiceRecord, VoiceStore
from tests.unit.media.test_phones import wav_with_phones
from tests.unit.speech.speech_server import SpeechServer, speaking, tone
from tests.unit.speech.text_speaker import TextSpeaker
from tests.waiting import until

FIRST, SECOND = "1" * 32, "2" * 32
FIRST_JOB, SECOND_JOB = job_cues_folder(FIRST), job_cues_folder(SECOND)


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    with Decoders(PipelineConfig().decoder) as decoders:
        yield decoders


@pytest.fixture
def voice() -> Iterator[SpeechServer]:
    with speaking() as voice:
        yield voice


class Service(TextSpeaker):
    """Speaks texts into a folder, by default a greeting for the first job."""

    def __init__(self, root: Path, decoders: Decoders, **tts: Any) -> None:
        super().__init__(root, TtsConfig(**tts), decoders)

    async def greet(self, job_id: str = FIRST, text: str = "Good day.", owner: str | None = None) -> SpokenCue:
        return await self.cue(text, None, owner, job_id)

    def content(self, cue: SpokenCue) -> bytes:
        return self.path(cue).read_bytes()


@pytest.fixture
def service(tmp_path: Path, decoders: Decoders, voice: SpeechServer) -> Service:
    return Service(tmp_path, decoders, url=voice.url)


async def test_speak_keeps_the_closures_of_the_voice(service: Service, voice: SpeechServer) -> None:
    phones = b'[["m", 0.12, 0.2], ["a", 0.2, 0.4]]'
    plain, voice.sound = voice.sound, wav_with_phones(phones, voice.sound[12:])
    first, again, copied = [await service.greet(job) for job in (FIRST, FIRST, SECOND)]
    assert first.closures == again.closures == copied.closures == ((0.12, 0.2),)
    assert first.seconds == pytest.approx(0.5) and len(voice.asked) == 1
    voice.sound = plain
    assert (await service.greet(text="Good night.")).closures == ()


async def test_speak_again_asks_and_decodes_nothing(tmp_path: Path, service: Service, voice: SpeechServer) -> None:
    first = await service.greet()
    assert first.key.startswith(f"{FIRST_JOB}/") and service.content(first) == voice.sound
    assert (first.sha256, first.num_bytes) == (hashlib.sha256(voice.sound).hexdigest(), len(voice.sound))
    assert first.seconds == pytest.approx(0.5) and service.uploads() == []
    with Decoders(PipelineConfig().decoder, lambda cause: None) as unused:
        unused.run = None  # type: ignore[method-assign, assignment]
        later = Service(tmp_path, unused, url=voice.url)
        assert await later.greet() == first
        other = await later.greet(SECOND)
    assert other.key.startswith(f"{SECOND_JOB}/") and service.content(other) == voice.sound
    assert len(voice.asked) == 1


async def test_speak_for_another_owner_speaks_again(service: Service, voice: SpeechServer) -> None:
    keys = {(await service.greet(owner=owner)).key for owner in ("a", "b", None)}
    assert len(keys) == len(voice.asked) == 3
    for owner in ("a", "b", None):
        assert len(service.files.stored.entries(cues_folder(owner))) == 2, "a file and its record"


@pytest.mark.parametrize("other", [{"text": "Good night."}, {"owner": "b"}, {"identity": "tts-1 nova"}])
def test_cue_digest_depends_on_all_that_decides_the_audio(other: dict[str, str]) -> None:
    known = {"text": "Good day.", "owner": "a", "identity": "tts-1 alloy"}
    assert cue_digest(**known) == cue_digest(**known) != cue_digest(**(known | other))


@pytest.mark.parametrize(
    "settings", [{"model": "tts-2"}, {"voice": "nova"}, {"response_format": "mp3"}, {"url": "http://127.0.0.1:1/v1"}]
)
async def test_identity_depends_on_the_settings_of_the_server(tmp_path: Path, settings: dict[str, str]) -> None:
    files, known = open_store(PipelineConfig(data_dir=tmp_path)), {"url": "http://127.0.0.1:9/v1", "model": "tts-1"}
    configs = (TtsConfig(**known), TtsConfig(**known, timeout_s=1.0), TtsConfig(**(known | settings)))
    first, same, other = [await _identity(tts_service(config, files), None) for config in configs]
    assert first == same != other


async def test_identity_of_a_cloned_voice_depends_on_its_recording(tmp_path: Path, decoders: Decoders) -> None:
    service = Service(tmp_path, decoders, url="http://127.0.0.1:9/v1", cloning=CloningConfig())
    voices, found = VoiceStore(service.files.stored), []
    for wav, transcript in ((b"one", ""), (b"one", ""), (b"two", ""), (b"two", "Hello.")):
        with voices.written_sample("a", "anna", replaces=True) as path:
            path.write_bytes(wav)
        voices.add("a", VoiceRecord(name="anna", transcript=transcript, duration_seconds=1.0, created_at=utc_now()))
        found.append(await _identity(service.tts, "anna", "a"))
    found.append(await _identity(service.tts, "anna", "b"))
    assert found[0] == found[1] and len(set(found)) == 4


async def _identity(tts: TtsService, voice: str | None, owner: str | None = None) -> str:
    return await (await tts.find_voice(voice, owner)).identity()


@pytest.mark.parametrize("max_cache_bytes", [TtsConfig().max_cache_bytes, 0])
async def test_speak_in_two_jobs_at_once_speaks_once(
    tmp_path: Path, decoders: Decoders, voice: SpeechServer, max_cache_bytes: int
) -> None:
    service = Service(tmp_path, decoders, url=voice.url, max_cache_bytes=max_cache_bytes)
    first, second, third = await asyncio.gather(*(service.greet(job) for job in (FIRST, SECOND, FIRST)))
    assert len(voice.asked) == 1 and first == third
    assert second.key.startswith(f"{SECOND_JOB}/") and service.content(second) == service.content(first) == voice.sound
    assert (tmp_path / CUES).exists() == (max_cache_bytes > 0)


async def test_speak_with_another_job_that_is_deleted_uses_the_cache(
    service: Service, voice: SpeechServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = CueStore.copy
    targets: list[str] = []

    def deleted(self: CueStore, cue: SpokenCue, key: str) -> SpokenCue:
        if key.startswith(SECOND_JOB) and not targets:
            targets.append(key)
            raise StoredFileError("missing")
        return copy(self, cue, key)

    monkeypatch.setattr(CueStore, "copy", deleted)
    _, second = await asyncio.gather(*(service.greet(job) for job in (FIRST, SECOND)))
    assert targets == [second.key] and len(voice.asked) == 1 and service.content(second) == voice.sound


async def test_speak_cancelled_by_one_of_two_goes_on(tmp_path: Path, decoders: Decoders) -> None:
    with speaking(hold=threading.Event()) as voice:
        service = Service(tmp_path, decoders, url=voice.url)
        first, second = (asyncio.ensure_future(service.greet(job)) for job in (FIRST, SECOND))
        await until(lambda: voice.asked)
        first.cancel()
        await asyncio.wait([first])
        voice.hold.set()
        cue = await second
        assert cue.key.startswith(f"{SECOND_JOB}/") and len(voice.asked) == 1


@pytest.mark.parametrize(
    ("server", "kind", "message"),
    [
        ({"status": 500}, VoiceError, "returned status 500"),
        ({"content_type": "application/json"}, VoiceError, "text instead of audio"),
        ({"sound": b"no audio at all" * 100}, VoiceError, "audio that cannot be used"),
        ({"sound": b""}, VoiceError, "returned no audio"),
        ({"status": 422}, OptionError, "rejected this text"),
        ({"key": "secret"}, VoiceError, "returned status 401"),
    ],
)
async def test_speak_with_a_voice_that_fails_raises(
    tmp_path: Path, decoders: Decoders, server: dict[str, Any], kind: type[LipwrightError], message: str
) -> None:
    with speaking(**server) as voice:
        service = Service(tmp_path, decoders, url=voice.url)
        with pytest.raises(kind, match=message) as caught:
            await service.greet()
        assert len(voice.asked) == 1 and classify(caught.value) is CallOutcome.REJECTED, "it is not asked again"
    assert service.uploads() == [] == [*service.files.stored.states(CUES), *service.files.stored.entries(FIRST_JOB)]


async def test_speak_with_a_voice_that_hangs_is_not_repeated(tmp_path: Path, decoders: Decoders) -> None:
    with speaking(hold=threading.Event()) as voice:
        service = Service(tmp_path, decoders, url=voice.url, timeout_s=0.3)
        with pytest.raises(StageTimeoutError, match="timed out after 0.3 s") as caught:
            await service.greet()
        assert len(voice.asked) == 1 and classify(caught.value) is CallOutcome.REJECTED


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_busy_server_is_asked_again(
    tmp_path: Path, decoders: Decoders, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(cue_speaker, "RETRY_PAUSES_S", (0.01, 0.01, 0.01))
    with speaking(status=status, num_failures=3) as voice:
        service = Service(tmp_path, decoders, url=voice.url)
        assert service.content(await service.greet()) == tone()
        assert len(voice.asked) == 4


async def test_speak_without_a_server_ends(tmp_path: Path, decoders: Decoders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cue_speaker, "RETRY_PAUSES_S", (0.01, 0.02))
    service = Service(tmp_path, decoders, url="http://127.0.0.1:1/v1")
    with pytest.raises(VoiceError, match="cannot be reached") as caught:
        await service.greet()
    assert classify(caught.value) is CallOutcome.REJECTED


async def test_speak_without_a_voice_or_with_a_long_text_raises(tmp_path: Path, decoders: Decoders) -> None:
    with pytest.raises(OptionError, match="no voice.*set tts.url or to install the extra"):
        await Service(tmp_path, decoders, use_builtin=False).greet()
    with pytest.raises(OptionError, match="at most 5 characters"):
        await Service(tmp_path, decoders, url="http://127.0.0.1:1/v1", max_chars=5).greet()


_ENDLESS = "import sys\nwhile True: sys.stdout.write('x' * 9999)"


async def test_a_program_with_unread_output_is_killed() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-IS", "-c", _ENDLESS, stdout=PIPE, stderr=DEVNULL)
    assert process.stdout is not None
    await process.stdout.read(1)
    await asyncio.sleep(0.3)  # until asyncio's buffer is full
    async with asyncio.timeout(20):
        await kill(process)
    assert process.returncode == -9


FOLDER = job_folder("1" * 32)
OUT = f"{FOLDER}/audio"
SLOTS = (
    SpeechSlot(6.0, 8.0, 9.0),  # the third to be heard; fits
    SpeechSlot(1.0, 2.0, 3.0),  # played faster, and uses the pause
    SpeechSlot(3.0, 4.0, 4.5),  # cut
    SpeechSlot(9.5, None, math.inf),  # takes as long as it needs
)
LENGTHS = (1.5, 1.7, 4.0, 2.0)


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


def test_record_places_the_closures_of_cues(recording: Recording) -> None:
    store = open_cues(recording.config, recording.files.stored)
    for number, (placed, seconds) in enumerate(zip(recording.cues, LENGTHS, strict=True)):
        cue, closures = store.record(placed.key), ((0.34, 0.5), (0.4 + seconds / 2, 0.6 + seconds / 2))
        assert cue is not None
        store._put(cue.model_copy(update={"closures": closures if number else ()}))
    fits, faster, cut, free = recording.record().cues
    assert fits.closures == ()
    first, second = faster.closures
    assert first[0] == pytest.approx(0, abs=0.02) and second[0] == pytest.approx(0.85 / faster.speed, abs=0.02)
    assert second[1] - second[0] == pytest.approx(0.2 / faster.speed, abs=0.002)
    assert cut.closures[0][0] == pytest.approx(cut.audio_start, abs=0.02)
    assert free.closures[1][0] == pytest.approx(free.audio_start + 1.0, abs=0.02)


def test_record_with_an_unusable_cue_names_it(recording: Recording) -> None:
    broken = PlacedCue(recording.add(9, b"no audio" * 100), SLOTS[0], "turn 3")
    with pytest.raises(VoiceError, match="^turn 3: The voice returned audio that cannot be used"):
        recording.record(*recording.cues[1:], broken)
    with pytest.raises(StoredFileError, match=r"^turn 2: .*missing"):
        recording.record(*recording.cues[:2], PlacedCue(f"{FOLDER}/{'f' * 32}", SLOTS[2], "turn 2"))
    (recording.files.root / recording.cues[1].key).write_bytes(_speech(0.5))
    with pytest.raises(StoredFileError, match="^turn 1: the stored speech is missing or damaged"):
        recording.record()
    assert recording.files.stored.find(OUT) is None, "nothing is left of a recording that failed"


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
