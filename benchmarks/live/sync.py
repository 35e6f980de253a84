"""Audio/video synchronisation of a live session, and its drift against the wall clock.

    python -m benchmarks.live.sync http://127.0.0.1:8000 --minutes 10

Start the service first, on its own machine. The sample speech is sent repeatedly in real time, 20 ms at a time, with
pauses; a client decodes every fragment and plays it in real time. Prints, over the whole run:

* `sound_beyond_picture_ms`: how far the decoded audio extends beyond the decoded video at the end of each fragment.
  Audio packets are 20 ms and do not end with a frame, and the decoder drops 6.5 ms of the first one (pre-skip): -7 to
  14 is expected. `drift_ms` is the increase from the first to the last minute.
* `lost_ms`: how much less was decoded than the fragment times state.
* `onset_ms`: when the voice of each turn is heard, relative to the fragment that announces it.
* `late_ms`: arrival of fragments relative to a clock started with the earliest one of the first minute; `drift_ppm`
  is the trend of the earliest one of each minute.
* `waiting_ms`: audio waiting at the service during speech, in the first and in the last minute.
* `stalls`: number and duration of stalls of a player that starts with 190 ms and never slows down.
"""

from __future__ import annotations

import io
import json
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import av
import numpy as np
import typer

from benchmarks.live.latency import LOUD, RATE, avatar, speech, spread
from integrations.stream_frames import SOUND_RATE, StreamFrames
from lipwright_client import ConnectionFailedError, Lipwright, LiveEvent, LiveSession

_PIECE_S: Final = 0.02
_PAUSE_S: Final = 2.0
_START_S: Final = 0.19  # as the page's player, which then also steers
_REPORT_S: Final = 0.25


@dataclass
class Player:
    """Simulates a real-time player."""

    stop: float = 0.0  # seconds of stream that are here
    shown: float = 0.0
    num_stalls: int = 0
    stalled_s: float = 0.0
    _at: float | None = None  # when it was looked at last; None while it waits for enough

    def add(self, now: float, stop: float) -> None:
        """Adds a fragment that ends at that time."""
        self.advance(now)
        self.stop = stop
        if self._at is None and self.stop - self.shown >= _START_S:
            self._at = now

    def advance(self, now: float) -> None:
        """Advances playback to the current time."""
        if self._at is None:
            return
        self.shown += now - self._at
        self._at = now
        if (lacking := self.shown - self.stop) > 0:
            self.num_stalls, self.stalled_s = self.num_stalls + 1, self.stalled_s + lacking
            self.shown, self._at = self.stop, None


@dataclass
class Track:
    """Decoded progress of one track."""

    counted: float = 0.0  # seconds that were decoded
    timed: float = 0.0  # end by the times in the fragments


@dataclass
class Findings:
    """Values recorded per fragment; times in stream seconds, `minutes` of wall-clock time."""

    minutes: list[int] = field(default_factory=list)
    beyond: list[float] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    waiting: list[tuple[int, float]] = field(default_factory=list)
    onsets: list[float] = field(default_factory=list)


class Client:
    """Records one session."""

    def __init__(self, fps: float) -> None:
        self.found, self.player = Findings(), Player()
        self._fps = fps
        self._frames: StreamFrames | None = None
        self._head = b""
        self._picture, self._sound = Track(), Track()
        self._began: float | None = None  # the wall clock at the first fragment
        self._turn: float | None = None  # where a voice is said to begin, until it is heard
        self._is_turn_next = False

    def take(self, event: LiveEvent, now: float) -> None:
        """Receives fragments and events."""
        if event.type == "session.stream":
            self._head, self._frames = event.media, StreamFrames(event.media)
        elif event.type == "agent.speak_started":
            self._is_turn_next = True
        elif event.type == "session.fragment":
            self._fragment(event, now)

    def _fragment(self, event: LiveEvent, now: float) -> None:
        assert self._frames is not None
        start, found = float(event.raw["start_seconds"]), self.found
        self._began = now if self._began is None else self._began
        minute = int((now - self._began) // 60)
        if self._is_turn_next:
            self._turn, self._is_turn_next = start, False
        sound_start = self._sound.counted
        pictures, sound = self._frames.decode(event.media)
        self._picture.counted += len(pictures) / self._fps
        self._sound.counted += len(sound) / SOUND_RATE
        self._times(event.media)
        self.player.add(now, start + float(event.raw["duration_seconds"]))
        found.minutes.append(minute)
        found.beyond.append(self._sound.counted - self._picture.counted)
        lost = max(track.timed - track.counted for track in (self._picture, self._sound))
        found.lost.append(lost)
        found.late.append(now - self._began - start)
        if event.raw["is_speaking"]:
            found.waiting.append((minute, float(event.raw["buffered_seconds"])))
        loud = np.flatnonzero(np.abs(sound.astype(int)) > LOUD)
        if self._turn is not None and len(loud):
            found.onsets.append(sound_start + loud[0] / SOUND_RATE - self._turn)
            self._turn = None

    def _times(self, fragment: bytes) -> None:
        with av.open(io.BytesIO(self._head + fragment), "r", format="mp4") as container:
            for packet in container.demux():
                if packet.size and packet.pts is not None and packet.duration is not None:
                    track = self._picture if packet.stream.type == "video" else self._sound
                    track.timed = float((packet.pts + packet.duration) * packet.time_base)


def report(client: Client) -> dict[str, Any]:
    """Returns the results."""
    found, last = client.found, max(client.found.minutes)
    minutes = np.array(found.minutes)
    late, beyond = np.array(found.late), np.array(found.beyond)
    earliest = [late[minutes == minute].min() for minute in range(last + 1) if (minutes == minute).any()]
    trend = np.polyfit(np.arange(len(earliest)), earliest, 1)[0] / 60 if len(earliest) > 1 else 0.0
    waiting = {
        name: 1000 * float(np.median([seconds for minute, seconds in found.waiting if minute == at] or [np.nan]))
        for name, at in (("first", 0), ("last", last))
    }
    return {
        "minutes": round((last + 1), 1),
        "load_average": os.getloadavg()[0],
        "sound_beyond_picture_ms": _ms(beyond)
        | {"drift_ms": round(1000 * float(np.median(beyond[minutes == last]) - np.median(beyond[minutes == 0])), 2)},
        "lost_ms": _ms(np.array(found.lost)),
        "onset_ms": _ms(np.array(found.onsets)) | {"turns": len(found.onsets)},
        "late_ms": _ms(late - earliest[0]) | {"drift_ppm": round(1e6 * trend, 1)},
        "waiting_ms": waiting,
        "stalls": {"number": client.player.num_stalls, "seconds": round(client.player.stalled_s, 3)},
    }


def _ms(seconds: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float]:
    return spread([1000 * float(value) for value in seconds]) if len(seconds) else {}


def _microphone(session: LiveSession, is_over: threading.Event) -> None:
    """Sends the sample speech repeatedly in real time; what a busy machine missed is sent at once."""
    sound, size = speech(), round(_PIECE_S * RATE) * 2
    with suppress(ConnectionFailedError):  # the iterating coroutine gets the error
        while not is_over.is_set():
            began, sent = time.monotonic(), 0
            while sent < len(sound):
                due = int((time.monotonic() - began) / _PIECE_S + 1) * size
                if due > sent:
                    session.speak(sound[sent:due])
                    sent = due
                if is_over.wait(_PIECE_S / 2):
                    return
            session.speak_end()
            is_over.wait(_PAUSE_S)


def measure(url: str, minutes: float) -> dict[str, Any]:
    """Records one session for that long; if it ends earlier, up to its end, with the reason."""
    is_over, end = threading.Event(), None
    with Lipwright(url) as service, service.live(avatar(url), RATE, shows_at_once=False) as session:
        client = Client(float(session.connected["fps"]))
        microphone = threading.Thread(target=_microphone, args=(session, is_over), daemon=True)
        microphone.start()
        until, reported = time.monotonic() + 60 * minutes, 0.0
        for event in session:
            now = time.monotonic()
            client.take(event, now)
            if event.type == "session.ended":
                end = str(event.raw["message"])
            if now - reported > _REPORT_S:
                client.player.advance(now)
                with suppress(ConnectionFailedError):
                    session.showed(client.player.shown)
                reported = now
            if now > until:
                break
        is_over.set()
        microphone.join(10)
    return report(client) | ({} if end is None else {"ended_early": end})


def main(url: str, minutes: Annotated[float, typer.Option(help="Length of the session.")] = 10.0) -> None:
    """Measures and prints."""
    print(json.dumps(measure(url, minutes), indent=1))


if __name__ == "__main__":
    typer.run(main)
