"""Packets of a live session for WebRTC: H.264 and Opus, without another encoding."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from av.packet import Packet
from av.stream import Stream

from media.live.audio import OPUS_SAMPLES
from media.live.mp4_boxes import AUDIO_RATE
from media.live.stream_writer import LiveFragment


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
