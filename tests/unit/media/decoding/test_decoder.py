"""Real processes: whatever a decoder does, the process that asked goes on, knows why, and has nothing left over."""

from __future__ import annotations

import ctypes
import os
import pickle
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from lipwright.config import DecoderConfig, MediaLimits, PipelineConfig
from lipwright.errors import CancelledJobError, MediaError, MediaLimitError, ReplicaLostError, StageTimeoutError
from lipwright.media.cancel_token import CancelToken
from lipwright.media.decoding.decoder import Decoders, DecoderTimeoutError
from lipwright.media.decoding.reply_codec import UnexpectedDecoderError
from lipwright.media.decoding.upload_probe import UploadProbe
from lipwright.media.probe import probe_audio, probe_video
from lipwright.rendering.result_writer import ResultWriter
from lipwright.storage.local.folder import written_atomically
from tests.unit.media import decoder_tasks
from tests.unit.media.clips import LIMITS, write_video
from tests.waiting import wait_until

CLIP = Path("clip.mp4")
CONFIG = DecoderConfig(max_memory_bytes=640 * 1024**2)


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    with Decoders(CONFIG) as decoders:
        yield decoders


def _run(
    decoders: Decoders, work: Callable[[], object], file: Path = CLIP, timeout_s: float = 30, **options: Any
) -> object:
    return decoders.run(work, file=file, timeout_s=timeout_s, **options)


def _forkserver_of(decoders: Decoders) -> psutil.Process:
    parent = _run(decoders, os.getppid)
    assert isinstance(parent, int)
    return psutil.Process(parent)


@pytest.mark.parametrize(
    ("work", "error", "message"),
    [
        (decoder_tasks.refuse, MediaError, "expected this, found that"),
        (decoder_tasks.fail, UnexpectedDecoderError, "OddError: 1 and 2"),
        (sys.exit, UnexpectedDecoderError, "the decoder failed"),
        (partial(ctypes.string_at, 0), MediaError, r"clip\.mp4: .* crashed \(SIGSEGV\)"),
        (partial(decoder_tasks.hoard, 600 * 1024**2), MediaLimitError, r"clip\.mp4: .* 640 MiB"),
        (decoder_tasks.kill_itself, ReplicaLostError, r"clip\.mp4"),
    ],
    ids=["refusal", "defect", "exit", "crash", "memory", "killed each time"],
)
def test_run_failed_task_raises_and_the_next_one_runs(
    decoders: Decoders, work: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        _run(decoders, work)
    assert _run(decoders, partial(decoder_tasks.hoard, 50 * 1024**2)) == 50 * 1024**2


def test_run_uses_a_new_process_per_call(decoders: Decoders) -> None:
    pids = {_run(decoders, os.getpid) for _ in range(3)} | {os.getpid(), _forkserver_of(decoders).pid}
    assert len(pids) == 5


@pytest.mark.parametrize("num_bytes", [0, 60_000, 70_000, 5_000_000])
def test_run_messages_of_any_length_arrive(decoders: Decoders, num_bytes: int) -> None:
    value = os.urandom(num_bytes)
    assert _run(decoders, partial(bytes, value)) == value


def test_run_ffmpeg_out_of_memory_is_a_media_error(decoders: Decoders, tmp_path: Path) -> None:
    fast = {"preset": "ultrafast"}
    clip = write_video(tmp_path / "large.mp4", 32, size=(1920, 1080), options=fast)  # 95 MiB
    bound = _forkserver_of(decoders).memory_info().vms + 75 * 1024**2
    with Decoders(DecoderConfig(max_memory_bytes=bound)) as tight, pytest.raises(MediaLimitError, match="large.mp4"):
        _run(tight, partial(decoder_tasks.decode_all, clip), clip)
    assert _run(decoders, partial(decoder_tasks.decode_all, clip), clip) == 32


def test_run_cpu_time_is_bounded() -> None:
    with Decoders(DecoderConfig(cpu_share=0.02)) as decoders, pytest.raises(MediaLimitError, match=r"clip.*CPU time"):
        _run(decoders, decoder_tasks.spin, timeout_s=50)


def test_run_timeout_ends_the_process(decoders: Decoders, tmp_path: Path) -> None:
    forkserver = _forkserver_of(decoders)
    with pytest.raises(StageTimeoutError, match=r"clip\.mp4"):
        _run(decoders, partial(decoder_tasks.sleep, 120, tmp_path / "pid"), timeout_s=1, writes=tmp_path)
    wait_until(lambda: not forkserver.children())


def test_run_cancelled_from_a_thread_ends_the_process(decoders: Decoders, tmp_path: Path) -> None:
    pid_file, token = tmp_path / "pid", CancelToken()

    def cancel_when_started() -> None:
        wait_until(pid_file.exists)
        token.cancel()

    with ThreadPoolExecutor(1) as pool, pytest.raises(CancelledJobError):
        pool.submit(cancel_when_started)
        _run(decoders, partial(decoder_tasks.sleep, 120, pid_file), token=token, timeout_s=60, writes=tmp_path)
    wait_until(lambda: not psutil.pid_exists(int(pid_file.read_text())))
    with pytest.raises(CancelledJobError):
        _run(decoders, partial(decoder_tasks.sleep, 60), token=token)


def test_run_killed_forkserver_is_replaced(decoders: Decoders, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    forkserver = _forkserver_of(decoders)

    def kill_once() -> None:
        wait_until(pid_file.exists)
        forkserver.kill()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(kill_once)
        assert _run(decoders, partial(decoder_tasks.sleep, 1, pid_file), writes=tmp_path) == "woke"
    assert _forkserver_of(decoders).pid != forkserver.pid


def test_decoder_processes_end_with_their_parent(repo_root: Path, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "from functools import partial; from pathlib import Path; from lipwright.config import DecoderConfig;"
        "from lipwright.media.decoding.decoder import Decoders; from tests.unit.media import decoder_tasks as tasks;"
        f"work = partial(tasks.sleep, 60, Path({str(pid_file)!r}));"
        "Decoders(DecoderConfig()).run(work, file=Path('x'), timeout_s=60, writes=work.args[1].parent)"
    )
    asking = subprocess.Popen([sys.executable, "-c", code], cwd=repo_root)
    wait_until(lambda: pid_file.exists() and pid_file.read_text() != "")
    decoder = psutil.Process(int(pid_file.read_text()))
    forkserver = decoder.parent()
    assert forkserver is not None and forkserver.ppid() == asking.pid
    asking.send_signal(signal.SIGKILL)
    asking.wait()
    _, alive = psutil.wait_procs([decoder, forkserver], timeout=30)
    assert not alive


def test_run_a_hundred_calls_leaves_no_files_or_processes(decoders: Decoders) -> None:
    forkserver = _forkserver_of(decoders)
    wait_until(lambda: not forkserver.children())
    before = len(os.listdir("/proc/self/fd")) + forkserver.num_fds()
    values = [bytes([number]) * 70_000 for number in range(100)]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda value: _run(decoders, partial(bytes, value)), values)) == values
    wait_until(lambda: not forkserver.children())
    # Other tests' threads open and close files of this process meanwhile; a call that leaves one leaves a hundred.
    assert len(os.listdir("/proc/self/fd")) + forkserver.num_fds() < before + 50
    assert forkserver.num_threads() == 1


def test_run_failed_write_leaves_no_files(tmp_path: Path) -> None:
    out = tmp_path / "speech.npy"
    out.write_bytes(b"old")
    with (
        Decoders(DecoderConfig(max_file_bytes=1000)) as decoders,
        pytest.raises(OSError, match="too large"),
        written_atomically(out) as part,
    ):
        _run(decoders, partial(decoder_tasks.write_much, part, 2000), writes=part.parent)
    assert [path.name for path in tmp_path.iterdir()] == ["speech.npy"] and out.read_bytes() == b"old"


def test_decoders_niceness_lowers_the_priority() -> None:
    with Decoders(DecoderConfig(), niceness=3) as decoders:
        found = os.getpriority(os.PRIO_PROCESS, _forkserver_of(decoders).pid)
    assert found == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 3)


def test_decoders_share_modules_that_start_no_threads() -> None:
    with Decoders(DecoderConfig(), modules=ResultWriter.MODULES) as decoders:
        missing = _run(decoders, partial(decoder_tasks.not_imported, *ResultWriter.MODULES))
        assert missing == "" and _forkserver_of(decoders).num_threads() == 1


def _config(open_timeout_s: float, cpu_share: float = 0.5) -> PipelineConfig:
    limits, decoder = MediaLimits(open_timeout_s=open_timeout_s), DecoderConfig(cpu_share=cpu_share)
    return PipelineConfig(limits=limits, decoder=decoder)


def test_upload_probe_returns_the_probes_result(decoders: Decoders, h264: Path) -> None:
    probes = UploadProbe(decoders, _config(60), [h264, h264])
    assert probes.run(probe_video, h264) == probe_video(h264, LIMITS)
    assert probes.run(probe_audio, h264) == probe_audio(h264, LIMITS)


def test_upload_probe_busy_decoder_is_refused_in_time(decoders: Decoders, h264: Path) -> None:
    # Either bound comes first on a busy machine; the file is to blame by both.
    start = time.monotonic()
    with pytest.raises(MediaLimitError, match=r"h264.*(needs too much CPU time|took more than 4 s)"):
        UploadProbe(decoders, _config(4, 0.05), [h264]).run(decoder_tasks.spinning_probe, h264)
    assert time.monotonic() - start < 60


def test_upload_probe_waiting_decoder_is_a_stage_timeout(decoders: Decoders, h264: Path) -> None:
    with pytest.raises(StageTimeoutError, match=r"h264\.mp4") as caught:
        UploadProbe(decoders, _config(2), [h264]).run(decoder_tasks.sleeping_probe, h264)
    assert not isinstance(caught.value, MediaLimitError)


def test_upload_probe_files_share_the_timeout(decoders: Decoders, h264: Path) -> None:
    probes = UploadProbe(decoders, _config(60), [h264, h264])
    assert probes.seconds == pytest.approx(60, abs=0.1)
    probes._deadline -= 60  # what the first one takes
    with pytest.raises(StageTimeoutError):
        probes.run(decoder_tasks.sleeping_probe, h264)  # ends in a third of a minute, if it may


def test_decoder_timeout_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(DecoderTimeoutError("a.mp4: late", 1.5)))
    assert (str(error), error.cpu_seconds, error.was_retried) == ("a.mp4: late", 1.5, False)


def _freed_script(setting: str, mib: int) -> str:
    """Print how many MiB are freed of 20 arrays when all but the last one are deleted.

    One large block freed makes glibc take them from its heap; the last one then holds the freed ones below it.
    """
    return f"""
import numpy as np
from lipwright.media.decoding.memory_budget import {setting}

def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

{setting}()
large = np.ones(30 * 2**20, np.uint8)
del large
arrays = [np.ones({mib} * 2**20, np.uint8) for _ in range(20)]
full = resident_mib()
del arrays[:-1]
print(full - resident_mib())
"""


_FAULTS_SCRIPT = """
import resource, threading
import numpy as np
from lipwright.media.decoding.memory_budget import retain_freed_buffers

def work():
    for _ in range(300):
        first = np.ones((480, 480), np.float32)
        second = first + 1
        del first, second
    for _ in range(5):
        thread = threading.Thread(target=lambda: [np.ones(2**20, np.uint8) for _ in range(150)])
        thread.start()
        thread.join()

def num_faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

retain_freed_buffers()
work()
before = num_faults()
work()
print(num_faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
@pytest.mark.parametrize(
    ("script", "least", "most"),
    [
        (_freed_script("release_freed_frames", 3), 19 * 3 - 2, 1000),  # MiB
        (_freed_script("release_large_arrays", 9), 19 * 9 - 2, 1000),
        (_FAULTS_SCRIPT, 0, 2000),  # page faults; 50,000 or more without one of its three settings
    ],
    ids=["release_freed_frames", "release_large_arrays", "retain_freed_buffers"],
)
def test_malloc_tuning_frees_frames_and_keeps_buffers(script: str, least: float, most: float) -> None:
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert least <= float(answer.stdout) < most
