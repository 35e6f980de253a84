"""`lipwright models`: adds, lists, verifies and removes the weights of engines."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from lipwright.cli.doctor import Config
from lipwright.cli.terminal import AsJson, DataDir, UsageError, commands, console
from lipwright.config import PipelineConfig
from lipwright.launch.serve_config import read_serve_config
from lipwright.storage.local.folder import make_private_folder
from models.engines.catalog import EngineRecord, engine_list, post_processor_list
from models.engines.protocol import EngineClass
from models.engines.registry import ENGINES
from models.engines.weights.index import WeightsEntry, clean_label
from models.engines.weights.recognition import AddRequest
from models.engines.weights.store import Found, WeightsStore
from models.engines.weights.upload import MAX_BYTES, StagedFile

app = commands(help="Manage the weights of engines.")

_Role = Annotated[str | None, typer.Option(help="Remove only the file with this role.")]


@app.command()
def add(
    context: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE_OR_URL", help="A PyTorch, safetensors or ONNX file, or its URL.")
    ],
    engine: Annotated[str | None, typer.Option(help="Engine the file belongs to. Default: detected.")] = None,
    name: Annotated[str | None, typer.Option(help="Install as a variant; jobs select it as ENGINE:NAME.")] = None,
    role: Annotated[str | None, typer.Option(help="Role of the file, if it cannot be detected.")] = None,
    sha256: Annotated[str | None, typer.Option(help="Expected SHA-256 of the file.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Accept the licence without asking.")] = False,
    config: Config = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Inspect a weights file, detect its engine, and install a copy. Nothing in the file is executed."""
    settings = _settings(config, data_dir)
    store = _store(context, settings)
    request = AddRequest(engine, role, name, sha256)
    store.candidates(request)  # before a long download
    make_private_folder(settings.data_dir)
    with store.stage() as staged:
        label, source = _bring(file, staged, settings)
        found = store.recognise(staged, label, request, source)
        _agree(found, yes)
        entry = store.keep(found)
    if as_json:
        print(json.dumps(_entry_json(entry), indent=2))
    else:
        print(f"added {entry.label} as {entry.role} of {entry.name} (sha256 {entry.sha256})")


@app.command("list")
def list_models(
    context: typer.Context, config: Config = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """List engines, their weights, and the commands that install missing weights."""
    store = _store(context, _settings(config, data_dir))
    engines, entries = (*engine_list(store), *post_processor_list(store)), store.list()
    if as_json:
        files = [_entry_json(entry) for entry in entries]
        print(json.dumps({"engines": [asdict(each) for each in engines], "files": files}, indent=2))
        return
    given = {"--config": config, "--data-dir": data_dir}
    _print_engines(engines, "".join(f" {key} {shlex.quote(str(value))}" for key, value in given.items() if value))
    _print_entries(entries)


@app.command()
def verify(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="ENGINE or ENGINE:VARIANT. Default: all.")
    ] = None,
    config: Config = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Verify checksums and formats of installed weights. The exit status is 1 if a file is invalid."""
    verdicts = _store(context, _settings(config, data_dir)).verify(name)
    if as_json:
        print(json.dumps([{**_entry_json(entry), "fault": fault} for entry, fault in verdicts.items()], indent=2))
    else:
        for entry, fault in verdicts.items():
            print(f"wrong  {fault}" if fault else f"ok     {entry.name} {entry.role} ({entry.label})")
        if not verdicts:
            print("There are no added weights to verify. `lipwright doctor` verifies those that ship with Lipwright.")
    if any(verdicts.values()):
        raise typer.Exit(1)


@app.command()
def remove(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="ENGINE or ENGINE:VARIANT, as shown by `models list`.")],
    role: _Role = None,
    config: Config = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Delete installed weights. Running jobs are not affected."""
    gone = _store(context, _settings(config, data_dir)).remove(name, role)
    if as_json:
        print(json.dumps([_entry_json(entry) for entry in gone], indent=2))
        return
    for entry in gone:
        print(f"removed {entry.role} of {entry.name} ({entry.label})")


class _Counted:
    """Forwards downloaded data and updates the progress bar."""

    def __init__(self, staged: StagedFile, bar: Progress, label: str) -> None:
        self._staged = staged
        self._bar = bar
        self._task = bar.add_task(label, total=None)

    def write(self, piece: bytes) -> None:
        self._staged.write(piece)
        self._bar.advance(self._task, len(piece))


def _bring(file: str, staged: StagedFile, settings: PipelineConfig) -> tuple[str, str | None]:
    """Fill `staged` from a file or URL; returns the file's name, and the URL as it may be shown."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        if "://" in file:
            return _download(file, staged, bar, settings)
        path = Path(file)
        task = bar.add_task(clean_label(path.name), total=path.stat().st_size)
        staged.copy(path, lambda num_bytes: bar.advance(task, num_bytes))
        return path.name, None


def _download(url: str, staged: StagedFile, bar: Progress, settings: PipelineConfig) -> tuple[str, str]:
    from lipwright.net.fetch import fetch
    from lipwright.net.ssrf_guard import SsrfGuard

    guard = SsrfGuard(settings.network)
    target = guard.check(url)
    asyncio.run(fetch(url, _Counted(staged, bar, clean_label(target.file_name)), MAX_BYTES, guard))
    return target.file_name, str(target)


def _agree(found: Found, yes: bool) -> None:
    """Show the licence of a file and, without --yes, ask for confirmation."""
    notes = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    notes.print(f"{found.label}: {found.role.title}, {found.role.name} of {found.name}")
    notes.print(f"sha256: {found.staged.sha256}")
    notes.print(f"licence: {found.role.licence}")
    if yes:
        return
    notes.print("Install under this licence? [y/N]")
    answer = sys.stdin.readline()
    if not answer:
        raise UsageError("not_agreed", "no terminal to confirm on: read the licence, then pass --yes.")
    if answer.strip().lower() not in ("y", "yes"):
        raise UsageError("not_agreed", "Nothing was added.")


def _print_engines(engines: tuple[EngineRecord, ...], options: str) -> None:
    """Print engines and the commands that install their missing weights, with `options` appended."""
    table = Table("engine", "title", "state", box=None)
    for engine in engines:
        table.add_row(engine.name, engine.title, "installed" if engine.is_installed else "weights missing")
    console().print(table)
    for engine in engines:
        for role in engine.missing:
            kind = "needs" if role.is_required else "can use"
            print(f"{engine.name} {kind} {role.role} ({role.title}): {role.add_command}{options}")


def _print_entries(entries: tuple[WeightsEntry, ...]) -> None:
    if not entries:
        return
    print()
    table = Table("name", "role", "file", "format", "MiB", "sha256", "added", box=None)
    for entry in entries:
        num_bytes = entry.num_bytes + sum(each.num_bytes for each in entry.external_data)
        size, added = f"{num_bytes / 1024**2:.1f}", f"{entry.added_at:%Y-%m-%dT%H:%M:%S}"
        table.add_row(entry.name, entry.role, entry.label, entry.format, size, entry.sha256[:16], added)
    console().print(table)


def _entry_json(entry: WeightsEntry) -> dict[str, Any]:
    return entry.model_dump(mode="json")


def _store(context: typer.Context, settings: PipelineConfig) -> WeightsStore:
    """Return the weights store of the data folder; tests pass other engines as `context.obj`."""
    engines: Mapping[str, str | EngineClass] = ENGINES if context.obj is None else context.obj
    return WeightsStore(settings.data_dir / "weights", engines)


def _settings(config: Path | None, data_dir: Path | None) -> PipelineConfig:
    return read_serve_config(config).on_this_machine(data_dir=data_dir).pipeline
