"""`lipwright keys`: creates, lists, limits and revokes API keys, and shows their usage and webhook secrets."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.table import Table

from lipwright.cli.doctor import Config
from lipwright.cli.terminal import AsJson, DataDir, UsageError, commands, console, timestamp
from lipwright.config import PipelineConfig, is_state_url
from lipwright.jobs.model.usage import USAGE_COLUMNS, usage_csv
from lipwright.jobs.usage import StoredBytes, usage_rows
from lipwright.launch.data_folder import holder_of
from lipwright.launch.serve_config import read_serve_config
from lipwright.storage.key_ring import KeyLimits, KeyRing, no_key
from lipwright.storage.state import open_keys, open_store, open_table, webhook_secrets

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
_Weight = Annotated[
    int | None, typer.Option(min=1, max=100, help="Its share of the service while other keys wait, too. Default: 1.")
]


def _limit(name: str) -> Any:
    return typer.Option(metavar="N|none", help=KeyLimits.model_fields[name].description)


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the key's owner.")],
    max_priority: Annotated[int, typer.Option(min=-1, max=1, help="Highest priority of the key's jobs.")] = 0,
    weight: _Weight = 1,
    config: Config = None,
    data_dir: DataDir = None,
    state: _State = None,
) -> None:
    """Create a key and print it on standard output. It is not shown again."""
    settings = _settings(config, data_dir, state)
    ring = open_keys(settings.state, settings.data_dir)
    is_first = not ring.list()
    _, key = ring.add(name[:120], max_priority, weight or 1)
    print(key)
    notes = [f"Store the key now: it is not shown again. It is valid for services with {_place(settings)}."]
    if is_first:
        notes.append(
            "This is the first key: from now on, every request to them needs one, on this machine too. The command "
            "line and the Python client send the one in LIPWRIGHT_API_KEY. Jobs and avatars that were made without a "
            "key are not visible with one."
        )
    print("\n".join([*notes, *_other_service(settings)]), file=sys.stderr)


@app.command("list")
def list_keys(config: Config = None, data_dir: DataDir = None, state: _State = None, as_json: AsJson = False) -> None:
    """List all keys, without their secrets."""
    keys = _keys(config, data_dir, state).list()
    if as_json:
        shown = {"id", "name", "max_priority", "weight", "limits", "created_at"}
        print(json.dumps([key.model_dump(mode="json", include=shown) for key in keys], indent=2))
        return
    table = Table("id", "name", "max priority", "weight", "limits", "created", box=None)
    for key in keys:
        limits = "\n".join(f"{name} {value}" for name, value in key.limits.model_dump(exclude_none=True).items())
        table.add_row(key.id, key.name, str(key.max_priority), str(key.weight), limits, timestamp(key.created_at))
    console().print(table)


@app.command()
def limit(
    key_id: _KeyId,
    concurrent_jobs: Annotated[str | None, _limit("concurrent_jobs")] = None,
    jobs_per_day: Annotated[str | None, _limit("jobs_per_day")] = None,
    video_seconds_per_month: Annotated[str | None, _limit("video_seconds_per_month")] = None,
    stored_bytes: Annotated[str | None, _limit("stored_bytes")] = None,
    live_sessions: Annotated[str | None, _limit("live_sessions")] = None,
    weight: _Weight = None,
    config: Config = None,
    data_dir: DataDir = None,
    state: _State = None,
) -> None:
    """Set limits of a key, and its weight. `none` removes a limit. What exceeds a limit gets status 429."""
    texts = concurrent_jobs, jobs_per_day, video_seconds_per_month, stored_bytes, live_sessions
    given = dict(zip(KeyLimits.model_fields, texts, strict=True))
    limits = {name: None if text == "none" else text for name, text in given.items() if text is not None}
    if not limits and weight is None:
        raise UsageError("input_invalid", "pass at least one limit or --weight.")
    try:
        checked = KeyLimits.model_validate(limits).model_dump(include=set(limits))
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise UsageError("input_invalid", f"{name}: expected a number or none, found {given[name]!r}.") from None
    key = _keys(config, data_dir, state).update(key_id, weight, checked)
    print(json.dumps({"weight": key.weight, **key.limits.model_dump(exclude_none=True)}))


@app.command("usage")
def show_usage(
    first: Annotated[
        datetime | None,
        typer.Option("--from", formats=["%Y-%m-%d"], help="First day (UTC). Default: the first of the month."),
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day (UTC). Default: today.")
    ] = None,
    config: Config = None,
    data_dir: DataDir = None,
    state: _State = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Show what keys have used, by day, also keys that were revoked."""
    settings = _settings(config, data_dir, state)
    store = open_store(settings)
    with closing(open_table(settings.state, store)) as job_table:
        days = first and first.date(), last and last.date()
        rows = usage_rows(job_table, StoredBytes(job_table, store), *days, None)
    if as_csv:
        print(usage_csv(rows), end="")
    elif as_json:
        print(json.dumps([row.model_dump(mode="json") for row in rows], indent=2))
    else:
        names = {key.id: key.name for key in _keys(config, data_dir, state).list()}
        table = Table("name", *(name.replace("_", " ") for name in USAGE_COLUMNS), box=None)
        for row in rows:
            values = row.model_dump(mode="json")
            shown = ("" if values[name] is None else str(values[name]) for name in USAGE_COLUMNS)
            table.add_row(names.get(row.key or "", ""), *shown)
        console().print(table)


@app.command()
def revoke(key_id: _KeyId, config: Config = None, data_dir: DataDir = None, state: _State = None) -> None:
    """Revoke a key. Its running jobs continue."""
    ring = _keys(config, data_dir, state)
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
    config: Config = None,
    data_dir: DataDir = None,
    state: _State = None,
) -> None:
    """Print the secret that signs the webhooks of a key's jobs."""
    if key_id is not None and key_id not in {key.id for key in _keys(config, data_dir, state).list()}:
        raise no_key(key_id)
    settings = _settings(config, data_dir, state)
    print(webhook_secrets(settings.state, settings.data_dir)(key_id))


def _keys(config: Path | None, data_dir: Path | None, state: str | None) -> KeyRing:
    settings = _settings(config, data_dir, state)
    return open_keys(settings.state, settings.data_dir)


def _place(settings: PipelineConfig) -> str:
    return f"the data folder {settings.data_dir}" if settings.state is None else "this state"


def _other_service(settings: PipelineConfig) -> Iterator[str]:
    """Yield a warning if the environment names a service that does not use these keys."""
    url = os.environ.get("LIPWRIGHT_SERVER") or os.environ.get("LIPWRIGHT_URL")
    holder = holder_of(settings.data_dir)
    if url and settings.state is None and (holder is None or holder.url != url.rstrip("/")):
        yield f"LIPWRIGHT_SERVER names {url}, which does not use this folder: pass its --data-dir or --config."


def _settings(config: Path | None, data_dir: Path | None, state: str | None) -> PipelineConfig:
    """Return the settings of the service."""
    if state is not None and not is_state_url(state):
        raise UsageError("input_invalid", "--state: expected a URL such as postgresql://user@host/name.")
    settings = read_serve_config(config).on_this_machine(data_dir=data_dir).pipeline
    return settings.model_copy(update={"state": state or settings.state})
