"""`lipwright live`: streams speech to a running service and writes the video stream it returns."""

from __future__ import annotations

import sys
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Annotated, Final

import typer

from cli.terminal import DEFAULT_SERVER, Server, UsageError, service
from lipwright_client import LiveEvent, LiveSession
from lipwright_client.async_live import DEFAULT_RATE
from lipwright_client.files import Writable, atomic_target

_PIECE_SECONDS: Final = 0.04
_SAMPLE_BYTES: Final = 2


def live(
    out: Annotated[str, typer.Option(help="Fragmented MP4 to write; - for standard output.")],
    avatar_id: Annotated[str | None, typer.Argument(help="Avatar ID; see `lipwright avatars list`.")] = None,
    video: Annotated[
        str | None,
        typer.Option(help="Video or portrait (file or URL) to use instead of AVATAR_ID. It is not kept."),
    ] = None,
    audio: Annotated[
        str, typer.Option(help="WAV file (16-bit PCM); - for raw 16-bit mono PCM from standard input.")
    ] = "-",
    text: Annotated[
        str | None, typer.Option(help="Text to speak instead of AUDIO. Requires a voice on the service.")
    ] = None,
    voice: Annotated[str | None, typer.Option(help="Voice for TEXT. Default: the service's.")] = None,
    rate: Annotated[int, typer.Option(help="Sample rate of raw PCM, in Hz.")] = DEFAULT_RATE,
    expressiveness: Annotated[float, typer.Option(min=0, max=2, help="Scale of the mouth movement.")] = 1.0,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Animate an avatar with live audio, and write the video stream.

    Example: lipwright live ID --audio speech.wav --out - | ffplay -i -
    """
    with _sound(audio, rate) as (pieces, sample_rate), _target(out) as target:
        seconds = 0.0
        with service(server).live(avatar_id, sample_rate, video=video, expressiveness=expressiveness) as session:
            for event in session.say(pieces) if text is None else _reading(session, text, voice):
                target.write(event.media)
                sys.stdout.flush()
                if event.type == "session.fragment":
                    seconds = event.raw["start_seconds"] + event.raw["duration_seconds"]
                elif event.type == "session.state_updated":
                    print(event.raw["state"], file=sys.stderr)
        print(f"{out}: {seconds:.1f} s", file=sys.stderr)


def _reading(session: LiveSession, text: str, voice: str | None) -> Iterator[LiveEvent]:
    """Speak a text and yield the events until it is finished."""
    session.speak_text(text, voice)
    for event in session:
        if event.type == "error":
            raise UsageError(str(event.raw["code"]), str(event.raw["message"]))
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
    try:
        with wave.open(audio, "rb") as file:
            if file.getsampwidth() != _SAMPLE_BYTES or file.getnchannels() != 1:
                found = f"{8 * file.getsampwidth()} bit, {file.getnchannels()} channels"
                raise UsageError("input_invalid", f"{audio}: expected 16-bit mono PCM, found {found}.")
            num = round(_PIECE_SECONDS * file.getframerate())
            yield iter(lambda: file.readframes(num), b""), file.getframerate()
    except (wave.Error, EOFError) as error:
        raise UsageError("input_invalid", f"{audio}: not a WAV file: {error}") from error


def _pieces(source: BufferedReader, rate: int) -> Iterator[bytes]:
    """Yield whole samples from a pipe as soon as they arrive."""
    size, rest = round(_PIECE_SECONDS * rate) * _SAMPLE_BYTES, b""
    while piece := source.read1(size):
        rest += piece
        whole = len(rest) // _SAMPLE_BYTES * _SAMPLE_BYTES
        yield rest[:whole]
        rest = rest[whole:]


@contextmanager
def _target(out: str) -> Iterator[Writable]:
    if out == "-":
        yield sys.stdout.buffer
        return
    with atomic_target(Path(out)) as file:
        yield file
