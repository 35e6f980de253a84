"""FFmpeg as the server that streams are pushed to: it records what comes."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import imageio_ffmpeg


@contextmanager
def recording(options: list[str], path: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Record one stream to a file; the server is killed at the end if it still runs."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), *("-nostdin", "-v", "info", "-y"), *options]
    command += ["-c", "copy", "-flush_packets", "1"]
    with log.open("wb") as errors:
        server = subprocess.Popen([*command, str(path)], stdin=subprocess.DEVNULL, stderr=errors)
    try:
        yield server
    finally:
        server.kill()
        server.wait(10)


def start_seconds(path: Path) -> float:
    """Return the stream time at which a recording began. FFmpeg counts from zero in the file."""
    found = re.search(r"start: ([\d.]+)", path.with_suffix(".log").read_text())
    assert found is not None
    return float(found[1])


@contextmanager
def rtmp_server(port: int, path: Path, key: str = "live/key") -> Iterator[subprocess.Popen[bytes]]:
    """Serve RTMP to one publisher."""
    url = f"rtmp://127.0.0.1:{port}/{key}"
    with recording(["-listen", "1", "-i", url], path, path.with_suffix(".log")) as server:
        _until_listening(f"/proc/{server.pid}/net/tcp", port, "0A", server)
        yield server


@contextmanager
def srt_listener(port: int, path: Path, query: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """Listen for one SRT caller."""
    url = f"srt://127.0.0.1:{port}?mode=listener{query}"
    with recording(["-f", "mpegts", "-i", url], path, path.with_suffix(".log")) as server:
        _until_listening(f"/proc/{server.pid}/net/udp", port, "07", server)
        yield server


def _until_listening(table: str, port: int, state: str, server: subprocess.Popen[bytes]) -> None:
    """Wait for a socket without connecting to it, which the server would take for its only client."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and server.poll() is None:
        rows = [line.split() for line in Path(table).read_text().splitlines()[1:]]
        if any(row[1].endswith(f":{port:04X}") and row[3] == state for row in rows):
            return
        time.sleep(0.01)
    raise AssertionError(f"the server does not listen on {port} (status {server.poll()})")
