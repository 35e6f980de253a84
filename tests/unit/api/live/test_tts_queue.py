"""Texts in live sessions: read by the service's voice, while it speaks."""

from __future__ import annotations

import asyncio
import io
import json
import wave
from collections.abc import AsyncGenerator

import numpy as np
import pytest

from api.live.wav_stream import WavStream
from config import LiveConfig
from errors import VoiceError
from tests.unit.api.live.test_session_stream import Talk
from tests.unit.clip_graphs import NOD, WAVE, acting_graph

RATE = 22050


def wav(seconds: float, num_channels: int = 1, width: int = 2) -> bytes:
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(num_channels)
        file.setsampwidth(width)
        file.setframerate(RATE)
        sound = (8000 * np.sin(np.arange(round(seconds * RATE)) / 20)).astype("<i2")
        file.writeframes(np.repeat(sound, num_channels).tobytes())
    return target.getvalue()


class Beep:
    """A voice: a second of sound for each text, in small pieces."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []

    async def synthesize(self, text: str, voice: str) -> AsyncGenerator[bytes]:
        self.texts.append((text, voice))
        if text == "fail":
            raise VoiceError("The voice: it has a cold.")
        sound = wav(1.0)
        for start in range(0, len(sound), 999):
            yield sound[start : start + 999]

    async def identity(self, voice: str) -> str:
        return voice

    async def voices(self) -> list[str]:
        return ["beep"]

    async def voices_of(self, language: str) -> list[str] | None:
        return None

    def language_of(self, voice: str) -> str | None:
        return None


class SlowBeep(Beep):
    """A voice that needs two seconds before it speaks."""

    async def synthesize(self, text: str, voice: str) -> AsyncGenerator[bytes]:
        await asyncio.sleep(2)
        async for piece in super().synthesize(text, voice):
            yield piece


def text(words: str, **fields: str) -> str:
    return json.dumps({"type": "agent.speak_text", "text": words, **fields})


async def test_texts_are_read_one_after_the_other() -> None:
    voice = Beep()
    talk = Talk(voice=voice)
    async with talk.session() as session:
        await session.take_text(text("One.", event_id="t1"))
        await session.take_text(text("Two.", voice="other"))
        await talk.until(lambda: bool(talk.line.of("agent.speak_ended")))

    assert voice.texts == [("One.", "beep"), ("Two.", "other")]
    loud = [request for request in talk.service.requests if request.window.samples[-1000:].any()]
    assert sum(request.num_frames for request in loud) / 25 == pytest.approx(2.0, abs=0.5)
    assert len(talk.line.of("agent.speak_started")) == len(talk.line.of("agent.speak_ended")) == 1


async def test_end_of_earlier_speech_does_not_name_text_in_synthesis() -> None:
    """Clients take the event_id of an end for how far everything was spoken."""
    talk = Talk(voice=SlowBeep())

    async with talk.session() as session:
        await session.take_bytes(bytes(RATE))
        await session.take_text(json.dumps({"type": "agent.speak_end", "event_id": "audio"}))
        await session.take_text(text("Later.", event_id="text"))
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
        num = len(talk.line.of("session.fragment"))
        await talk.until(lambda: len(talk.line.of("session.fragment")) > num + 5)

    assert not talk.line.of("session.fragment")[-1]["is_speaking"]


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
    data, stream = wav(0.2, num_channels=2), WavStream()
    found = np.concatenate([stream.push(data[start : start + size]) for start in range(0, len(data), size)])
    assert stream.sample_rate == RATE
    assert np.array_equal(found, np.frombuffer(wav(0.2)[44:], "<i2"))


@pytest.mark.parametrize("data", [b"ID3" + bytes(5000), wav(0.1, width=1), b"RIFF" + bytes(8) + b"data" + bytes(8)])
def test_what_is_no_such_wav_is_refused(data: bytes) -> None:
    with pytest.raises(VoiceError):
        WavStream().push(data)


class HelloThere(Beep):
    """A voice that speaks for one second, is silent for one, and speaks for two."""

    async def synthesize(self, text: str, voice: str) -> AsyncGenerator[bytes]:
        self.texts.append((text, voice))
        sound = np.concatenate([np.full(RATE, 6000), np.zeros(RATE), np.full(2 * RATE, 6000)])
        header = wav(4.0)[:44]
        yield header + sound.astype("<i2").tobytes()


async def test_action_in_a_text_starts_on_its_word() -> None:
    talk = Talk(LiveConfig(max_speed=4.0), voice=(voice := HelloThere()))
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
        await session.take_text(json.dumps({"type": "agent.action", "name": "wave"}))
        await session.take_text(text("[nod]"))
        await talk.until(lambda: len(talk.line.of("agent.action_started")) == 2)
    errors = talk.line.of("error")
    assert {(each["code"], each["event_id"]) for each in errors} == {("option_invalid", "e1"), ("option_invalid", "e2")}
    assert all("Actions of this avatar: nod, wave" in each["message"] for each in errors)
    assert voice.texts == [], "a text with an unknown action, or without words, is not spoken"
    frames = [frame for request in talk.service.requests for _, frame in request.playback.path]
    assert WAVE.start in frames and NOD.start in frames
