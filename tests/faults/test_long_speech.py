"""An hour of speech on ten seconds of a face: nothing grows with the length, and a preview comes at once."""

from __future__ import annotations

import io
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest

from benchmarks.media_files import read_wav, write_film, write_wav
from lipwright.config import MediaLimits
from tests.faults.load import Caller, Pair
from tests.faults.memory import DECODERS, MemoryWatch
from tests.faults.service_process import served

MINUTES = int(os.environ.get("LIPWRIGHT_SPEECH_MINUTES", "60"))
FPS = 25
SIZE = 256
SOURCE_SECONDS = 10
MAX_LATER = 2.0  # the first segment of the long job against that of the slowest short one
MAX_GROWTH = 1.10
MIN_FRAMES_PER_S = 20.0  # slower than that, the test gives up
UPLOAD_BYTES_PER_S = 20_000_000
NUM_PARTS = 12
# Processes of Ray and Serve take minutes until they stop growing by themselves, also at rest. The peaks of the last
# jobs of a minute are what the long one is held against.
NUM_WARM, NUM_SHORT = 18, 6
# AudioFeatures encodes two or three blocks of a long job at once, but mostly one of a job of a minute. Each takes 15 to
# 30 MiB, which the arena of ONNX Runtime keeps: 27 MiB were found in an hour.
LONG_SPEECH_MIB = 30.0
# What decodes a minute of sound or joins a minute of video ends before the watch sees it; that of an hour is seen. The
# muxer keeps an entry for each of its 260,000 packets.
DECODER_MIB = 40.0
# To sign a result, c2pa holds up to twice its size, and at most two buffers of 256 MiB.
SIGNING_SHARE, MAX_SIGNING_MIB = 2.0, 512.0


class Sent(io.BytesIO):
    """A file that is sent as over a network of 160 Mbit/s.

    Serve's proxy keeps whatever comes faster than the Ingress takes it over, which is more than networks bring.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(size)
        time.sleep(len(piece) / UPLOAD_BYTES_PER_S)
        return piece


@dataclass(frozen=True)
class Run:
    """One job, as it was seen from outside.

    Attributes:
        num_frames: Frames of the result.
        took_s: From its acceptance to its end.
        first_segment_s: From the end of the analysis to the first segment.
    """

    num_frames: int
    took_s: float
    first_segment_s: float
    result_mib: float

    def __str__(self) -> str:
        return (
            f"{self.num_frames} frames in {self.took_s:.1f} s ({self.num_frames / self.took_s:.0f} a second), "
            f"first segment {self.first_segment_s:.2f} s after the analysis, {self.result_mib:.0f} MiB"
        )


@pytest.mark.endurance
@pytest.mark.timeout(60 * (MINUTES + NUM_WARM + NUM_SHORT) * FPS / MIN_FRAMES_PER_S + 600)
def test_memory_and_preview_do_not_depend_on_the_length(
    tmp_path: Path, sample_video: Path, sample_speech: Path
) -> None:
    video = ping_pong(sample_video, tmp_path / "presenter.mp4").read_bytes()
    short = Pair(video, tiled(sample_speech, tmp_path / "short.wav", 60).read_bytes())
    long = Pair(video, tiled(sample_speech, tmp_path / "long.wav", 60 * MINUTES).read_bytes())
    data_dir = tmp_path / "data"
    with served(data_dir) as service:
        caller = Caller(service.url)

        with MemoryWatch(service) as warming:
            shown = [_followed(caller, data_dir, short, 1) for _ in range(NUM_WARM)]
        with MemoryWatch(service) as before:
            shown += [_followed(caller, data_dir, short, 1) for _ in range(NUM_SHORT)]
        with MemoryWatch(service) as after:
            shown.append(_followed(caller, data_dir, long, MINUTES))
    for what, done in (("a minute, first", shown[0]), ("a minute, last", shown[-2]), (f"{MINUTES} minutes", shown[-1])):
        print(f"\n{what}: {done}")
    short_peaks, long_peaks = before.peaks(), after.peaks()
    for name, peak in sorted(long_peaks.items()):
        growth = peak / short_peaks[name] - 1 if name in short_peaks else float("inf")
        change = f"{short_peaks.get(name, 0.0):6.1f} -> {peak:6.1f} MiB ({growth:+.1%})"
        parts = [" ".join(f"{part:.0f}" for part in watch.in_parts(name, NUM_PARTS)) for watch in (warming, after)]
        print(f"{name:30} {change}; warming up: {parts[0]}; on the way: {parts[1]}")
    assert shown[-1].first_segment_s < MAX_LATER * max(done.first_segment_s for done in shown[:-1])
    bounds = {
        name: MAX_GROWTH * peak + (DECODER_MIB if name.startswith(DECODERS) else 0.0)
        for name, peak in short_peaks.items()
    }
    bounds["AudioFeatures"] += LONG_SPEECH_MIB
    bounds["Studio"] += min(SIGNING_SHARE * shown[-1].result_mib, MAX_SIGNING_MIB)
    grown = {name: (peak, bounds.get(name)) for name, peak in long_peaks.items() if peak > bounds.get(name, 0.0)}
    assert not grown, "MiB found, MiB allowed"


@pytest.mark.endurance
@pytest.mark.timeout(900)
def test_one_frame_and_as_much_speech_as_is_allowed(tmp_path: Path, sample_portrait: Path, sample_speech: Path) -> None:
    """Its first segment is rendered; all of it takes as long as other speech."""
    seconds = round(MediaLimits().max_audio_seconds)
    speech = opus(sample_speech, tmp_path / "speech.opus", seconds).read_bytes()
    with served(tmp_path / "data") as service:
        caller = Caller(service.url)
        started = time.monotonic()
        job_id = caller.accepted(Pair(sample_portrait.read_bytes(), speech))
        accepted_s = time.monotonic() - started
        job = caller.job(job_id)
        while not job["num_frames_done"]:
            assert job["status"] in ("queued", "running"), job["error"]
            assert time.monotonic() - started < 600, job
            time.sleep(0.5)
            job = caller.job(job_id)
        print(
            f"\none frame, {seconds / 3600:g} h of Opus: accepted in {accepted_s:.1f} s, first of {job['num_frames']} "
            f"frames rendered after {time.monotonic() - started:.1f} s"
        )
        assert job["num_frames"] == FPS * seconds
        caller.request("POST", f"/v1/jobs/{job_id}/cancel").raise_for_status()
        assert caller.wait([job_id], 60)[job_id]["status"] == "cancelled"


def _followed(caller: Caller, data_dir: Path, pair: Pair, num_minutes: int) -> Run:
    """Send one job and look at it and at its folder until it is final."""
    files = {"video": ("presenter.mp4", pair.video), "audio": ("speech.wav", Sent(pair.audio))}
    answer = caller.request("POST", "/v1/jobs", files=files)
    assert answer.status_code == 202, answer.text
    job_id, started = str(answer.json()["id"]), time.monotonic()
    segment = data_dir / "jobs" / job_id / "segments" / "000000.mp4"
    analysed = first = None
    deadline = started + 60 * num_minutes * FPS / MIN_FRAMES_PER_S + 60
    while (job := caller.job(job_id))["status"] in ("queued", "running"):
        now = time.monotonic()
        if analysed is None and job["stage"] in ("rendering", "muxing"):
            analysed = now
        if first is None and segment.is_file():
            first = now
        assert now < deadline, f"not final in time: {job}"
        time.sleep(0.05 if first is None else 0.3)
    assert analysed is not None and first is not None, "the job was looked at too seldom"
    assert job["status"] == "succeeded", job["error"]
    assert job["num_frames"] == 60 * num_minutes * FPS
    took_s = time.monotonic() - started
    first_byte = caller.request("GET", f"/v1/jobs/{job_id}/video", headers={"Range": "bytes=0-0"})
    result_mib = int(first_byte.headers["content-range"].rpartition("/")[2]) / 2**20
    return Run(job["num_frames"], took_s, first - analysed, result_mib)


def tiled(speech: Path, out: Path, num_seconds: int) -> Path:
    """`speech` over and over, cut at so many seconds."""
    samples, rate = read_wav(speech)
    return write_wav(out, np.resize(samples, num_seconds * rate), rate)


def opus(speech: Path, out: Path, num_seconds: int) -> Path:
    """`speech` over and over, cut at so many seconds, as Opus."""
    looped = ("-stream_loop", "-1", "-i", str(speech), "-t", str(num_seconds))
    encoded = ("-c:a", "libopus", "-b:a", "24k", "-compression_level", "0", str(out))
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *looped, *encoded], check=True)
    return out


def ping_pong(video: Path, out: Path) -> Path:
    """Ten seconds of `video` forward and backward, made small."""
    with av.open(str(video)) as source:
        frames = [frame.reformat(SIZE, SIZE, "yuv420p") for frame in source.decode(video=0)]
    turn = [*range(len(frames)), *range(len(frames) - 2, 0, -1)]
    write_film(out, (frames[turn[number % len(turn)]] for number in range(SOURCE_SECONDS * FPS)), FPS, {"crf": "18"})
    return out
