"""`lipwright live`: streams speech to a running service and writes the video stream it returns."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Annotated, Final

import typer

from lipwright.cli.job_options import with_job_options
from lipwright.cli.local_service import ANY_SERVER, Server
from lipwright.cli.run_job import check_input, check_writable
from lipwright.cli.terminal import CommandError, UsageError, service
from lipwright.jobs.model.avatar_settings import AvatarSettings
from lipwright_client import LiveEvent, LiveSession, calls
from lipwright_client.async_live import DEFAULT_RATE
from lipwright_client.files import Writable, atomic_target

_TKHD_ID, _MDHD_TIMESCALE, _TFHD_ID, _TFDT_TIME = 12, 12, 4, 4  # offsets in version 0 of the boxes (ISO/IEC 14496-12)
_ROUNDING_SECONDS: Final = 0.001


class JoinedStream:
    """Joins streams. A stream whose time begins again is moved behind the one before; its equal head is left out.

    Attributes:
        seconds: Length so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._head, self._offset = b"", 0.0
        self._timescales: dict[int, int] = {}

    def media(self, event: LiveEvent) -> bytes:
        """Return what to write for an event."""
        if event.type == "session.stream":
            last, self._head = self._head, event.media
            self._timescales = dict(_timescales(event.media))
            return b"" if event.media == last else event.media
        if event.type != "session.fragment":
            return event.media
        start, duration = float(event.raw["start_seconds"]), float(event.raw["duration_seconds"])
        if self._offset + start < self.seconds - _ROUNDING_SECONDS:
            self._offset = self.seconds - start
        self.seconds = self._offset + start + duration
        return self._shift_times(event.media) if self._offset else event.media

    def _shift_times(self, media: bytes) -> bytes:
        """Return a fragment with its decode times moved."""
        moved = bytearray(media)
        for track in _contents(media, b"moof", b"traf"):
            ((header, _),) = _contents(media, b"tfhd", within=track)
            ((time, _),) = _contents(media, b"tfdt", within=track)
            (track_id,) = struct.unpack_from(">I", media, header + _TFHD_ID)
            layout = ">Q" if media[time] else ">I"
            (ticks,) = struct.unpack_from(layout, media, time + _TFDT_TIME)
            ticks += round(self._offset * self._timescales[track_id])
            struct.pack_into(layout, moved, time + _TFDT_TIME, ticks)
        return bytes(moved)


def _timescales(head: bytes) -> Iterator[tuple[int, int]]:
    """Yield the ID and the ticks per second of each track."""
    for track in _contents(head, b"moov", b"trak"):
        ((header, _),) = _contents(head, b"tkhd", within=track)
        ((media, _),) = _contents(head, b"mdia", b"mdhd", within=track)
        yield (
            struct.unpack_from(">I", head, header + _TKHD_ID)[0],
            struct.unpack_from(">I", head, media + _MDHD_TIMESCALE)[0],
        )


def _contents(data: bytes, *path: bytes, within: tuple[int, int] | None = None) -> Iterator[tuple[int, int]]:
    """Yield the start and end of the content of each box with a path of types."""
    start, end = within or (0, len(data))
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        if kind == path[0]:
            content = start + 8, start + size
            yield from _contents(data, *path[1:], within=content) if path[1:] else (content,)
        start += max(size, 8)


_PIECE_SECONDS: Final = 0.04
_SAMPLE_BYTES: Final = 2
_FILE_RATE: Final = 48000  # of the sound of a file, in Hz
_KEEP_ALIVE_EVENTS: Final = 250  # about 20 s of stream


@partial(with_job_options, names=AvatarSettings.model_fields)
def live(
    fields: calls.AvatarSettings,
    avatar_id: Annotated[str | None, typer.Argument(help="Avatar ID; see `lipwright avatars list`.")] = None,
    video: Annotated[
        str | None,
        typer.Option(help="Video or portrait (file or URL) to use instead of AVATAR_ID. It is not kept."),
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="Fragmented MP4 to write; - for standard output. Optional with PUSH.")
    ] = None,
    push: Annotated[
        list[str] | None,
        typer.Option(
            envvar="LIPWRIGHT_PUSH",
            help="Destination to push to: rtmp(s)://host/app/key, srt://host:port?streamid=key, or https:// for WHIP. "
            "May be given several times. The service's operator must allow it.",
        ),
    ] = None,
    push_token: Annotated[
        str | None, typer.Option(envvar="LIPWRIGHT_PUSH_TOKEN", help="Bearer token for WHIP destinations.")
    ] = None,
    stay: Annotated[
        bool, typer.Option("--stay", help="Go on, idle, after the speech has ended, until Ctrl-C.")
    ] = False,
    audio: Annotated[
        str, typer.Option(help="Audio file, or a video with sound; - for raw 16-bit mono PCM from standard input.")
    ] = "-",
    text: Annotated[
        str | None, typer.Option(help="Text to speak instead of AUDIO. Requires a voice on the service.")
    ] = None,
    voice: Annotated[str | None, typer.Option(help="Voice for TEXT. Default: the service's.")] = None,
    rate: Annotated[int, typer.Option(help="Sample rate of raw PCM, in Hz.")] = DEFAULT_RATE,
    server: Server = ANY_SERVER,
) -> None:
    """Animate an avatar with live audio, and write or push the video stream.

    Example: lipwright live ID --audio speech.wav --out - | ffplay -i -

    Example: lipwright live ID --audio speech.wav --push rtmps://a.rtmps.youtube.com/live2/KEY --stay
    """
    if out is None and not push:
        raise UsageError("option_invalid", "Pass --out, --push or both.")
    if (avatar_id is None) == (video is None):
        raise UsageError("option_invalid", "Pass either AVATAR_ID or --video.")
    if text is None and audio != "-":
        check_input("audio", Path(audio))
    if out not in (None, "-"):
        check_writable(Path(str(out)))
    client = service(server)
    with _sound(audio, rate) as (pieces, sample_rate), _target(out) as target:
        with client.live(avatar_id, sample_rate, video=video, receives_video=out is not None, **fields) as session:
            for url in push or ():
                session.start_output(url, push_token)
            stream = JoinedStream()
            _write(_wait_for_outputs(session, len(push or ())), stream, target)
            seconds = _write(session.say(pieces) if text is None else _speak_text(session, text, voice), stream, target)
            if stay:
                with suppress(KeyboardInterrupt):
                    seconds = _write(_stay_idle(session), stream, target)
        print(f"{out or 'pushed'}: {seconds:.1f} s", file=sys.stderr)


def _write(events: Iterator[LiveEvent], stream: JoinedStream, target: Writable) -> float:
    """Write the media of the events and tell what happens. Return the stream time of the end."""
    for event in events:
        target.write(stream.media(event))
        sys.stdout.flush()
        if event.type == "session.state_updated":
            print(event.raw["state"], file=sys.stderr)
        elif event.type == "output.state_updated":
            _report_output(event)
        elif event.type == "error":
            raise CommandError(str(event.raw["code"]), str(event.raw["message"]))
    return stream.seconds


def _report_output(event: LiveEvent) -> None:
    """Print the state of an output; one that has ended with an error ends the command."""
    raw = event.raw
    about = f"{raw['destination']}: {raw['state']}"
    if raw["state"] == "ended" and raw.get("message"):
        raise CommandError(str(raw["code"]), str(raw["message"]))
    print(f"{about} ({raw['message']})" if raw.get("message") else about, file=sys.stderr)


def _wait_for_outputs(session: LiveSession, num_outputs: int) -> Iterator[LiveEvent]:
    """Yield the events until no output is still connecting, so that they receive the speech from its beginning."""
    states: dict[str, str] = {}
    for event in session if num_outputs else ():
        if event.type == "output.state_updated":
            states[event.raw["output_id"]] = event.raw["state"]
        yield event
        if len(states) == num_outputs and "connecting" not in states.values():
            return


def _stay_idle(session: LiveSession) -> Iterator[LiveEvent]:
    """Yield the events of an idle session, and keep it alive."""
    for number, event in enumerate(session):
        if number % _KEEP_ALIVE_EVENTS == 0:
            session.keep_alive()
        yield event


def _speak_text(session: LiveSession, text: str, voice: str | None) -> Iterator[LiveEvent]:
    """Speak a text and yield the events until it is finished."""
    session.speak_text(text, voice)
    for event in session:
        yield event
        if event.type == "agent.speak_ended":
            return


@contextmanager
def _sound(audio: str, rate: int) -> Iterator[tuple[Iterator[bytes], int]]:
    """Yield chunks of 16-bit mono PCM and their sample rate."""
    if audio == "-":
        assert isinstance(sys.stdin.buffer, BufferedReader)
        yield _pieces(sys.stdin.buffer, rate), rate
        return
    from lipwright.config import MediaLimits
    from lipwright.media.audio import AudioTrack

    with closing(AudioTrack(Path(audio), MediaLimits())) as track:
        yield (block.astype("<i2").tobytes() for block in track.blocks(_FILE_RATE, "mono", "s16p")), _FILE_RATE


def _pieces(source: BufferedReader, rate: int) -> Iterator[bytes]:
    """Yield whole samples from a pipe as soon as they arrive."""
    size, rest = round(_PIECE_SECONDS * rate) * _SAMPLE_BYTES, b""
    while piece := source.read1(size):
        rest += piece
        whole = len(rest) // _SAMPLE_BYTES * _SAMPLE_BYTES
        yield rest[:whole]
        rest = rest[whole:]


@contextmanager
def _target(out: str | None) -> Iterator[Writable]:
    if out is None:
        yield BytesIO()  # there is no media to write
        return
    if out == "-":
        yield sys.stdout.buffer
        return
    with atomic_target(Path(out)) as file:
        yield file
