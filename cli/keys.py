"""`lipwright keys`: make, list and revoke API keys, and show the secrets of webhooks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cli.terminal import AsJson, UsageError, console, moment, one_line_errors
from config import is_state_url
from errors import NotFoundError
from launch.serve_config import read_serve_config
from storage.key_ring import KeyRing
from storage.state import open_keys, webhook_secrets

app = typer.Typer(no_args_is_help=True, help="API keys: as soon as there is one, every request needs one.")

_DataDir = Annotated[
    Path | None, typer.Option(help="The service's data folder; without it, that of the config for this machine.")
]
_State = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="The PostgreSQL of the service's keys; without it, that of LIPWRIGHT_STATE or of the config. A password "
        "belongs in PGPASSWORD or .pgpass.",
    ),
]
_KeyId = Annotated[str, typer.Argument(metavar="ID", help="The id that `keys list` shows.")]


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is; for people.")],
    max_priority: Annotated[int, typer.Option(min=-1, max=1, help="Highest priority that its jobs may have.")] = 0,
    data_dir: _DataDir = None,
    state: _State = None,
) -> None:
    """Make a key and print it. It is shown this once."""
    with one_line_errors():
        _, key = _keys(data_dir, state).add(name[:120], max_priority)
        print(key)


@app.command("list")
def list_keys(data_dir: _DataDir = None, state: _State = None, as_json: AsJson = False) -> None:
    """Show all keys, without their secrets."""
    with one_line_errors():
        keys = _keys(data_dir, state).list()
        if as_json:
            shown = {"id", "name", "max_priority", "created_at"}
            print(json.dumps([key.model_dump(mode="json", include=shown) for key in keys], indent=2))
            return
        table = Table("id", "name", "max priority", "created", box=None)
        for key in keys:
            table.add_row(key.id, key.name, str(key.max_priority), moment(key.created_at))
        console().print(table)


@app.command()
def revoke(key_id: _KeyId, data_dir: _DataDir = None, state: _State = None) -> None:
    """Forget a key. The next request with it is refused; its jobs run on."""
    with one_line_errors():
        print(f"revoked {_keys(data_dir, state).revoke(key_id).id}")


@app.command("webhook-secret")
def show_webhook_secret(
    key_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="A key's id; without it, for jobs submitted without a key.")
    ] = None,
    data_dir: _DataDir = None,
    state: _State = None,
) -> None:
    """Print the secret that the webhooks of a key's jobs are signed with; receivers verify with it."""
    with one_line_errors():
        if key_id is not None and key_id not in {key.id for key in _keys(data_dir, state).list()}:
            raise NotFoundError(f"There is no API key {key_id!r}.")
        print(webhook_secrets(*_place(data_dir, state))(key_id))


def _keys(data_dir: Path | None, state: str | None) -> KeyRing:
    return open_keys(*_place(data_dir, state))


def _place(data_dir: Path | None, state: str | None) -> tuple[str | None, Path]:
    """The settings `state` and `data_dir` of the service that is meant."""
    if state is not None and not is_state_url(state):
        raise UsageError("input_invalid", "--state: expected postgresql://user@host/name, found something else.")
    settings = read_serve_config().pipeline
    return state or settings.state, settings.data_dir if data_dir is None else data_dir.absolute()
