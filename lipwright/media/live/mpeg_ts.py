"""Live sessions without another encoding of the picture: as an MPEG transport stream, and as RTP packets for WebRTC."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Final, NamedTuple

import av
from av.packet import Packet
from av.stream import Stream

from lipwright.media.live.audio import AAC_SAMPLES, OPUS_SAMPLES, AacEncoder
from lipwright.media.live.encoder import LiveFragment
from lipwright.media.live.mp4_boxes import AUDIO_RATE


class RtpPackets(NamedTuple):
    """The packets of a fragment, on the time axis of the stream."""

    video: list[Packet[Stream]]
    audio: list[Packet[Stream]]


def rtp_packets(fragment: LiveFragment) -> RtpPackets:
    """Return the packets of a fragment. A keyframe carries its parameter sets."""
    video = []
    for number, frame in enumerate(fragment.pictures.byte_streams()):
        packet = Packet(frame)
        packet.pts, packet.time_base = fragment.first_frame + number, 1 / fragment.fps
        video.append(packet)
    audio = []
    for number, opus in enumerate(fragment.opus):
        packet = Packet(opus)
        packet.pts, packet.time_base = fragment.first_sample + number * OPUS_SAMPLES, Fraction(1, AUDIO_RATE)
        audio.append(packet)
    return RtpPackets(video, audio)


_OPTIONS: Final = {"flush_packets": "1", "mpegts_flags": "resend_headers", "pat_period": "0.5", "max_delay": "0"}


class TsMuxer:
    """Turns the fragments of one connection into a transport stream, on the time axis of the stream.

    Fragments may be missing before one that begins with a keyframe; the sound continues after the gap.
    """

    def __init__(self) -> None:
        self._file = io.BytesIO()
        self._container = av.open(self._file, "w", format="mpegts", options=_OPTIONS)
        self._encoder: AacEncoder | None = None
        self._video: Stream | None = None
        self._audio: Stream | None = None

    def mux(self, fragment: LiveFragment) -> bytes:
        """Return the packets of a fragment."""
        if self._encoder is None or self._encoder.next_sample != fragment.first_sample:
            self._encoder = AacEncoder(fragment.first_sample)
        video, audio = self._streams(fragment.fps)
        packets = []
        for number, frame in enumerate(fragment.pictures.byte_streams()):
            is_key = number == 0 and fragment.pictures.is_key
            packet = Packet(frame)
            packet.time_base = 1 / fragment.fps
            packet.pts = packet.dts = fragment.first_frame + number
            packet.duration, packet.is_keyframe, packet.stream = 1, is_key, video
            packets.append(packet)
        for sound in self._encoder.encode(fragment.sound):
            packet = Packet(sound.adts)
            packet.time_base = Fraction(1, AUDIO_RATE)
            packet.pts = packet.dts = sound.first_sample
            packet.duration, packet.is_keyframe, packet.stream = AAC_SAMPLES, True, audio
            packets.append(packet)
        for packet in sorted(packets, key=lambda each: (each.pts or 0) * each.time_base):
            self._container.mux_one(packet)
        made = self._file.getvalue()
        self._file.seek(0)
        self._file.truncate()
        return made

    def close(self) -> None:
        """Free the muxer."""
        self._container.close()

    def _streams(self, fps: Fraction) -> tuple[Stream, Stream]:
        if self._video is None or self._audio is None:
            self._video = self._container.add_mux_stream("h264", rate=fps)
            self._audio = self._container.add_mux_stream("aac", rate=AUDIO_RATE)
        return self._video, self._audio
