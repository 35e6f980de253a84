"""`lipwright avatars`: presenters that a running service keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from cli.client import Client
from cli.terminal import DEFAULT_SERVER, Server, console, one_line_errors

app = typer.Typer(no_args_is_help=True, help="Presenters that a running service keeps: analysed once.")


@app.command("list")
def list_avatars(server: Server = DEFAULT_SERVER) -> None:
    """Show them, the newest first."""
    with one_line_errors():
        table = Table(Column("id", min_width=32), "name", "status", "size", "seconds", "created", box=None)
        for avatar in Client(server).request("GET", "/v1/avatars").json()["avatars"]:
            info = avatar["info"] or {}
            size = f"{info['width']}x{info['height']}" if info else ""
            seconds = "still" if info.get("is_still") else f"{info['duration_seconds']:.1f}" if info else ""
            table.add_row(avatar["id"], avatar["label"], avatar["status"], size, seconds, avatar["created_at"][:19])
        console().print(table)


@app.command("add")
def add_avatar(
    video: Annotated[Path, typer.Argument(help="A video or a still portrait.", exists=True, dir_okay=False)],
    face: Annotated[str, typer.Option(help="largest, an index, point:x,y or box:x0,y0,x1,y1.")] = "largest",
    server: Server = DEFAULT_SERVER,
) -> None:
    """Keep a presenter, and print its id."""
    with one_line_errors(), video.open("rb") as file:
        files = {"video": (video.name, file)}
        print(Client(server).request("POST", "/v1/avatars", files=files, data={"face": face}).json()["id"])


@app.command("delete")
def delete_avatar(avatar_id: str, server: Server = DEFAULT_SERVER) -> None:
    """Forget one."""
    with one_line_errors():
        Client(server).request("DELETE", f"/v1/avatars/{avatar_id}")
        print(f"deleted {avatar_id}")
