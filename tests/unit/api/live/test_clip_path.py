"""The path of a live session: which clips its chunks show."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from api.live.audio_timeline import AudioTimeline
from api.live.clip_path import ClipPath
from errors import OptionError
from media.live.mp4_boxes import AUDIO_RATE
from media.playback import Playback
from tests.unit.clip_graphs import NOD, WAVE, acting_graph

RATE, CHUNK = 24000, 4


class Stream:
    """A session at 25 frames per second without a connection."""

    def __init__(self) -> None:
        self.speech = AudioTimeline(Fraction(25), RATE, 0.16, 60.0)
        self.clips = ClipPath(acting_graph(), 25.0, 3)
        self.shown: list[int] = []
        self.started: list[tuple[str, float]] = []

    def say(self, seconds: float) -> None:
        self.speech.push(np.full(round(seconds * RATE), 5000, np.int16))

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


def test_playback_without_clips_has_no_path() -> None:
    clips = ClipPath(None, 25.0, 3)
    assert clips.playback(0, 4, AudioTimeline(Fraction(25), RATE, 0.16, 60.0)) == Playback()
    with pytest.raises(OptionError, match="need an avatar with clips"):
        clips.add("wave", None)
