"""`lipwright mcp` and `lipwright gradio`: doors that need an extra each."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from cli.terminal import DEFAULT_SERVER, Server, UsageError, one_line_errors


def mcp(
    server: Server = DEFAULT_SERVER,
    folder: Annotated[
        Path,
        typer.Option(help="Where inputs lie and results go; the model gets at nothing beside it.", file_okay=False),
    ] = Path(),
) -> None:
    """Serve tools for models (Model Context Protocol) on standard input and output.

    Needs a running service, and the extra `mcp`.
    """
    with one_line_errors():
        if not folder.is_dir():
            raise UsageError("input_invalid", f"--folder: there is no folder {folder}.")
        with _extra("mcp"):
            from integrations.mcp_server import run
        run(server, folder)


def gradio(
    server: Server = DEFAULT_SERVER,
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port on loopback.")] = 7860,
) -> None:
    """Show a Gradio page of a running service to this machine, until Ctrl-C.

    Needs the extra `gradio`.
    """
    with one_line_errors():
        with _extra("gradio"):
            from integrations.gradio_page import run
        print(f"The page: http://127.0.0.1:{port} (service: {server}). Ctrl-C ends it.", flush=True)
        run(server, port)


def live_worker(
    avatar_id: Annotated[str, typer.Argument(help="An avatar that the service keeps.")],
    livekit: Annotated[str, typer.Option(envvar="LIVEKIT_URL", help="Address of the LiveKit server: wss://...")],
    token: Annotated[
        str, typer.Option(envvar="LIVEKIT_TOKEN", help="Of this participant, made by whoever starts the agent.")
    ],
    server: Server = DEFAULT_SERVER,
) -> None:
    """Be the avatar of an agent in a LiveKit room, until the room ends.

    Needs a running service, and the extra `livekit`. The agent sends its voice with DataStreamAudioOutput.
    """
    with one_line_errors():
        with _extra("livekit"):
            from integrations.livekit_worker import run
        asyncio.run(run(livekit, token, server, avatar_id))


def check_extra(name: str) -> None:
    """See that an extra is there, without the seconds that its import takes.

    Raises:
        UsageError: It is not.
    """
    with _extra(name):
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(name=name)


@contextlib.contextmanager
def _extra(name: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        message = f"{error.name} is missing: pip install 'lipwright[{name}]'."
        raise UsageError("extra_missing", message) from error
