"""Inputs of tests: long ones, and uploads that are sent byte by byte."""

from __future__ import annotations

import io
import json
import socket
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import httpx
import numpy as np
from numpy.typing import NDArray

from benchmarks.media_files import read_wav, write_film
from tests.faults.load import Pair

SPEECH_RATE = 16000


def speech_samples(speech: Path, num_samples: int) -> NDArray[np.int16]:
    """The speech of a 16 kHz WAV file, over and over: (num_samples,) int16."""
    return np.resize(read_wav(speech)[0], num_samples)


def long_wav(speech: Path, seconds: float, sample_rate: int = SPEECH_RATE, num_channels: int = 1) -> bytes:
    """A WAV file of 8-bit samples; at another rate than 16 kHz the voice is another, too."""
    samples = speech_samples(speech, round(seconds * sample_rate) * num_channels)
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setparams((num_channels, 1, sample_rate, 0, "NONE", "not compressed"))
        file.writeframes(((samples >> 8) + 128).astype(np.uint8).tobytes())
    return target.getvalue()


def long_video(sample_video: Path, num_frames: int, fps: int = 25, sound: Path | None = None) -> bytes:
    """The sample avatar, over and over, with the speech `sound` as its own voice."""
    target = io.BytesIO()
    with av.open(str(sample_video)) as source:
        pictures = list(source.decode(video=0))
    samples = None if sound is None else speech_samples(sound, num_frames * SPEECH_RATE // fps)
    write_film(target, islice(cycle(pictures), num_frames), fps, {"preset": "ultrafast"}, samples)
    return target.getvalue()


class RawUpload:
    """One POST to /v1/jobs, of which only the head is sent at first."""

    def __init__(self, line: socket.socket, body: bytes) -> None:
        self._line = line
        self._body = body

    def send(self, num_bytes: int | None = None) -> None:
        """Send so much more of the body, or all of it."""
        piece, self._body = self._body[:num_bytes], self._body[num_bytes:] if num_bytes else b""
        self._line.sendall(piece)

    def send_chunk(self, num_bytes: int) -> None:
        """Send so much more of a chunked body."""
        piece, self._body = self._body[:num_bytes], self._body[num_bytes:]
        self._line.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")

    def answer(self, timeout_s: float = 60.0) -> tuple[int, dict[str, str], dict[str, Any]]:
        """Status, headers and JSON of the answer."""
        self._line.settimeout(timeout_s)
        answer = HTTPResponse(self._line)
        answer.begin()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, json.load(answer)


@contextmanager
def raw_upload(url: str, pair: Pair, headers: dict[str, str] | None = None) -> Iterator[RawUpload]:
    """A line with the head of a submission of `pair`; closed, whatever was sent, at the end of the block.

    `headers` are added, and take the place of those that tell the body's length.
    """
    form = httpx.Request("POST", f"{url}/v1/jobs", files={"video": ("v", pair.video), "audio": ("a", pair.audio)})
    body, host = form.read(), urlsplit(url)
    fields = {"Host": host.netloc, "Content-Type": form.headers["content-type"], **(headers or {})}
    if not {"Content-Length", "Transfer-Encoding"} & set(fields):
        fields["Content-Length"] = str(len(body))
    with socket.create_connection((str(host.hostname), int(host.port or 80)), timeout=60) as line:
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        line.sendall(f"POST /v1/jobs HTTP/1.1\r\n{lines}\r\n".encode())
        yield RawUpload(line, body)
