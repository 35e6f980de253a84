"""`lipwright voices`: the voices of a running service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from lipwright.cli.local_service import ANY_SERVER, Server
from lipwright.cli.terminal import AsJson, commands, console, name, service, timestamp

app = commands(help="List and clone the voices of a running service.")


@app.command("list")
def list_voices(server: Server = ANY_SERVER, as_json: AsJson = False) -> None:
    """List the voices for text, the default first."""
    voices = service(server).voices()
    cloned = {voice.name: voice for voice in voices.cloned}
    if as_json:
        print(json.dumps({"voices": voices.voices, "cloned": [each.raw for each in voices.cloned]}, indent=2))
        return
    table = Table(Column("name", min_width=16), "cloned from", "created", box=None)
    for each in voices.voices:
        voice = cloned.get(each)
        source = "" if voice is None else f"{voice.duration_seconds:.1f} s"
        table.add_row(name(each), source, "" if voice is None else timestamp(voice.created_at))
    console().print(table)


@app.command("add")
def add_voice(
    voice_name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new voice.")],
    audio: Annotated[Path, typer.Argument(help="The speaker alone, up to 30 s.", exists=True, dir_okay=False)],
    transcript: Annotated[str, typer.Option(help="What the recording says; some speech servers require it.")] = "",
    server: Server = ANY_SERVER,
    as_json: AsJson = False,
) -> None:
    """Clone the voice of a recording. You need the speaker's consent."""
    voice = service(server).clone_voice(voice_name, audio, transcript)
    print(json.dumps(voice.raw, indent=2) if as_json else voice.name)


@app.command("delete")
def delete_voice(
    voice_name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a cloned voice.")],
    server: Server = ANY_SERVER,
) -> None:
    """Delete a cloned voice and its recording."""
    service(server).delete_voice(voice_name)
    print(f"deleted {voice_name}")
