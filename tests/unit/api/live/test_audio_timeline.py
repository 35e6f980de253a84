"""Speech on the time of a stream, and the clips that its chunks show."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.api.live.audio_timeline import AudioTimeline, ChunkAudio
from lipwright.api.live.clip_path import ClipPath
from lipwright.errors import CapacityError, OptionError
from lipwright.media.live.mp4_boxes import AUDIO_RATE
from lipwright.media.playback import Playback
from tests.unit.clip_graphs import NOD, WAVE, acting_graph

FPS, NUM = Fraction(25), 3
RATE = 48000
STEP = NUM * RATE // 25


class Played:
    """A timeline, and the chunks that were taken from it."""

    def __init__(self, min_buffer_seconds: float = 0.28, max_buffered_seconds: float = 10) -> None:
        self.line = AudioTimeline(FPS, RATE, min_buffer_seconds, max_buffered_seconds)
        self.chunks: list[ChunkAudio] = []
        self.begun: list[int] = []
        self.ended: list[int] = []

    @property
    def sound(self) -> NDArray[np.int16]:
        return np.concatenate([audio.sound for audio in self.chunks])

    def say(self, seconds: float) -> None:
        """Push a whole utterance."""
        self.line.push(voice(seconds))
        self.line.end()

    def go(self, num_chunks: int) -> None:
        for number in range(len(self.chunks), len(self.chunks) + num_chunks):
            audio = self.line.chunk(number * NUM, NUM, (number + 1) * STEP)
            assert len(audio.sound) == STEP
            self.chunks.append(audio)
            self.begun += [number] * audio.has_begun
            self.ended += [number] * audio.has_ended


def voice(seconds: float) -> NDArray[np.int16]:
    return np.arange(1, round(seconds * RATE) + 1).astype(np.int16) | 1  # no sample is 0, each stands once


def test_push_of_whole_speech_plays_it_at_once() -> None:
    played = Played()
    played.go(3)
    played.say(0.5)
    played.go(10)
    spoken = np.trim_zeros(played.sound)
    assert np.flatnonzero(played.sound)[0] == pytest.approx(3 * STEP, abs=2)
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
    played.say(0.4)
    played.go(8)
    assert np.count_nonzero(played.sound) == pytest.approx(0.8 * RATE, abs=80)
    assert not played.sound[5 * STEP : 8 * STEP].any()


def test_window_includes_pushed_speech_ahead_of_the_frame() -> None:
    played = Played()
    played.say(1.0)
    played.go(1)
    assert len(played.chunks[0].window.samples) == round((0.12 + 0.24) * 16000)
    assert played.chunks[0].window.samples[-100:].all()


def test_interrupt_fades_out_and_shuts_the_mouth() -> None:
    played = Played()
    played.line.push(voice(5))
    played.go(5)
    assert played.line.interrupt()
    assert played.line.waiting_seconds < 0.02
    played.go(5)
    rest = played.sound[5 * STEP :]
    assert 0 < np.flatnonzero(rest)[-1] < RATE // 100, "10 ms, and no click"
    window = played.chunks[5].window
    shares = window.open_share[5 * NUM * 2 - window.first_row :][:6:2]  # two rows a frame
    assert 0 < shares[0] < 1 and not shares[1:].any(), "the mouth shuts one frame later"
    assert not played.chunks[-1].window.samples[-1000:].any()
    assert not played.line.interrupt(), "there is nothing left to interrupt"
    played.say(0.5)
    played.go(6)
    assert played.begun == [0, 10]


def test_spoken_seconds_counts_only_pushed_speech() -> None:
    played = Played()
    played.line.push(voice(2))
    played.go(5)
    assert played.line.spoken_seconds == pytest.approx(5 * STEP / RATE)
    played.line.interrupt()
    played.say(0.5)
    assert played.line.spoken_seconds == pytest.approx(5 * STEP / RATE)
    played.go(10)
    assert played.line.spoken_seconds == pytest.approx(5 * STEP / RATE + 0.5, abs=0.011), "and the fading voice"
    assert played.line.waiting_seconds == 0


def test_interrupt_drops_closures_that_were_not_sent() -> None:
    played = Played()
    played.line.push(voice(2), closures=((0.1, 0.2), (0.45, 0.5), (1.4, 1.5)))
    played.go(3)
    assert played.chunks[-1].window.closures == ((0.1, 0.2), (0.45, 0.5))
    played.line.interrupt()
    played.line.push(voice(2), closures=((0.1, 0.2),))
    played.go(1)
    after = np.ravel(played.chunks[-1].window.closures)
    assert after == pytest.approx([0.1, 0.2, 0.47, 0.57]), "after the fading voice"


def test_rollback_chunk_moves_its_closures_with_the_speech() -> None:
    played = Played()
    played.line.push(voice(2), closures=((0.15, 0.2), (0.3, 0.4)))
    played.go(2)
    played.line.rollback_chunk(played.chunks[-1])
    played.go(1)
    assert played.chunks[-1].window.closures == ()
    played.line.resume()
    played.go(1)
    assert np.ravel(played.chunks[-1].window.closures) == pytest.approx([0.39, 0.44, 0.54, 0.64])


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
    played.say(2)
    played.go(5)
    audio = played.line.rollback_chunk(played.chunks[-1])
    assert not audio.sound[RATE // 100 :].any(), "the voice fades"
    played.chunks[-1] = audio
    played.go(4)
    assert not played.sound[5 * STEP :].any()
    played.go(1)
    assert not played.chunks[-1].window.samples[-1500:].any(), "the mouth is shut"
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
    assert played.line.rollback_chunk(played.chunks[-1]) is played.chunks[-1]
    played.say(0.5)
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
    stream.clips.add("nod", None)
    stream.clips.add("nod", None)
    stream.show(4)
    assert [name for name, _ in stream.started] == ["wave", "nod", "nod"], "twice if it is named twice"


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
