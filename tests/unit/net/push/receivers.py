"""FFmpeg as the server that streams are pushed to: it records what comes."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import imageio_ffmpeg

from tests.waiting import wait_until


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
    url = f"rtmp://127.0.0.1:{port}/{key}"
    with recording(["-listen", "1", "-i", url], path, path.with_suffix(".log")) as server:
        _until_listening(f"/proc/{server.pid}/net/tcp", port, {"0A", "01"}, server)
        yield server


@contextmanager
def srt_listener(port: int, path: Path, query: str = "") -> Iterator[subprocess.Popen[bytes]]:
    url = f"srt://127.0.0.1:{port}?mode=listener{query}"
    with recording(["-f", "mpegts", "-i", url], path, path.with_suffix(".log")) as server:
        _until_listening(f"/proc/{server.pid}/net/udp", port, {"07"}, server)
        yield server


def _until_listening(table: str, port: int, states: set[str], server: subprocess.Popen[bytes]) -> None:
    """Wait for a socket without connecting to it, which the server would take for its only client."""

    def is_listening() -> bool:
        assert server.poll() is None, f"the server ended with status {server.poll()}"
        rows = [line.split() for line in Path(table).read_text().splitlines()[1:]]
        return any(row[1].endswith(f":{port:04X}") and row[3] in states for row in rows)

    wait_until(is_listening, pause_s=0.01)
