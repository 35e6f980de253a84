"""Speech on the time of a stream, the clips that its chunks show, and texts that a voice reads."""

from __future__ import annotations

import asyncio
import io
import json
import struct
import wave
from collections.abc import AsyncGenerator
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from api.live.audio_timeline import AudioTimeline, ChunkAudio
from api.live.clip_path import ClipPath
from api.live.wav_stream import WavStream
from config import LiveConfig
from errors import CapacityError, OptionError, VoiceError
from media.live.mp4_boxes import AUDIO_RATE
from media.playback import Playback
from tests.unit.api.live.test_session_stream import Talk
from tests.unit.clip_graphs import NOD, WAVE, acting_graph

FPS, NUM = Fraction(25), 3
RATE = 48000
STEP = NUM * RATE // 25


class Played:
    """A line, and all that has left it."""

    def __init__(self, min_buffer_seconds: float = 0.28, max_buffered_seconds: float = 10) -> None:
        self.line = AudioTimeline(FPS, RATE, min_buffer_seconds, max_buffered_seconds)
        self.sound = np.zeros(0, np.int16)
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.windows: list[NDArray[np.int16]] = []
        self.last: ChunkAudio | None = None

    def go(self, num_chunks: int) -> None:
        for _ in range(num_chunks):
            number = len(self.sound) // STEP
            audio = self.line.chunk(number * NUM, NUM, (number + 1) * STEP)
            assert len(audio.sound) == STEP
            self.last = audio
            self.sound = np.concatenate([self.sound, audio.sound])
            self.begun += [number] * audio.has_begun
            self.ended += [number] * audio.has_ended
            self.windows.append(audio.window.samples)


def voice(seconds: float) -> NDArray[np.int16]:
    return np.arange(1, round(seconds * RATE) + 1).astype(np.int16) | 1  # no sample is 0, each stands once


def test_push_of_whole_speech_plays_it_at_once() -> None:
    played = Played()
    played.go(3)
    played.line.push(voice(0.5))
    played.line.end()
    played.go(10)
    at = 3 * STEP
    spoken = np.trim_zeros(played.sound)
    assert np.flatnonzero(played.sound)[0] == pytest.approx(at, abs=2)
    assert np.array_equal(spoken[10:-50], voice(0.5)[10 : len(spoken) - 50])
    assert len(spoken) == pytest.approx(0.5 * RATE, abs=60)
    assert (played.begun, played.ended) == ([3], [7])
    assert not played.line.is_speaking


def test_push_in_real_time_leaves_no_gap() -> None:
    played, said = Played(), voice(3)
    for start in range(0, len(said), STEP):
        played.line.push(said[start : start + STEP])
        played.go(1)
    played.line.end()
    played.go(6)
    spoken = np.trim_zeros(played.sound)
    assert np.array_equal(spoken[10:-50], said[10 : len(spoken) - 50])
    assert played.begun == [2], "it waits until 280 ms are there"
    assert len(played.ended) == 1


def test_begins_within_follows_speech_in_real_time() -> None:
    played = Played(min_buffer_seconds=0.2)
    played.go(1)
    assert not played.line.begins_within(1)
    played.line.push(voice(0.15))
    assert not played.line.begins_within(0.02)
    assert played.line.begins_within(0.08)
    played.line.push(voice(0.1))
    assert not played.line.begins_within(0.08)  # it can begin now
    played.go(1)
    assert played.begun == [1]


def test_late_push_leaves_a_pause_and_loses_nothing() -> None:
    played = Played()
    played.line.push(voice(0.4))
    played.go(8)
    played.line.push(voice(0.4))
    played.line.end()
    played.go(8)
    assert np.count_nonzero(played.sound) == pytest.approx(0.8 * RATE, abs=80)
    assert not played.sound[5 * STEP : 8 * STEP].any()


def test_window_includes_pushed_speech_ahead_of_the_frame() -> None:
    played = Played()
    played.line.push(voice(1.0))
    played.line.end()
    played.go(1)
    assert len(played.windows[0]) == round((0.12 + 0.24) * 16000)
    assert played.windows[0][-100:].all()


def test_interrupt_drops_waiting_speech_and_fades_out() -> None:
    played = Played()
    played.line.push(voice(5))
    played.go(5)
    assert played.line.interrupt()
    assert played.line.waiting_seconds < 0.02
    played.go(5)
    rest = played.sound[5 * STEP :]
    assert 0 < np.flatnonzero(rest)[-1] < RATE // 100, "10 ms, and no click"
    assert not played.windows[-1][-1000:].any()
    assert not played.line.interrupt(), "there is nothing left to interrupt"
    played.line.push(voice(0.5))
    played.line.end()
    played.go(6)
    assert played.begun == [0, 10]


def test_spoken_seconds_counts_only_pushed_speech() -> None:
    played = Played()
    played.line.push(voice(2))
    played.go(5)
    assert played.line.spoken_seconds == pytest.approx(5 * STEP / RATE)
    played.line.interrupt()
    played.line.push(voice(0.5))
    played.line.end()
    assert played.line.spoken_seconds == pytest.approx(5 * STEP / RATE)
    played.go(10)
    assert played.line.spoken_seconds == pytest.approx(5 * STEP / RATE + 0.5, abs=0.011), "and the fading voice"
    assert played.line.waiting_seconds == 0


def test_interrupt_shuts_the_mouth_one_frame_later() -> None:
    played = Played()
    played.line.push(voice(5))
    played.go(5)
    played.line.interrupt()
    window = played.line.chunk(5 * NUM, NUM, 6 * STEP).window
    shares = window.open_share[5 * NUM * 2 - window.first_row :][:6:2]  # two rows a frame
    assert 0 < shares[0] < 1
    assert not shares[1:].any(), shares


def test_interrupt_drops_closures_that_were_not_sent() -> None:
    played = Played()
    played.line.push(voice(2), closures=((0.1, 0.2), (0.45, 0.5), (1.4, 1.5)))
    played.go(3)
    assert played.last is not None
    assert played.last.window.closures == ((0.1, 0.2), (0.45, 0.5))
    played.line.interrupt()
    played.line.push(voice(2), closures=((0.1, 0.2),))
    played.go(1)
    assert np.ravel(played.last.window.closures) == pytest.approx([0.1, 0.2, 0.47, 0.57]), "after the fading voice"


def test_rollback_chunk_moves_its_closures_with_the_speech() -> None:
    played = Played()
    played.line.push(voice(2), closures=((0.15, 0.2), (0.3, 0.4)))
    played.go(2)
    assert played.last is not None
    played.line.rollback_chunk(played.last)
    assert played.line.chunk(2 * NUM, NUM, 3 * STEP).window.closures == ()
    played.line.resume()
    audio = played.line.chunk(3 * NUM, NUM, 4 * STEP)
    assert np.ravel(audio.window.closures) == pytest.approx([0.39, 0.44, 0.54, 0.64])


def test_push_beyond_max_buffered_seconds_is_refused() -> None:
    played = Played(max_buffered_seconds=2)
    played.line.push(voice(1.5))
    with pytest.raises(CapacityError):
        played.line.push(voice(1.0))
    played.go(10)
    played.line.push(voice(1.0))


@pytest.mark.parametrize("rate", [8000, 22050, 24000, 44100])
def test_push_of_any_sample_rate_keeps_its_length(rate: int) -> None:
    line = AudioTimeline(FPS, rate, 0.28, 10)
    line.push(np.full(rate, 1000, np.int16))
    line.end()
    sound = np.concatenate([line.chunk(n * NUM, NUM, (n + 1) * STEP).sound for n in range(12)])
    assert np.count_nonzero(np.abs(sound) > 500) == pytest.approx(RATE, abs=100)


def test_push_after_hold_plays_all_of_it_once() -> None:
    played, said = Played(), voice(2)
    played.line.push(said)
    played.line.end()
    played.go(5)
    assert played.last is not None
    audio = played.line.rollback_chunk(played.last)
    assert not audio.sound[RATE // 100 :].any(), "the voice fades"
    played.sound[4 * STEP :] = audio.sound
    played.go(4)
    assert not played.sound[5 * STEP :].any()
    assert not played.line.chunk(9 * NUM, NUM, 10 * STEP).window.samples[-1500:].any(), "the mouth is shut"
    played.sound = np.concatenate([played.sound, np.zeros(STEP, np.int16)])
    played.line.resume()
    played.go(16)
    assert len(played.begun) == len(played.ended) == 1
    spoken = np.concatenate([played.sound[: 4 * STEP], np.trim_zeros(played.sound[10 * STEP :])])
    assert np.array_equal(spoken[10 : 2 * RATE - 50], said[10:-50])


def test_rollback_chunk_without_sound_leaves_none() -> None:
    """Idle frames replace a longer chunk, whose audio covers the next chunk, too."""
    played = Played()
    played.line.push(voice(2))
    played.line.rollback_chunk(played.line.chunk(0, 4, 4 * RATE // 25))
    played.line.resume()
    audio = played.line.rollback_chunk(played.line.chunk(1, 2, 3 * RATE // 25))
    assert len(audio.sound) == 0
    assert played.line.waiting_seconds == 2


def test_hold_of_silence_plays_silence() -> None:
    played = Played()
    played.go(1)
    assert played.last is not None
    assert played.line.rollback_chunk(played.last) is played.last
    played.line.push(voice(0.5))
    played.line.end()
    played.go(3)
    assert not played.sound.any()
    played.line.resume()
    played.go(6)
    assert (played.begun, len(played.ended)) == ([4], 1)


PUSHED_RATE, CHUNK = 24000, 4


class Stream:
    """A session at 25 frames per second without a connection."""

    def __init__(self) -> None:
        self.speech = AudioTimeline(Fraction(25), PUSHED_RATE, 0.16, 60.0)
        self.clips = ClipPath(acting_graph(), 25.0, 3)
        self.shown: list[int] = []
        self.started: list[tuple[str, float]] = []

    def say(self, seconds: float) -> None:
        self.speech.push(np.full(round(seconds * PUSHED_RATE), 5000, np.int16))

    def show(self, seconds: float) -> None:
        for _ in range(round(seconds * 25 / CHUNK)):
            first = len(self.shown)
            self.speech.chunk(first, CHUNK, (first + CHUNK) * AUDIO_RATE // 25)
            playback = self.clips.playback(first, CHUNK, self.speech)
            self.shown += playback.source_frames(range(first, first + CHUNK), 170).tolist()
            self.started += [(action.name, at) for action, at in self.clips.take_started()]


def test_playback_shows_an_action_at_once_and_reports_it() -> None:
    stream = Stream()
    stream.show(2)
    stream.clips.add("wave", "e1")
    stream.show(4)
    ((name, at),) = stream.started
    begin = stream.shown.index(WAVE.start)
    assert name == "wave" and at * 25 == pytest.approx(begin)
    assert begin < 50 + 10
    assert stream.shown[begin : begin + len(WAVE)] == [*WAVE]


def test_playback_shows_an_action_when_its_sample_is_heard() -> None:
    stream = Stream()
    stream.say(6)
    stream.clips.add("nod", None, 4 * AUDIO_RATE)
    stream.show(7)
    assert stream.shown.index(NOD.start) == pytest.approx(4 * 25, abs=6)


def test_playback_shows_the_same_action_twice_if_named_twice() -> None:
    stream = Stream()
    stream.clips.add("nod", None)
    stream.clips.add("nod", None)
    stream.show(4)
    assert [name for name, _ in stream.started] == ["nod", "nod"]


def test_interruption_drops_actions_of_speech_only() -> None:
    stream = Stream()
    stream.say(8)
    stream.clips.add("wave", None, 0)
    stream.clips.add("nod", None, 6 * AUDIO_RATE)
    stream.show(1)
    assert stream.shown[-1] in WAVE
    stream.speech.interrupt()
    stream.clips.drop_speech()
    stream.show(8)
    begin = stream.shown.index(WAVE.start)
    assert stream.shown[begin : begin + len(WAVE)] == [*WAVE]
    assert not set(stream.shown) & set(NOD)


def test_add_unknown_or_too_many_actions_is_an_error() -> None:
    clips = ClipPath(acting_graph(), 25.0, 3)
    with pytest.raises(OptionError, match="Actions of this avatar: nod, wave"):
        clips.add("wawe", None)
    with pytest.raises(OptionError, match="actions wait already"):
        for _ in range(100):
            clips.add("wave", None)
    without = ClipPath(None, 25.0, 3)
    assert without.playback(0, 4, AudioTimeline(Fraction(25), PUSHED_RATE, 0.16, 60.0)) == Playback()
    with pytest.raises(OptionError, match="need an avatar with clips"):
        without.add("wave", None)


VOICE_RATE = 22050


def wav(seconds: float, num_channels: int = 1, width: int = 2) -> bytes:
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(num_channels)
        file.setsampwidth(width)
        file.setframerate(VOICE_RATE)
        sound = (8000 * np.sin(np.arange(round(seconds * VOICE_RATE)) / 20)).astype("<i2")
        file.writeframes(np.repeat(sound, num_channels).tobytes())
    return target.getvalue()


def with_phones(sound: bytes, phones: list[tuple[str, float, float]]) -> bytes:
    """A WAV file with its phones, as our voices write them."""
    told = json.dumps(phones).encode().ljust(9000)
    return sound[:36] + struct.pack("<4sI", b"phon", len(told)) + told + sound[36:]


class Beep:
    """A voice: the same sound for each text, by default a second of it, in small pieces."""

    def __init__(self, sound: bytes | None = None, delay_s: float = 0.0) -> None:
        self.sound, self.delay_s = sound or wav(1.0), delay_s
        self.texts: list[tuple[str, str]] = []

    async def synthesize(self, text: str, voice: str) -> AsyncGenerator[bytes]:
        self.texts.append((text, voice))
        if text == "fail":
            raise VoiceError("The voice: it has a cold.")
        await asyncio.sleep(self.delay_s)
        yield self.sound[:12]
        for start in range(12, len(self.sound), 999):
            yield self.sound[start : start + 999]

    async def identity(self, voice: str) -> str:
        return voice

    async def voices(self) -> list[str]:
        return ["beep"]

    async def check_voice(self, voice: str) -> None:
        pass

    async def voices_of(self, language: str) -> list[str] | None:
        return None

    def language_of(self, voice: str) -> str | None:
        return None


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


async def test_speak_ended_beside_other_messages_names_its_own() -> None:
    """Clients take the event_id of an end for how far everything was spoken."""
    talk = Talk(voice=Beep(delay_s=2))

    async with talk.session() as session:
        await session.take_bytes(bytes(VOICE_RATE))
        await session.take_text(json.dumps({"type": "agent.speak_end", "event_id": "audio"}))
        await session.take_text(text("Later.", event_id="text"))
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
    stream, data = WavStream(), with_phones(wav(0.2, num_channels=2), [("m", 0.05, 0.12), ("a", 0.12, 0.2)])
    found = np.concatenate([stream.push(data[start : start + size]) for start in range(0, len(data), size)])
    assert (stream.sample_rate, stream.closures) == (VOICE_RATE, ((0.05, 0.12),))
    assert np.array_equal(found, np.frombuffer(wav(0.2)[44:], "<i2"))


@pytest.mark.parametrize("data", [b"ID3" + bytes(5000), wav(0.1, width=1), b"RIFF" + bytes(8) + b"data" + bytes(8)])
def test_what_is_no_such_wav_is_refused(data: bytes) -> None:
    with pytest.raises(VoiceError):
        WavStream().push(data)


async def test_closures_of_texts_are_where_they_are_heard() -> None:
    """The voice is silent while lips close, and only then."""
    phones = [("b", at, at + 0.08) for at in (0.2, 0.97, 2.5)]
    sound = np.full(3 * VOICE_RATE, 6000, "<i2")
    for _, start, end in phones:
        sound[round(start * VOICE_RATE) : round(end * VOICE_RATE)] = 0
    talk = Talk(LiveConfig(max_speed=4.0), voice=Beep(with_phones(wav(3.0)[:44] + sound.tobytes(), phones)))
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
    voice = Beep(wav(4.0)[:44] + sound.astype("<i2").tobytes())
    talk = Talk(LiveConfig(max_speed=4.0), voice=voice)
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
    assert talk.line.of("session.fragment")[-1]["spoken_seconds"] == pytest.approx(2, abs=0.1)
