"""Inputs of tests: long ones, and uploads that are sent byte by byte."""

from __future__ import annotations

import io
import json
import socket
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import httpx
import numpy as np
from numpy.typing import NDArray

from tests.faults.load import Pair

SPEECH_RATE = 16000


def speech_samples(speech: Path, num_samples: int) -> NDArray[np.int16]:
    """The speech of a 16 kHz WAV file, over and over: (num_samples,) int16."""
    with wave.open(str(speech)) as source:
        samples = np.frombuffer(source.readframes(source.getnframes()), np.int16)
    return np.resize(samples, num_samples)


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
    with av.open(target, "w", format="mp4") as out:
        video: Any = out.add_stream("libx264", rate=fps, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = pictures[0].width, pictures[0].height, "yuv420p"
        voice: Any = out.add_stream("aac", rate=SPEECH_RATE, layout="mono") if sound is not None else None
        for number, picture in enumerate(islice(cycle(pictures), num_frames)):
            picture.pts, picture.time_base, picture.pict_type = number, Fraction(1, fps), 0
            out.mux(video.encode(picture))
        out.mux(video.encode())
        if sound is not None:
            samples = speech_samples(sound, num_frames * SPEECH_RATE // fps)
            block = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
            block.sample_rate, block.pts = SPEECH_RATE, 0
            out.mux(voice.encode(block))
            out.mux(voice.encode())
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
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._more()
        head, _, body = received.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        while len(body) < int(headers["content-length"]):
            body += self._more()
        return int(status.split(" ")[1]), headers, json.loads(body)

    def _more(self) -> bytes:
        piece = self._line.recv(65536)
        assert piece, "the line ended before the answer"
        return piece


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
