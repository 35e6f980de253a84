"""Pushes a stream that flashes and beeps, and measures its synchronisation where it is received."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from lipwright.api.live.outputs.session_outputs import SessionOutputs
from lipwright.api.live.protocol import StartOutput
from lipwright.config import LiveConfig, NetworkConfig
from lipwright.net.push.destination import Destinations
from tests.ports import quiet_port
from tests.unit.flashing_stream import FlashingStream, file_skews
from tests.unit.net.push.receivers import rtmp_server, srt_listener
from tests.unit.net.push.whip_server import whip_server

LOOPBACK = ("rtmp://127.0.0.1:*", "srt://127.0.0.1:*", "http://127.0.0.1:*")


async def _push(url: str, minutes: float, speed: float) -> dict[str, Any]:
    """Pushes a stream of that length and returns the last state of the output."""
    events: list[dict[str, Any]] = []

    async def note(text: str) -> None:
        events.append(json.loads(text))

    outputs = SessionOutputs(Destinations(LOOPBACK, NetworkConfig()), LiveConfig(), note)
    outputs.start(StartOutput(type="output.start", url=url))
    begun = time.monotonic()
    for fragment in FlashingStream():
        outputs.offer(fragment)
        if fragment.start_seconds > 60 * minutes:
            break
        while not events or events[-1]["state"] == "connecting":  # so that all of the stream is received
            outputs.offer(fragment)
            await asyncio.sleep(0.02)
            begun = time.monotonic() - fragment.start_seconds / speed
        await asyncio.sleep(max(0.0, begun + fragment.start_seconds / speed - time.monotonic()))
    await asyncio.sleep(2)
    await outputs.stop("output-1")
    return events[-1]


def measure(scheme: str, minutes: float, speed: float) -> dict[str, Any]:
    """Returns the results of one run, in real time if `speed` is 1.

    * `skew_ms`: how much later than its flash each beep is received, by the timestamps. A beep may seem up to a frame
      of its codec early or late: 21 ms of AAC, 20 ms of Opus, whose decoder adds 6.5 ms.
    * `drift_ms`: the median skew of the last tenth of the run less that of the first.
    * `dropped_seconds`, `num_reconnects`: of the output.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("pushed.flv" if scheme == "rtmp" else "pushed.ts")
        port = quiet_port()
        if scheme == "whip":
            with whip_server() as peer:
                end = asyncio.run(_push(peer.url, minutes, speed))
                found = peer.skews()
        else:
            serve, rest = (rtmp_server, "/live/key") if scheme == "rtmp" else (srt_listener, "")
            with serve(port, path) as server:
                end = asyncio.run(_push(f"{scheme}://127.0.0.1:{port}{rest}", minutes, speed))
                server.wait(30)
            found = file_skews(path)
    ms, tenth = 1000 * np.array(found), max(1, len(found) // 10)
    return {
        "flashes": len(found),
        "skew_ms": {"p50": round(float(np.median(ms)), 1), "min": round(ms.min(), 1), "max": round(ms.max(), 1)},
        "drift_ms": round(float(np.median(ms[-tenth:]) - np.median(ms[:tenth])), 2),
        "dropped_seconds": end["dropped_seconds"],
        "num_reconnects": end["num_reconnects"],
    }
