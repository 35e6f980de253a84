"""Speech on the time of a stream, without gaps or loss, and the clips that its chunks show."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from api.live.audio_timeline import AudioTimeline, ChunkAudio
from api.live.clip_path import ClipPath
from errors import CapacityError, OptionError
from media.live.mp4_boxes import AUDIO_RATE
from media.playback import Playback
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
