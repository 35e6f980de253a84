"""Cost per frame of Wav2Lip, compared with its network alone: `python -m benchmarks.engines [--in-process]`.

The weights are random but have the published architecture, so they cost as much as real ones. The floor, the network
alone and whole jobs are measured in one run.
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml

from benchmarks.analysis import analyse
from benchmarks.in_process import render_staged
from benchmarks.material import make_avatar, make_speech, num_frames_of
from benchmarks.through_graph import create_avatar, measure_job
from benchmarks.yardsticks import floor_cpu_ms
from config import PipelineConfig, RenderConfig
from launch.serve_config import default_config_path
from lipwright_client import Lipwright
from models.engines.protocol import ComputeResources
from models.engines.wav2lip.generator import load_generator
from models.engines.wav2lip.options import Wav2LipOptions
from models.engines.weights.store import WeightsStore
from tests.random_weights.wav2lip import save_wav2lip

RESULTS = Path(__file__).with_name("engines.json")
_SIZES = ((512, 512), (1920, 1080))
_LOOP_FRAMES = 48
_BATCHES = (1, 4, 8, 16)


def main(
    seconds: Annotated[float, typer.Option(min=1, help="Speech of the measured job.")] = 8.0,
    size: Annotated[int, typer.Option(help="Side of the network's picture: 96 or 256.")] = 96,
    in_process: Annotated[bool, typer.Option(help="Only the stages in one process, without Ray.")] = False,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = RESULTS,
) -> None:
    """Measures Wav2Lip: the floor, the network alone, and whole jobs."""
    results: dict[str, Any] = {"seconds": seconds, "network": size}
    with tempfile.TemporaryDirectory(prefix="lipwright-bench-") as name:
        folder = Path(name)
        weights = save_wav2lip(folder / "wav2lip.pth", size)
        WeightsStore(folder / "data" / "weights").add(weights)
        loop = generator_loop(weights)
        results["generator_cpu_ms_per_frame"] = loop
        for width, height in _SIZES:
            video = make_avatar(width, height, seconds, folder)
            floor = floor_cpu_ms(video, num_frames_of(seconds), RenderConfig())
            jobs = {precision: _measure_stages(video, seconds, folder, precision) for precision in ("fp32", "auto")}
            if not in_process:
                jobs["service, fp32"] = _through_graph(video, seconds, folder)
            least = min(loop.values()) + floor
            results[f"{width}x{height}"] = {
                "floor_cpu_ms_per_frame": round(floor, 2),
                "jobs": jobs,
                "ratio_to_generator_and_floor": {
                    name: round(job["cpu_ms_per_frame"] / least, 3) for name, job in jobs.items()
                },
            }
    results["peak_rss_mib_in_process"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


def _measure_stages(video: Path, seconds: float, folder: Path, precision: str) -> dict[str, Any]:
    config = PipelineConfig(data_dir=folder / "data", engines={"wav2lip": {"precision": precision}})
    place = folder / f"{video.stem}-{precision}"
    place.mkdir()
    cached, _ = analyse(video, place / "avatar", "wav2lip", config)
    stages = render_staged(cached, make_speech(seconds, folder), place).cpu_ms
    return {
        "cpu_ms_per_frame": round(sum(stages.values()), 2),
        "stages": {stage: round(ms, 2) for stage, ms in stages.items()},
    }


def _through_graph(video: Path, seconds: float, folder: Path) -> dict[str, Any]:
    from launch.service import private_config, running_service

    config = yaml.safe_load(default_config_path(has_gpu=False).read_text(encoding="utf-8"))
    config["applications"][0]["args"]["engines"] = {"wav2lip": {"precision": "fp32"}}
    path = folder / "serve_config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    with running_service(private_config(folder / "data", path)) as url:
        client = Lipwright(url)
        avatar_id = create_avatar(client, video)
        measure_job(client, avatar_id, make_speech(1.0, folder), "wav2lip")  # loads the network
        return measure_job(client, avatar_id, make_speech(seconds, folder), "wav2lip").as_json()


def generator_loop(weights: Path) -> dict[str, float]:
    """Returns CPU ms per frame of the network alone, by batch size, in full precision, the best of two runs."""
    random = np.random.default_rng(0)
    spent: dict[str, float] = {}
    for batch in _BATCHES:
        generator = load_generator(weights, ComputeResources(), Wav2LipOptions(precision="fp32", batch_size=batch))
        faces = random.integers(0, 256, (_LOOP_FRAMES, generator.size, generator.size, 3), np.uint8)
        windows = random.uniform(-4, 4, (_LOOP_FRAMES, 80, 16)).astype(np.float32)
        generator.generate(faces[:batch], windows[:batch])
        runs = []
        for _ in range(2):
            start = time.process_time()
            generator.generate(faces, windows)
            runs.append((time.process_time() - start) * 1000 / _LOOP_FRAMES)
        spent[f"batch {batch}"] = round(min(runs), 2)
    return spent


if __name__ == "__main__":
    typer.run(main)
