"""`lipwright mcp` and `live-worker`: integrations that need an optional dependency."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from lipwright.cli.local_service import ANY_SERVER, Server
from lipwright.cli.terminal import UsageError


def mcp(
    server: Server = ANY_SERVER,
    folder: Annotated[
        Path,
        typer.Option(help="Folder for inputs and results. The model cannot access files outside it.", file_okay=False),
    ] = Path(),
) -> None:
    """Run an MCP (Model Context Protocol) server on standard input and output.

    Requires a running service and the extra `mcp`.
    """
    if not folder.is_dir():
        raise UsageError("input_invalid", f"--folder: {folder} does not exist.")
    with _extra("mcp"):
        from integrations.mcp_server import run
    run(server, folder)


def live_worker(
    avatar_id: Annotated[str, typer.Argument(help="ID of the avatar.")],
    livekit: Annotated[str, typer.Option(envvar="LIVEKIT_URL", help="URL of the LiveKit server (wss://...).")],
    token: Annotated[str, typer.Option(envvar="LIVEKIT_TOKEN", help="LiveKit access token of this participant.")],
    server: Server = ANY_SERVER,
) -> None:
    """Join a LiveKit room as the avatar of an agent, until the room closes.

    Requires a running service and the extra `livekit`. The agent must use DataStreamAudioOutput.
    """
    with _extra("livekit"):
        from integrations.livekit_worker import run
    asyncio.run(run(livekit, token, server, avatar_id))


@contextlib.contextmanager
def _extra(name: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        message = f"{error.name} is not installed. Install it from the checkout with: pip install -e '.[{name}]'"
        raise UsageError("extra_missing", message) from error
