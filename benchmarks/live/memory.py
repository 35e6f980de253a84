"""Memory of a live session over one hour of stream, produced as fast as possible.

    python -m benchmarks.live.memory --minutes 60

Starts a service whose streams may run faster than real time (`live.max_speed`) with the sample avatar, sends the sample
speech as fast as it is spoken, and reports every fragment as played. Once per minute of stream it samples the memory of
the Ingress, of LiveSession and of its decoders: resident, and unique (for decoders, which are forked and share pages,
proportional).

With `--grey`, the real routes in this process send grey frames, and this process is sampled together with its client:
everything but rendering, for machines that are too busy for that.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import psutil

from benchmarks.live.floor import grey_service
from benchmarks.live.latency import RATE, avatar, speech
from benchmarks.process_tree import name_of
from config import LiveConfig
from lipwright_client import Lipwright
from tests.faults.memory import DECODERS, decodes_for
from tests.faults.service_process import ServiceProcess, config_with, served

_PROCESSES: Final = ("Ingress", "LiveSession", f"{DECODERS}LiveSession")
_HERE: Final = "this process"
_FAST: Final = LiveConfig(max_speed=1000.0)  # more than any machine reaches
_PIECE_S: Final = 0.5
_ANALYSIS_S: Final = 600.0


class Memory(NamedTuple):
    """MiB of one process, or of several counted together."""

    rss: float
    own: float


def memory(service: ServiceProcess) -> dict[str, Memory]:
    """Returns the current memory of the processes of a live session."""
    found: dict[str, Memory] = {}
    for process in service.processes():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            owner, full = decodes_for(process), process.memory_full_info()
            name, own = (name_of(process), full.uss) if owner is None else (owner, full.pss)
            before = found.get(name, Memory(0.0, 0.0))
            found[name] = Memory(before.rss + full.rss / 2**20, before.own + own / 2**20)
    return {name: found[name] for name in _PROCESSES if name in found}


def memory_here() -> dict[str, Memory]:
    """Returns the memory of this process."""
    full = psutil.Process().memory_full_info()
    return {_HERE: Memory(full.rss / 2**20, full.uss / 2**20)}


def summary(minutes: list[int], looks: list[dict[str, Memory]]) -> dict[str, Any]:
    """Returns first value, last value and trend of each process, by kind of memory."""
    return {
        f"{name}, {kind}": {
            "first_mib": round(values[0], 1),
            "last_mib": round(values[-1], 1),
            "max_mib": round(max(values), 1),
            "mib_an_hour": round(60 * float(np.polyfit(minutes, values, 1)[0]), 1) if len(values) > 1 else 0.0,
        }
        for name in (*_PROCESSES, _HERE)
        for kind in Memory._fields
        if (values := [getattr(look[name], kind) for look in looks if name in look])
    }


def measure(url: str, minutes: int, look: Callable[[], dict[str, Memory]]) -> dict[str, Any]:
    """Produces that many minutes of stream and samples the memory after each."""
    looks: list[dict[str, Memory]] = []
    at: list[int] = []
    with Lipwright(url) as client:
        who, began, num_fragments = avatar(url), time.monotonic(), 0
        client.avatars.wait(who, _ANALYSIS_S).check()
        with client.live(who, RATE) as session:
            for event in session.say(_without_end()):
                if event.type != "session.fragment":
                    continue
                num_fragments += 1
                if event.raw["start_seconds"] >= 60 * (len(at) + 1):
                    at.append(len(at) + 1)
                    looks.append(look())
                    print(f"minute {at[-1]}, {time.monotonic() - began:.0f} s: {_line(looks[-1])}", flush=True)
                if len(at) >= minutes:
                    break
    took_s = time.monotonic() - began
    return {
        "minutes_of_stream": len(at),
        "fragments": num_fragments,
        "took_s": round(took_s),
        "load_average": os.getloadavg()[0],
        "memory": summary(at, looks),
    }


def _line(look: dict[str, Memory]) -> str:
    return ", ".join(f"{name} {mib.rss:.0f} MiB ({mib.own:.0f} unique)" for name, mib in look.items())


def _without_end() -> Iterator[bytes]:
    sound, size = speech(), round(_PIECE_S * RATE) * 2
    yield from cycle(sound[start : start + size] for start in range(0, len(sound), size))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=60, help="Of stream.")
    parser.add_argument("--grey", action="store_true", help="Render nothing.")
    options = parser.parse_args()
    if options.grey:
        with grey_service(config=_FAST) as url:
            print(json.dumps(measure(url, options.minutes, memory_here), indent=1))
        return
    with tempfile.TemporaryDirectory(prefix="lipwright-bench-") as name:
        folder = Path(name)
        config = config_with(folder, live={"max_speed": _FAST.max_speed})
        with served(folder / "data", config) as service:
            print(json.dumps(measure(service.url, options.minutes, lambda: memory(service)), indent=1))


if __name__ == "__main__":
    main()
