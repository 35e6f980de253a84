"""Copies frames of an H.264 source into segments without decoding them.

Copied and encoded segments have different parameter sets, so both carry theirs in front of their first frame, in
tracks of type `avc3` (ISO/IEC 14496-15, 5.3.3).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from lipwright.config import MediaLimits
from lipwright.errors import MediaError
from lipwright.media.container import discard_other_streams, ffmpeg_errors, open_container
from lipwright.media.frame_table import frame_table, video_stream
from lipwright.media.probe import VideoInfo

IN_BAND_TAG: Final = "avc3"
"""Type of a track whose parameter sets are in its frames."""
MAX_REORDER_DEPTH: Final = 16
"""The most frames by which decoding can be ahead of presentation (ITU-T H.264, A.3.1)."""
_FORMATS: Final = frozenset({"yuv420p", "yuvj420p"})
_IDR, _SPS_COUNT_MASK = 5, 31
_LENGTH_BYTES: Final = 4


def copyable_keys(path: Path, info: VideoInfo, limits: MediaLimits) -> bytes:
    """Return the frames before which a copy may start or end, ascending: IDR frames, and the end of the stream.

    They are int64, in the byte order of the machine: a reply of a decoder process.
    Empty if frames cannot be copied: another codec or pixel format, a turned or cropped picture, a varying rate, or a
    container without lengths and parameter sets as MP4 and Matroska have them.
    """
    is_plain = not (info.is_still or info.is_variable_rate or info.rotation or info.is_mirrored)
    if not is_plain or info.codec != "h264" or info.pixel_format not in _FORMATS:
        return b""
    table = frame_table(path, limits)
    if not table.timed or len(table.pts) != info.num_frames:
        return b""
    with _open(path, limits) as container:
        stream = video_stream(container, path)
        context = stream.codec_context
        if (context.width, context.height) != (info.width, info.height) or not _parameter_sets(context.extradata):
            return b""
        first = int(table.pts[0])
        times = np.rint((table.pts - first) * float(table.time_base * info.fps)).astype(np.int64)
        if not np.array_equal(times, np.arange(info.num_frames)):
            return b""
        keys = []
        for packet in _packets(container, stream, path):
            if packet.is_discard or packet.pts is None:
                return b""  # an edit list hides frames
            if packet.is_keyframe and _is_idr(packet):
                keys.append(round((packet.pts - first) * table.time_base * info.fps))
    return np.array([*keys, info.num_frames], np.int64).tobytes() if keys and keys[0] == 0 else b""


def copied_ranges(keys: Sequence[int], free: Sequence[tuple[int, int]], max_frames: int) -> list[tuple[int, int]]:
    """Return ranges of whole groups of pictures within the `free` ranges, in order, of about `max_frames` at most.

    Args:
        keys: As `copyable_keys` returns them.
        free: Ranges [start, stop) of frames that may be copied, in order and disjoint.
        max_frames: A range is longer only if a single group of pictures is.
    """
    ranges: list[tuple[int, int]] = []
    for start, stop in free:
        usable = keys[bisect_left(keys, start) : bisect_right(keys, stop)]
        if not usable:
            continue
        begin = usable[0]
        for before, key in pairwise(usable):
            if key - begin > max_frames and before > begin:
                ranges.append((begin, before))
                begin = before
        if usable[-1] > begin:
            ranges.append((begin, usable[-1]))
    return ranges


def copy_segment(path: Path, out: Path, info: VideoInfo, start: int, stop: int, limits: MediaLimits) -> None:
    """Write frames [start, stop) of a source to the MP4 file `out`; both are of `copyable_keys`.

    Packets are those of the source, with the parameter sets in front of the first.

    Raises:
        MediaError: The file does not have these frames.
    """
    with _open(path, limits) as container, av.open(str(out), "w", format="mp4") as copy:
        assert isinstance(copy, OutputContainer)
        source = video_stream(container, path)
        stream = copy.add_stream_from_template(source, opaque=True)
        stream.codec_context.codec_tag = IN_BAND_TAG
        stream.time_base = 1 / info.fps
        delay, num_done = source.codec_context.reorder_depth, 0
        headers = b"".join(
            len(unit).to_bytes(_LENGTH_BYTES, "big") + unit for unit in _parameter_sets(source.codec_context.extradata)
        )
        for position, packet in _packets_from(container, source, path, info, start):
            if position >= stop and packet.is_keyframe:
                break
            if not start <= position < stop:
                raise MediaError(f"{path.name}: expected frames {start} to {stop}, found frame {position}.")
            made = packet if num_done else with_headers(packet, headers)
            made.pts, made.dts, made.duration, made.time_base = position - start, num_done - delay, 1, 1 / info.fps
            made.stream = stream
            copy.mux(made)
            num_done += 1
        if num_done != stop - start:
            raise MediaError(f"{path.name}: expected {stop - start} frames from frame {start} on, found {num_done}.")


def with_headers(packet: Packet[VideoStream], headers: bytes) -> Packet[VideoStream]:
    """Return a packet with parameter sets, in the same notation, in front of its frame."""
    made: Packet[VideoStream] = Packet(headers + bytes(packet))  # type: ignore[assignment]
    made.pts, made.dts, made.duration, made.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
    made.is_keyframe, made.stream = packet.is_keyframe, packet.stream
    return made


def _packets_from(
    container: InputContainer, stream: VideoStream, path: Path, info: VideoInfo, start: int
) -> Iterator[tuple[int, Packet[VideoStream]]]:
    """Yield packets from the key frame `start` on, each with the position of its frame."""
    time_base, first = stream.time_base, stream.start_time or 0
    assert time_base is not None
    if start:
        container.seek(first + round(start / info.fps / time_base), stream=stream)
    is_started = False
    for packet in _packets(container, stream, path):
        position = round(((packet.pts or 0) - first) * time_base * info.fps)
        is_started = is_started or (position == start and packet.is_keyframe)
        if is_started:
            yield position, packet


def _packets(container: InputContainer, stream: VideoStream, path: Path) -> Iterator[Packet[VideoStream]]:
    with ffmpeg_errors(path, "readable video packets"):
        for packet in container.demux(stream):
            if packet.size:
                yield packet


def _open(path: Path, limits: MediaLimits) -> InputContainer:
    container = open_container(path, limits)
    discard_other_streams(container, video_stream(container, path))
    return container


def _is_idr(packet: Packet[VideoStream]) -> bool:
    content, at = memoryview(packet), 0
    while at + _LENGTH_BYTES < len(content):
        kind = content[at + _LENGTH_BYTES] & 31
        if kind == _IDR:
            return True
        if 1 <= kind < _IDR:
            return False  # a slice of another picture
        at += _LENGTH_BYTES + int.from_bytes(content[at : at + _LENGTH_BYTES], "big")
    return False


def _parameter_sets(avc_configuration: bytes | None) -> list[bytes]:
    """Return SPS and PPS of an AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1); none of another record."""
    record = avc_configuration or b""
    if len(record) < 7 or record[0] != 1 or record[4] & 3 != _LENGTH_BYTES - 1:
        return []
    units: list[bytes] = []
    at = 5
    for mask in (_SPS_COUNT_MASK, 255):
        if at >= len(record):
            return []
        num = record[at] & mask
        at += 1
        for _ in range(num):
            size = int.from_bytes(record[at : at + 2], "big")
            units.append(record[at + 2 : at + 2 + size])
            at += 2 + size
    return units if at <= len(record) else []
