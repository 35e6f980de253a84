"""Several live sessions at once on one machine: late frames, latency, CPU time and memory.

    python -m benchmarks.live.capacity --minutes 30

Starts a service with the sample avatar, and as many sessions as it accepts. Each of them speaks the sample speech in
turns with pauses in between; turns arrive alternately all at once (text to speech) and in real time in pieces of 20 ms
(microphone). Prints:

* `late_frames`: frames that arrived after they were due in a player that starts with 190 ms, as the web page's, and
  `stalls` of that player.
* `first_mouth_ms`: from the first sample of a turn sent until the player shows the mouth that speaks it.
* `cpu_ms_per_frame`: CPU time by process per frame of any session, the clients and this benchmark apart.
* `memory_mib`: peak of each process.
* `refused`: the error of the first session that the service does not accept.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import tempfile
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from benchmarks.live.latency import RATE, speech, spread
from benchmarks.material import SAMPLES
from benchmarks.process_tree import MemoryPeaks, cpu_between, cpu_seconds
from benchmarks.through_graph import create_avatar
from lipwright_client import AsyncLipwright, BusyError, Lipwright, LiveEvent
from lipwright_client.async_live import AsyncLiveSession
from tests.faults.service_process import config_with, served

_PIECE: Final = round(0.02 * RATE) * 2  # bytes
_PAUSE_S: Final = 2.0
_REPORT_S: Final = 0.25
_MOUTH_S: Final = 0.04  # of stream, from the start of speech until the mouth is seen to move
_START_S: Final = 0.19  # as the page's player, which then also steers


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
class Viewer:
    """One session and its player."""

    session: AsyncLiveSession
    player: Player = field(default_factory=Player)
    num_frames: int = 0
    num_late: int = 0
    first_mouth_s: dict[str, list[float]] = field(default_factory=lambda: {"burst": [], "microphone": []})
    _spoke_at: float | None = None  # when the first sample of the turn was sent
    _turn: str = "burst"
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _is_turn_next: bool = False

    async def watch(self) -> None:
        """Play the stream; ends with the session."""
        fps, reported = float(self.session.connected["fps"]), 0.0
        async for event in self.session:
            now = time.monotonic()
            if event.type == "session.fragment":
                self._fragment(event, now, fps)
            elif event.type == "agent.speak_started":
                self._is_turn_next = True
            elif event.type == "agent.speak_ended":
                self._ended.set()
            if now - reported > _REPORT_S:
                await self.session.report_playback(self.player.shown)
                reported = now

    def _fragment(self, event: LiveEvent, now: float, fps: float) -> None:
        start, seconds = float(event.raw["start_seconds"]), float(event.raw["duration_seconds"])
        stalled = self.player.stalled_s
        self.player.add(now, start + seconds)
        self.num_late += math.ceil((self.player.stalled_s - stalled) * fps - 1e-6)
        self.num_frames += round(seconds * fps)
        if self._is_turn_next and self._spoke_at is not None:
            self._is_turn_next = False
            waits = max(0.0, start + _MOUTH_S - self.player.shown)
            self.first_mouth_s[self._turn].append(now + waits - self._spoke_at)

    async def talk(self, offset_s: float) -> None:
        """Speak turn after turn."""
        sound = speech()
        await asyncio.sleep(offset_s)
        while True:
            self._ended.clear()
            self._spoke_at = began = time.monotonic()
            if self._turn == "burst":
                await self.session.speak(sound)
            else:
                for number, start in enumerate(range(0, len(sound), _PIECE)):
                    await asyncio.sleep(began + number * _PIECE / 2 / RATE - time.monotonic())
                    await self.session.speak(sound[start : start + _PIECE])
            await self.session.speak_end()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), 60)
            await asyncio.sleep(_PAUSE_S)
            self._turn = "microphone" if self._turn == "burst" else "burst"


async def watch_all(url: str, avatar_id: str, num_sessions: int, seconds: float) -> dict[str, Any]:
    """Run at most that many sessions, as the service accepts them, for that long, and return the results."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(AsyncLipwright(url))
        viewers, tasks, refused = list[Viewer](), list[asyncio.Task[None]](), "nobody"
        while len(viewers) < num_sessions:
            try:
                live = await stack.enter_async_context(client.live(avatar_id, RATE, auto_report=False))
            except BusyError as error:
                refused = str(error)
                break
            viewers.append(Viewer(live))
            tasks.append(asyncio.create_task(viewers[-1].watch()))
        tasks += [asyncio.create_task(viewer.talk(1 + 0.37 * number)) for number, viewer in enumerate(viewers)]
        await asyncio.wait(tasks, timeout=5, return_when=asyncio.FIRST_COMPLETED)  # networks and players have started
        before, own, frames = cpu_seconds(), time.process_time(), sum(viewer.num_frames for viewer in viewers)
        load, began = [os.getloadavg()[0]], time.monotonic()
        ended, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        took_s, load = time.monotonic() - began, [*load, os.getloadavg()[0]]
        frames = sum(viewer.num_frames for viewer in viewers) - frames
        spent, own = cpu_between(before, cpu_seconds()), time.process_time() - own
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        errors = [repr(each) for each in results if each is not None and not isinstance(each, asyncio.CancelledError)]
    per_frame = {name: 1000 * seconds / frames for name, seconds in spent.items()}
    return {
        "sessions": len(viewers),
        "minutes": round(took_s / 60, 2),
        "load_average": load,
        "frames_per_second": round(frames / took_s / len(viewers), 2),
        "late_frames": [viewer.num_late for viewer in viewers],
        "late_share": round(sum(viewer.num_late for viewer in viewers) / max(1, frames), 5),
        "stalls": [(viewer.player.num_stalls, round(viewer.player.stalled_s, 3)) for viewer in viewers],
        "first_mouth_ms": {
            pace: spread([1000 * value for viewer in viewers for value in viewer.first_mouth_s[pace]])
            for pace in ("burst", "microphone")
            if any(viewer.first_mouth_s[pace] for viewer in viewers)
        },
        "cpu_ms_per_frame": {
            name: round(ms, 2) for name, ms in sorted(per_frame.items(), key=lambda item: -item[1]) if ms >= 0.05
        },
        "cpu_ms_per_frame_total": round(sum(per_frame.values()), 2),
        "client_ms_per_frame": round(1000 * own / frames, 2),
        "refused": refused,
        "ended_early": bool(ended),
        "errors": errors,
    }


def main(
    sessions: Annotated[int, typer.Option(min=1, help="At most; as many as the service accepts.")] = 64,
    minutes: Annotated[float, typer.Option(help="Length of the measurement.")] = 3.0,
    max_load: Annotated[float | None, typer.Option(help="Instead of the default of `live.max_load`.")] = None,
) -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory(prefix="lipwright-bench-") as name:
        folder = Path(name)
        config = config_with(folder, live={} if max_load is None else {"max_load": max_load})
        with served(folder / "data", config) as service:
            with Lipwright(service.url) as client:
                avatar_id = create_avatar(client, SAMPLES / "presenter.mp4")
            with MemoryPeaks() as peaks:
                found = asyncio.run(watch_all(service.url, avatar_id, sessions, 60 * minutes))
        found["memory_mib"] = {name: round(mib) for name, mib in sorted(peaks.uss_mib.items()) if mib > 20}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    typer.run(main)
