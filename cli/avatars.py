"""`lipwright avatars`: the avatars of a running service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from cli.terminal import DEFAULT_SERVER, AsJson, Face, Server, commands, console, name, service, timestamp

app = commands(help="Manage the avatars of a running service.")


@app.command("list")
def list_avatars(server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """List avatars, newest first."""
    avatars = service(server).avatars.list()
    if as_json:
        print(json.dumps([avatar.raw for avatar in avatars], indent=2))
        return
    table = Table(Column("id", min_width=32), "name", "status", "size", "seconds", "created", box=None)
    for avatar in avatars:
        info = avatar.info
        size = f"{info.width}x{info.height}" if info else ""
        seconds = "" if info is None else "still" if info.is_still else f"{info.duration_seconds:.1f}"
        created = timestamp(avatar.created_at)
        table.add_row(avatar.id, name(avatar.label), avatar.status, size, seconds, created)
    console().print(table)


@app.command("add")
def add_avatar(
    video: Annotated[Path, typer.Argument(help="A video or a still portrait.", exists=True, dir_okay=False)],
    face: Face = "largest",
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Create an avatar and print its ID."""
    avatar = service(server).avatars.create(video=video, face=face)
    print(json.dumps(avatar.raw, indent=2) if as_json else avatar.id)


@app.command("delete")
def delete_avatar(avatar_id: str, server: Server = DEFAULT_SERVER) -> None:
    """Delete an avatar."""
    service(server).avatars.delete(avatar_id)
    print(f"deleted {avatar_id}")
