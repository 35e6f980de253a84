"""CPU time of a revision with one changed text: `python -m benchmarks.revision --clip FILE`. It needs espeak-ng."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections import defaultdict
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Any

import av
import httpx
import psutil
import typer

from benchmarks.media_files import write_film
from benchmarks.process_tree import name_of
from launch.service import private_config, running_service

_JOB_S = 3600.0
_WORDS = ("river", "stone", "window", "garden", "winter", "silver", "mountain", "table", "letter", "candle", "bridge")


def main(
    clip: Annotated[Path, typer.Option(help="Film of a person; it is repeated.")],
    minutes: Annotated[float, typer.Option(min=0.1, help="Length of the film.")] = 10.0,
    cues: Annotated[int, typer.Option(min=2, help="Texts in it.")] = 60,
) -> None:
    """Dubs a film, changes one text in its middle, and compares CPU time and packets."""
    with tempfile.TemporaryDirectory(prefix="lipwright-revision-") as name:
        film = Path(name) / "film.mp4"
        _repeat(clip, film, minutes * 60)
        with (
            running_service(private_config(Path(name) / "data")) as url,
            httpx.Client(base_url=url, timeout=120, trust_env=False) as client,
        ):
            slot = minutes * 60 / cues
            turns = [
                {
                    "start": round(number * slot, 2),
                    "end": round((number + 0.8) * slot, 2),
                    "text": _text(number),
                    "voice": "espeak:en-us",
                }
                for number in range(cues)
            ]
            before = _cpu_seconds()
            response = client.post(
                "/v1/jobs", files={"video": ("film.mp4", film.read_bytes())}, data={"turns": json.dumps(turns)}
            )
            job = response.raise_for_status().json()
            spent_before_rendering = _wait(client, job["id"], before)
            first = _cpu_seconds() - before
            print(f"first render: {first:.1f} CPU s, {spent_before_rendering:.1f} of them before rendering", flush=True)
            film_packets = _packets(client, job["id"], Path(name) / "first.mp4")
            number, before, by_name = cues // 2, _cpu_seconds(), _cpu_by_name()
            edit = {"turns": [{"number": number, "text": "A different sentence, about the sea and the sky."}]}
            revision = client.post(f"/v1/jobs/{job['id']}/revisions", json=edit).raise_for_status().json()
            spent_before_rendering = _wait(client, revision["id"], before)
            spent = _cpu_seconds() - before
            print(f"revision: {spent:.1f} CPU s, {spent_before_rendering:.1f} before rendering: {spent / first:.1%}")
            for program, seconds in _cpu_by_name().items():
                print(f"  {program}: {seconds - by_name[program]:.1f}")
            revised = _packets(client, revision["id"], Path(name) / "revised.mp4")
            for kind in ("video", "audio"):
                _compare(kind, film_packets[kind], revised[kind], turns[number])


def _text(number: int) -> str:
    words = list(islice(cycle(_WORDS[number % len(_WORDS) :] + _WORDS[: number % len(_WORDS)]), 8))
    return f"Sentence {number} says {' '.join(words)}."


def _repeat(clip: Path, film: Path, seconds: float) -> None:
    """Write a film of the pictures of a clip, over and over."""
    with av.open(str(clip)) as source:
        stream = source.streams.video[0]
        fps, pictures = Fraction(stream.average_rate or 25), list(source.decode(video=0))
    write_film(film, islice(cycle(pictures), round(seconds * fps)), fps, {"preset": "superfast", "crf": "18"})


def _cpu_by_name() -> dict[str, float]:
    """CPU time of all descendants, also of those that have ended, by the name of the program."""
    seconds: dict[str, float] = defaultdict(float)
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds[name_of(process)] += times.user + times.system + times.children_user + times.children_system
    return seconds


def _cpu_seconds() -> float:
    return sum(_cpu_by_name().values())


def _wait(client: httpx.Client, job_id: str, before: float) -> float:
    """Wait until a job has succeeded; return the CPU time until it rendered."""
    deadline, spent = time.monotonic() + _JOB_S, 0.0
    while (job := client.get(f"/v1/jobs/{job_id}").raise_for_status().json())["status"] != "succeeded":
        if job["status"] in ("failed", "cancelled") or time.monotonic() > deadline:
            raise SystemExit(f"job {job_id}: {job['status']} {job['error']}")
        if not spent and job["stage"] in ("rendering", "muxing"):
            spent = _cpu_seconds() - before
        time.sleep(1.0)  # a request takes 10 ms of CPU time
    return spent


def _packets(client: httpx.Client, job_id: str, path: Path) -> dict[str, list[tuple[float, bytes]]]:
    """Return the time and content of all packets of the result, by kind of stream."""
    path.write_bytes(client.get(f"/v1/jobs/{job_id}/video").raise_for_status().content)
    found: dict[str, list[tuple[float, bytes]]] = {"video": [], "audio": []}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.size and packet.pts is not None:
                found[packet.stream.type].append((float(packet.pts * packet.time_base), bytes(packet)))
    return found


def _compare(
    kind: str, first: list[tuple[float, bytes]], revised: list[tuple[float, bytes]], turn: dict[str, Any]
) -> None:
    times = [mine[0] for mine, its in zip(first, revised, strict=True) if mine != its]
    span = f"from {min(times):.2f} to {max(times):.2f} s" if times else "none"
    print(f"{kind}: {len(times)} of {len(first)} packets differ, {span}; turn {turn['start']} to {turn['end']} s")


if __name__ == "__main__":
    typer.run(main)
