"""`lipwright mcp`, `gradio` and `live-worker`: integrations that need an optional dependency."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import socket
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


def gradio(
    server: Server = ANY_SERVER,
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port on localhost.")] = 7860,
) -> None:
    """Run a Gradio page for a running service on localhost until Ctrl-C.

    Requires the extra `gradio`.
    """
    try:
        listener = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise UsageError(
            "input_invalid", f"--port {port}: {os.strerror(error.errno or 0)}. Choose another port."
        ) from error
    with listener:
        with _extra("gradio"):
            from integrations.gradio_page import run
        print(f"Gradio page: http://127.0.0.1:{port} (service: {server}). Press Ctrl-C to stop.", flush=True)
        run(server, listener)


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


def check_extra(name: str) -> None:
    """Check that an extra is installed without importing it.

    Raises:
        UsageError: It is not installed.
    """
    with _extra(name):
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(name=name)


@contextlib.contextmanager
def _extra(name: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        message = f"{error.name} is not installed. Install it from the checkout with: pip install -e '.[{name}]'"
        raise UsageError("extra_missing", message) from error
