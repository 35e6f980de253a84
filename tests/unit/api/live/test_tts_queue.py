"""Texts that a voice reads in a live session, and the WAV stream of the voice."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncGenerator

import numpy as np
import pytest

from benchmarks.media_files import wav_bytes
from lipwright.api.live.wav_stream import WavStream
from lipwright.config import LiveConfig
from lipwright.errors import VoiceError
from lipwright.media.live.mp4_boxes import AUDIO_RATE
from tests.unit.api.live.test_session_stream import Talk
from tests.unit.clip_graphs import NOD, WAVE, acting_graph
from tests.unit.speech.test_service import FakeBackend

VOICE_RATE = 22050


def wav(seconds: float, num_channels: int = 1) -> bytes:
    sound = (8000 * np.sin(np.arange(round(seconds * VOICE_RATE)) / 20)).astype(np.int16)
    return wav_bytes(np.repeat(sound, num_channels), VOICE_RATE, num_channels)


def with_phones(sound: bytes, phones: list[tuple[str, float, float]]) -> bytes:
    """A WAV file with its phones, as our voices write them."""
    told = json.dumps(phones).encode().ljust(9000)
    return sound[:36] + struct.pack("<4sI", b"phon", len(told)) + told + sound[36:]


class Beep(FakeBackend):
    """A voice: the same sound for each text, by default a second of it, in small pieces."""

    def __init__(self, sound: bytes | None = None) -> None:
        super().__init__()
        self.sound, self.may_speak = sound or wav(1.0), asyncio.Event()
        self.may_speak.set()
        self.texts: list[tuple[str, str]] = []

    async def synthesize(self, text: str, voice: str) -> AsyncGenerator[bytes]:
        self.texts.append((text, voice))
        if text == "fail":
            raise VoiceError("The voice: it has a cold.")
        await self.may_speak.wait()
        for start in range(0, len(self.sound), 999):
            yield self.sound[start : start + 999]


def text(words: str, **fields: str) -> str:
    return json.dumps({"type": "agent.speak_text", "text": words, **fields})


async def test_texts_are_read_one_after_the_other() -> None:
    talk = Talk(LiveConfig(max_speed=4.0), voice=(voice := Beep()))
    async with talk.session() as session:
        await session.take_text(text("One.", event_id="t1"))
        await session.take_text(text("Two.", voice="other"))
        await talk.until(lambda: bool(talk.line.of("agent.speak_ended")))

    assert voice.texts == [("One.", "beep"), ("Two.", "other")]
    loud = [request for request in talk.service.requests if request.window.samples[-1000:].any()]
    assert sum(request.num_frames for request in loud) / 25 == pytest.approx(2.0, abs=0.5)
    assert len(talk.line.of("agent.speak_started")) == len(talk.line.of("agent.speak_ended")) == 1


async def test_speak_ended_beside_other_messages_names_its_own() -> None:
    """Clients take the event_id of an end for how far everything was spoken."""
    talk = Talk(voice=(voice := Beep()))
    voice.may_speak.clear()
    async with talk.session() as session:
        await session.take_bytes(bytes(VOICE_RATE))
        await session.take_text(json.dumps({"type": "agent.speak_end", "event_id": "audio"}))
        await session.take_text(text("Later.", event_id="text"))
        await talk.until(lambda: len(talk.line.of("agent.speak_ended")) == 1)
        voice.may_speak.set()
        await talk.until(lambda: len(talk.line.of("agent.speak_started")) == 2)
        await session.take_text(json.dumps({"type": "session.keep_alive", "event_id": "other"}))
        await talk.until(lambda: len(talk.line.of("agent.speak_ended")) == 2)

    assert [event["event_id"] for event in talk.line.of("agent.speak_started")] == ["audio", "text"]
    assert [event["event_id"] for event in talk.line.of("agent.speak_ended")] == ["audio", "text"]


async def test_an_interruption_ends_the_reading_too() -> None:
    talk = Talk(voice=Beep())
    async with talk.session() as session:
        for _ in range(6):
            await session.take_text(text("On and on."))
        await talk.until(lambda: bool(talk.line.of("agent.speak_started")))
        await session.take_text(json.dumps({"type": "agent.interrupt"}))
        num = len(talk.fragments)
        await talk.until(lambda: len(talk.fragments) > num + 5)

    assert not talk.fragments[-1]["is_speaking"]


@pytest.mark.parametrize(
    ("voice", "message", "code"),
    [
        (None, text("Hello."), "option_invalid"),
        (Beep(), text("x" * 101), "option_invalid"),
        (Beep(), text("fail", event_id="t9"), "voice_failed"),
    ],
)
async def test_what_cannot_be_read_is_told(voice: Beep | None, message: str, code: str) -> None:
    talk = Talk(voice=voice)
    async with talk.session() as session:
        await session.take_text(message)
        await talk.until(lambda: bool(talk.line.of("error")))

    assert [said["code"] for said in talk.line.of("error")] == [code]


@pytest.mark.parametrize("size", [1, 7, 44, 100_000])
def test_a_wav_file_is_read_in_any_pieces(size: int) -> None:
    stream, data = WavStream(), with_phones(wav(0.2, num_channels=2), [("m", 0.05, 0.12), ("a", 0.12, 0.2)])
    found = np.concatenate([stream.push(data[start : start + size]) for start in range(0, len(data), size)])
    assert (stream.sample_rate, stream.closures) == (VOICE_RATE, ((0.05, 0.12),))
    assert np.array_equal(found, np.frombuffer(wav(0.2)[44:], "<i2"))


EIGHT_BIT = wav(0.1)[:34] + b"\x08" + wav(0.1)[35:]


@pytest.mark.parametrize("data", [b"ID3" + bytes(5000), EIGHT_BIT, b"RIFF" + bytes(8) + b"data" + bytes(8)])
def test_what_is_no_such_wav_is_refused(data: bytes) -> None:
    with pytest.raises(VoiceError):
        WavStream().push(data)


async def test_closures_of_texts_are_where_they_are_heard() -> None:
    """The voice is silent while lips close, and only then."""
    phones = [("b", at, at + 0.08) for at in (0.2, 0.97, 2.5)]
    sound = np.full(3 * VOICE_RATE, 6000, np.int16)
    for _, start, end in phones:
        sound[round(start * VOICE_RATE) : round(end * VOICE_RATE)] = 0
    talk = Talk(LiveConfig(max_speed=8.0), voice=Beep(with_phones(wav_bytes(sound, VOICE_RATE), phones)))
    async with talk.session() as session:
        for num in (1, 2):
            for _ in range(2):
                await session.take_text(text("Bob."))
            await talk.until(lambda num=num: len(talk.line.of("agent.speak_ended")) == num)  # type: ignore[misc]
    found = set()
    for request in talk.service.requests:
        window = request.window
        for closure in window.closures:
            at, end = (round((each - window.first_row / 50) * 16000) for each in closure)
            found.add(tuple(round(each, 2) for each in closure))
            if end + 100 < len(window.samples):
                assert np.abs(window.samples[at + 50 : end - 50]).max() < 100
                assert min(window.samples[at - 50], window.samples[end + 50]) > 5000
    assert len(found) == 4 * len(phones)


async def test_action_in_a_text_starts_on_its_word() -> None:
    """The voice speaks for one second, is silent for one, and speaks for two."""
    sound = np.concatenate([np.full(VOICE_RATE, 6000), np.zeros(VOICE_RATE), np.full(2 * VOICE_RATE, 6000)])
    talk = Talk(LiveConfig(max_speed=4.0), voice=(voice := Beep(wav_bytes(sound, VOICE_RATE))))
    talk.service.graph = acting_graph()
    async with talk.session() as session:
        await session.take_text(text("Hello! [wave] Welcome to us.", event_id="e1"))
        await talk.until(lambda: bool(talk.line.of("agent.speak_ended")))
    assert voice.texts == [("Hello! Welcome to us.", "beep")]
    (started,) = talk.line.of("agent.action_started")
    kinds = [each["type"] for each in talk.line.texts]
    begun = kinds.index("agent.speak_started")
    before = [each for each in talk.line.texts[:begun] if each["type"] == "session.fragment"]
    start = sum(each["duration_seconds"] for each in before)
    assert (started["name"], started["event_id"]) == ("wave", "e1")
    assert started["at_seconds"] == pytest.approx(start + 2, abs=0.4)


async def test_action_message_is_rendered_and_unknown_name_is_error() -> None:
    talk = Talk(voice=(voice := Beep()))
    talk.service.graph = acting_graph()
    async with talk.session() as session:
        for _ in range(20):  # more than the invalid messages that end a session
            await session.take_text(json.dumps({"type": "agent.action", "name": "wawe", "event_id": "e1"}))
        await session.take_text(text("[wawe] Hello", event_id="e2"))
        await session.take_text(text("[wave] Hello " * 33, event_id="e3"))
        await session.take_text(json.dumps({"type": "agent.action", "name": "wave"}))
        await session.take_text(text("[nod]"))
        await talk.until(lambda: len(talk.line.of("agent.action_started")) == 2)
    *errors, too_many = talk.line.of("error")
    assert {(each["code"], each["event_id"]) for each in errors} == {("option_invalid", "e1"), ("option_invalid", "e2")}
    assert all("Actions of this avatar: nod, wave" in each["message"] for each in errors)
    assert (too_many["event_id"], too_many["message"]) == ("e3", "text: expected at most 32 actions, found 33.")
    assert voice.texts == [], "a text with an unknown action, or without words, is not spoken"
    frames = [frame for request in talk.service.requests for _, frame in request.playback.path]
    assert WAVE.start in frames and NOD.start in frames


async def test_text_whose_actions_do_not_fit_is_spoken() -> None:
    talk = Talk(LiveConfig(max_speed=4.0), voice=Beep(wav(2.0)))
    talk.service.graph = acting_graph()
    async with talk.session() as session:
        for _ in range(32):
            session._clips.add("wave", None, 100 * AUDIO_RATE)
        await session.take_text(text("Hello! [wave] Welcome."))
        await talk.until(lambda: bool(talk.line.of("agent.speak_ended")))
    assert talk.line.of("error") == []
    assert talk.fragments[-1]["spoken_seconds"] == pytest.approx(2, abs=0.1)
