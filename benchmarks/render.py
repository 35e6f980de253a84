"""Cost per rendered frame, compared with the floor: `python -m benchmarks.render [--in-process]`.

Writes benchmarks/results.json and prints a table. The floor is decoding the same frames and encoding them again with
the same settings, measured in the same run, so that most of the machine's load cancels out in the ratio. Because the
floor depends on the job settings, the same work is also measured with fixed settings.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.material import make_avatar, make_speech, num_frames_of
from benchmarks.report import print_results
from benchmarks.through_graph import create_avatar, idle_cpu_share, measure_job
from lipwright_client import Lipwright

SIZES = ((512, 512), (1920, 1080))
RESULTS = Path(__file__).with_name("results.json")
_NUM_ROUNDS = 3  # the median counts, as the machine's speed varies
_SHORT_SOURCE_SECONDS = 4.0  # for the memory comparison: both play it back and forth
_PACKAGES = ("ray", "torch", "onnxruntime", "av", "numpy", "opencv-python-headless")


def main(
    in_process: Annotated[bool, typer.Option(help="Only the stages in one process, without Ray.")] = False,
    seconds: Annotated[float, typer.Option(min=1, help="Speech of the measured job.")] = 20.0,
    short_seconds: Annotated[float, typer.Option(min=1, help="Speech of the job whose memory is compared ...")] = 10.0,
    long_seconds: Annotated[float, typer.Option(min=1, help="... with that of this one.")] = 120.0,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = RESULTS,
) -> None:
    """Measures and prints the cost of rendering."""
    results: dict[str, Any] = {"machine": _machine(), "seconds": seconds}
    with tempfile.TemporaryDirectory(prefix="lipwright-bench-") as name:
        folder = Path(name)
        avatars = {f"{w}x{h}": make_avatar(w, h, seconds, folder) for w, h in SIZES}
        results["stages"] = {size: _measure_stages(video, seconds, folder / size) for size, video in avatars.items()}
        if not in_process:
            results["graph"] = _through_graph(avatars, seconds, (short_seconds, long_seconds), folder)
    out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print_results(results)


def _measure_stages(video: Path, seconds: float, folder: Path) -> dict[str, Any]:
    from benchmarks.analysis import analyse
    from benchmarks.in_process import render_staged
    from benchmarks.yardsticks import Yardsticks

    folder.mkdir()
    num_frames = num_frames_of(seconds)
    yardsticks = Yardsticks.measure(video, num_frames)
    avatar, analysis = analyse(video, folder / "avatar")
    stages = render_staged(avatar, make_speech(seconds, folder), folder).cpu_ms
    return yardsticks.as_json() | {
        "total_cpu_ms_per_frame": round(sum(stages.values()), 2),
        "analysis_cpu_ms_per_source_frame": round(analysis, 2),
        "stages_cpu_ms_per_frame": {stage: round(ms, 2) for stage, ms in stages.items()},
    }


def _through_graph(
    avatars: dict[str, Path], seconds: float, lengths: tuple[float, float], folder: Path
) -> dict[str, Any]:
    from benchmarks.yardsticks import Yardsticks
    from lipwright.launch.service import private_config, running_service

    start = time.monotonic()
    with running_service(private_config(folder / "data")) as url:
        client = Lipwright(url)
        results: dict[str, Any] = {"ready_s": round(time.monotonic() - start, 2)}
        results["idle_cpu_seconds_per_second"] = round(idle_cpu_share(), 3)
        for size, video in avatars.items():
            avatar_id = create_avatar(client, video)
            measure_job(client, avatar_id, make_speech(1.0, folder))  # the first job opens files and warms caches
            speech, num_frames = make_speech(seconds, folder), num_frames_of(seconds)
            rounds = [
                (Yardsticks.measure(video, num_frames), measure_job(client, avatar_id, speech))
                for _ in range(_NUM_ROUNDS)
            ]
            yardsticks, costs = zip(*rounds, strict=True)
            middle = Yardsticks(*map(statistics.median, zip(*yardsticks, strict=True)))
            cost = sorted(costs, key=lambda cost: cost.cpu_ms_per_frame)[_NUM_ROUNDS // 2]
            results[size] = middle.as_json() | {"job": cost.as_json()}
            if "memory" not in results:  # at the first size, before another one raises the peaks
                short_source = make_avatar(*SIZES[0], _SHORT_SOURCE_SECONDS, folder)
                avatar_id = create_avatar(client, short_source)
                results["memory"] = {"size": size} | {
                    f"{length:g} s": measure_job(
                        client, avatar_id, make_speech(length, folder), watches_memory=True
                    ).as_json()
                    for length in lengths
                }
    return results


def _machine() -> dict[str, Any]:
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpus": os.cpu_count(),
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {found.name: found.version for found in distributions() if found.name in _PACKAGES},
    }


if __name__ == "__main__":
    typer.run(main)
