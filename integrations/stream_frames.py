"""Decodes the stream of a live session, fragment by fragment."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple

import av  # noqa: TID251  # the service's own stream, not an untrusted file
import numpy as np
from av.audio.codeccontext import AudioCodecContext  # noqa: TID251
from av.video.codeccontext import VideoCodecContext  # noqa: TID251
from numpy.typing import NDArray

SOUND_RATE: Final = 48_000


class Picture(NamedTuple):
    """One frame.

    Attributes:
        width: Pixels.
        height: Pixels.
        pixels: In the format of the decoder: of `yuv420p` the three planes, concatenated; of `rgb24` (H, W, 3) bytes.
        seconds: Stream time.
    """

    width: int
    height: int
    pixels: bytes
    seconds: float


class StreamFrames:
    """Decodes fragments with persistent decoders, so that audio is continuous.

    Args:
        head: Header of the stream.
        pixel_format: Of the pictures: `yuv420p` or `rgb24`.
    """

    def __init__(self, head: bytes, pixel_format: Literal["yuv420p", "rgb24"] = "yuv420p") -> None:
        self._head, self._pixel_format = head, pixel_format
        self._decoders: dict[str, Any] = {}

    def decode(self, fragment: bytes) -> tuple[list[Picture], NDArray[np.int16]]:
        """Return the frames of a fragment, and its (N,) int16 samples at 48 kHz."""
        pictures: list[Picture] = []
        sound = [np.zeros(0, np.int16)]
        for kind, frame in self._frames(fragment):
            if kind == "video":
                pixels = frame.to_ndarray(format=self._pixel_format).tobytes()
                pictures.append(Picture(frame.width, frame.height, pixels, float(frame.pts * frame.time_base)))
            else:
                sound.append(_int16(frame.to_ndarray()[0]))
        return pictures, np.concatenate(sound)

    def _frames(self, fragment: bytes) -> Iterator[tuple[str, Any]]:
        with av.open(io.BytesIO(self._head + fragment), "r", format="mp4") as container:
            for packet in container.demux():
                if packet.size:
                    kind = packet.stream.type
                    for frame in self._decoder(packet.stream).decode(packet):
                        frame.time_base = frame.time_base or packet.time_base
                        yield kind, frame

    def _decoder(self, stream: Any) -> Any:
        if stream.type not in self._decoders:
            if stream.type == "video":
                context: Any = VideoCodecContext.create("h264", "r")
                context.thread_count = 1  # frame threading would add latency
            else:
                context = AudioCodecContext.create("libopus", "r")
                context.sample_rate, context.layout = SOUND_RATE, "mono"
            context.extradata = stream.codec_context.extradata
            self._decoders[stream.type] = context
        return self._decoders[stream.type]


def _int16(samples: NDArray[Any]) -> NDArray[np.int16]:
    """Convert the samples of one channel to int16."""
    if samples.dtype == np.int16:
        return np.asarray(samples, np.int16)
    return (samples.clip(-1, 1) * 32767).astype(np.int16)
