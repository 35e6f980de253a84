"""`lipwright keys`: creates, lists and revokes API keys, and shows webhook secrets."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cli.terminal import AsJson, DataDir, UsageError, commands, console, timestamp
from config import is_state_url
from launch.serve_config import read_serve_config
from storage.key_ring import KeyRing, no_key
from storage.state import open_keys, webhook_secrets

app = commands(help="Manage API keys. Once there is a key, every request needs one.")

_State = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="PostgreSQL URL of the service's state. Default: LIPWRIGHT_STATE or the config. Put the password into "
        "PGPASSWORD or .pgpass.",
    ),
]
_KeyId = Annotated[str, typer.Argument(metavar="ID", help="Key ID, as shown by `keys list`.")]


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the key's owner.")],
    max_priority: Annotated[int, typer.Option(min=-1, max=1, help="Highest priority of the key's jobs.")] = 0,
    data_dir: DataDir = None,
    state: _State = None,
) -> None:
    """Create a key and print it on standard output. It is not shown again."""
    ring = _keys(data_dir, state)
    is_first = not ring.list()
    _, key = ring.add(name[:120], max_priority)
    print(key)
    print("Store the key now: it is not shown again.", file=sys.stderr)
    if is_first:
        print(
            "This is the first key: from now on, every request needs one, on this machine too. The command line and "
            "the Python client send the one in LIPWRIGHT_API_KEY.",
            file=sys.stderr,
        )


@app.command("list")
def list_keys(data_dir: DataDir = None, state: _State = None, as_json: AsJson = False) -> None:
    """List all keys, without their secrets."""
    keys = _keys(data_dir, state).list()
    if as_json:
        shown = {"id", "name", "max_priority", "created_at"}
        print(json.dumps([key.model_dump(mode="json", include=shown) for key in keys], indent=2))
        return
    table = Table("id", "name", "max priority", "created", box=None)
    for key in keys:
        table.add_row(key.id, key.name, str(key.max_priority), timestamp(key.created_at))
    console().print(table)


@app.command()
def revoke(key_id: _KeyId, data_dir: DataDir = None, state: _State = None) -> None:
    """Revoke a key. Its running jobs continue."""
    ring = _keys(data_dir, state)
    print(f"revoked {ring.revoke(key_id).id}")
    if not ring.list():
        print(
            "This was the last key: from now on, requests need none. Only this machine is served, or everybody if the "
            "service runs with --allow-without-keys.",
            file=sys.stderr,
        )


@app.command("webhook-secret")
def show_webhook_secret(
    key_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Key ID. Default: jobs submitted without a key.")
    ] = None,
    data_dir: DataDir = None,
    state: _State = None,
) -> None:
    """Print the secret that signs the webhooks of a key's jobs."""
    if key_id is not None and key_id not in {key.id for key in _keys(data_dir, state).list()}:
        raise no_key(key_id)
    print(webhook_secrets(*_state_and_data_dir(data_dir, state))(key_id))


def _keys(data_dir: Path | None, state: str | None) -> KeyRing:
    return open_keys(*_state_and_data_dir(data_dir, state))


def _state_and_data_dir(data_dir: Path | None, state: str | None) -> tuple[str | None, Path]:
    """Return the settings `state` and `data_dir` of the service."""
    if state is not None and not is_state_url(state):
        raise UsageError("input_invalid", "--state: expected a URL such as postgresql://user@host/name.")
    settings = read_serve_config().pipeline
    return state or settings.state, settings.data_dir if data_dir is None else data_dir.absolute()
