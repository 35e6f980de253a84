"""`lipwright avatars`: the avatars of a running service."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from lipwright.cli.job_options import with_job_options
from lipwright.cli.local_service import ANY_SERVER, Server
from lipwright.cli.terminal import AsJson, commands, console, name, service, timestamp
from lipwright.jobs.model.avatar_settings import AvatarSettings
from lipwright_client import calls

app = commands(help="Manage the avatars of a running service.")
clips = commands(help="Manage the clips of an avatar: further videos of the same person.")
app.add_typer(clips, name="clips")


@app.command("list")
def list_avatars(server: Server = ANY_SERVER, as_json: AsJson = False) -> None:
    """List avatars, newest first."""
    avatars = service(server).avatars.list()
    if as_json:
        print(json.dumps([avatar.raw for avatar in avatars], indent=2))
        return
    table = Table(Column("id", min_width=32), "name", "status", "size", "seconds", "background", "created", box=None)
    for avatar in avatars:
        info = avatar.info
        size = f"{info.width}x{info.height}" if info else ""
        seconds = "" if info is None else "still" if info.is_still else f"{info.duration_seconds:.1f}"
        created = timestamp(avatar.created_at)
        background = avatar.background or avatar.background_id or ""
        table.add_row(avatar.id, name(avatar.label), avatar.status, size, seconds, background, created)
    console().print(table)


@app.command("add")
@partial(with_job_options, names=("face", "face_points", *AvatarSettings.model_fields))
def add_avatar(
    fields: calls.AvatarSettings,
    video: Annotated[Path, typer.Argument(help="A video or a still portrait.", exists=True, dir_okay=False)],
    server: Server = ANY_SERVER,
    as_json: AsJson = False,
) -> None:
    """Create an avatar and print its ID. Its movement and background are the defaults of jobs and live sessions."""
    avatar = service(server).avatars.create(video=video, **fields)
    print(json.dumps(avatar.raw, indent=2) if as_json else avatar.id)


@app.command("update")
@partial(with_job_options, names=AvatarSettings.model_fields)
def update_avatar(
    fields: calls.AvatarSettings,
    avatar_id: str,
    server: Server = ANY_SERVER,
    as_json: AsJson = False,
) -> None:
    """Change the movement or background of an avatar, for later jobs and live sessions.

    `--background source` removes its background.
    """
    avatar = service(server).avatars.update(avatar_id, **fields)
    print(json.dumps(avatar.raw, indent=2) if as_json else avatar.id)


@app.command("people")
def list_people(
    avatar_id: str,
    turns: Annotated[bool, typer.Option("--turns", help="List who speaks when instead.")] = False,
    server: Server = ANY_SERVER,
    as_json: AsJson = False,
) -> None:
    """List the people in an avatar's video, and who speaks when."""
    found = service(server).avatars.people(avatar_id)
    if as_json:
        print(json.dumps(found.raw, indent=2))
        return
    table = Table("start", "end", "speaker", "confidence", box=None)
    if turns:
        for turn in found.turns:
            speaker = "nobody seen" if turn.person is None else f"person:{turn.person}"
            table.add_row(f"{turn.start:.2f}", f"{turn.end:.2f}", speaker, f"{turn.confidence:.2f}")
        console().print(table)
        return
    table = Table("face", "seen (seconds)", "speaks (seconds)", "size (pixels)", "frontal", box=None)
    for person in found.people:
        seen = ", ".join(f"{each.start:.1f}-{each.end:.1f}" for each in person.seen)
        speaks, size = f"{person.speaking_seconds:.1f}", f"{person.face_pixels:.0f}"
        table.add_row(f"person:{person.number}", seen, speaks, size, f"{person.frontal_share:.0%}")
    console().print(table)


@app.command("delete")
def delete_avatar(avatar_id: str, server: Server = ANY_SERVER) -> None:
    """Delete an avatar."""
    service(server).avatars.delete(avatar_id)
    print(f"deleted {avatar_id}")


@clips.command("list")
def list_clips(avatar_id: str, server: Server = ANY_SERVER, as_json: AsJson = False) -> None:
    """List the clips of an avatar, the oldest first."""
    avatar = service(server).avatars.get(avatar_id)
    if as_json:
        print(json.dumps(avatar.raw["clips"], indent=2))
        return
    table = Table("name", "kind", "status", "seconds", "file", "error", box=None)
    for clip in avatar.clips:
        seconds = "" if clip.info is None else f"{clip.info.duration_seconds:.1f}"
        error = "" if clip.error is None else clip.error.message
        table.add_row(clip.name, clip.kind, clip.status, seconds, name(clip.label), error)
    console().print(table)


@clips.command("add")
def add_clip(
    avatar_id: str,
    clip_name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the clip, such as wave.")],
    video: Annotated[Path, typer.Argument(help="A video of the same person.", exists=True, dir_okay=False)],
    kind: Annotated[str, typer.Option(help="When it is shown: idle, talk or action.")] = "action",
    server: Server = ANY_SERVER,
    as_json: AsJson = False,
) -> None:
    """Add a clip to an avatar. It is analysed in the background; see `lipwright avatars clips list`."""
    avatar = service(server).avatars.add_clip(avatar_id, clip_name, kind, video)
    print(json.dumps(avatar.raw, indent=2) if as_json else f"added {clip_name}")


@clips.command("delete")
def delete_clip(
    avatar_id: str, clip_name: Annotated[str, typer.Argument(metavar="NAME")], server: Server = ANY_SERVER
) -> None:
    """Delete a clip. Jobs and live sessions that use it continue."""
    service(server).avatars.delete_clip(avatar_id, clip_name)
    print(f"deleted {clip_name}")
