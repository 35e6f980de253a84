"""The messages of an RTMP stream: H.264 without another encoding, and AAC.

Adobe Flash Video File Format Specification 10.1, annex E.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from lipwright.media.live.audio import AacEncoder, AacPacket
from lipwright.media.live.encoder import LiveFragment
from lipwright.media.live.mp4_boxes import AUDIO_RATE, ParameterSets, avc_record

_AUDIO, _VIDEO = 8, 9
_AVC: Final = 7
_KEY_FRAME, _INTER_FRAME = 1, 2
_AAC: Final = 0xAF  # AAC; the specification fixes the other bits at any rate
_CONFIG, _CODED = 0, 1


class FlvTag(NamedTuple):
    """One audio or video message.

    Attributes:
        kind: 8 for audio, 9 for video.
        time_ms: Stream time.
        payload: Tag body.
    """

    kind: int
    time_ms: int
    payload: bytes


class FlvMuxer:
    """Turns the fragments of one connection into messages, in order of time, on the time axis of the stream.

    Fragments may be missing before one that begins with a keyframe; the sound continues after the gap.
    """

    def __init__(self) -> None:
        self._encoder: AacEncoder | None = None
        self._headers: ParameterSets | None = None

    def mux(self, fragment: LiveFragment) -> list[FlvTag]:
        """Return the messages of a fragment."""
        tags = self._sound(fragment) + self._pictures(fragment)
        return sorted(tags, key=lambda tag: tag.time_ms)  # stable: a configuration stays before what it configures

    def _pictures(self, fragment: LiveFragment) -> list[FlvTag]:
        frames, headers, tags = fragment.pictures.frames, fragment.pictures.headers, []
        if headers != self._headers:
            self._headers = headers
            tags.append(_video(_ms(fragment.start_seconds), _KEY_FRAME, _CONFIG, avc_record(headers)))
        for number, frame in enumerate(frames):
            kind = _KEY_FRAME if number == 0 and fragment.pictures.is_key else _INTER_FRAME
            tags.append(_video(_ms(float((fragment.first_frame + number) / fragment.fps)), kind, _CODED, frame))
        return tags

    def _sound(self, fragment: LiveFragment) -> list[FlvTag]:
        tags = []
        if self._encoder is None or self._encoder.next_sample != fragment.first_sample:
            self._encoder = AacEncoder(fragment.first_sample)
            tags.append(_audio(_CONFIG, AacPacket(fragment.first_sample, self._encoder.config)))
        return tags + [_audio(_CODED, packet) for packet in self._encoder.encode(fragment.sound)]


def _ms(seconds: float) -> int:
    return round(1000 * seconds)


def _video(time_ms: int, frame: int, kind: int, payload: bytes) -> FlvTag:
    return FlvTag(_VIDEO, time_ms, struct.pack(">BB3x", frame << 4 | _AVC, kind) + payload)


def _audio(kind: int, packet: AacPacket) -> FlvTag:
    return FlvTag(_AUDIO, _ms(packet.first_sample / AUDIO_RATE), bytes([_AAC, kind]) + packet.payload)
