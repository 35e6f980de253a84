from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# One large block freed makes glibc take frames from its heap; the last frame, kept, then holds the freed ones below it.
_SCRIPT = """
import numpy as np
from media.decoding.memory_budget import release_freed_frames

def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

release_freed_frames()
large = np.ones(30 * 2**20, np.uint8)
del large
frames = [np.ones(3 * 2**20, np.uint8) for _ in range(20)]
full = resident_mib()
del frames[:-1]
print(full - resident_mib())
"""


_BUFFER_SCRIPT = """
import resource
import numpy as np
from media.decoding.memory_budget import retain_freed_buffers

def make_and_drop():
    for _ in range(300):
        first = np.ones((480, 480), np.float32)
        second = first + 1
        del first, second

retain_freed_buffers()
make_and_drop()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
make_and_drop()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


_ENCODER_SCRIPT = """
import resource
import threading
from media.decoding.memory_budget import retain_freed_buffers
from media.writer import SegmentWriter
from tests.unit.media.clips import info_of, planes_of

def encode():
    writer = SegmentWriter(info_of(1280, 720), 20, "ultrafast")
    for number in range(12):
        writer.write(planes_of(number, 1280, 720))
    writer.finish()

def encode_segments():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        thread = threading.Thread(target=encode)
        thread.start()
        thread.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

retain_freed_buffers()
encode_segments()
print(encode_segments())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
@pytest.mark.parametrize(
    ("script", "least", "most"),
    [
        (_SCRIPT, 19 * 3 - 2, 1000),  # MiB
        (_BUFFER_SCRIPT, 0, 1000),  # page faults; 125,000 if each buffer is mapped again
        (_ENCODER_SCRIPT, 0, 2000),  # 10,000 if the memory of each encoder is mapped again
    ],
    ids=["release_freed_frames", "retain_freed_buffers", "retain_freed_buffers_encoder"],
)
def test_malloc_tuning_frees_frames_and_keeps_buffers(script: str, least: float, most: float) -> None:
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert least <= float(answer.stdout) < most
