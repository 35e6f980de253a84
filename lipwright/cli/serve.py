"""`lipwright serve`: run the service on this machine."""

from __future__ import annotations

import contextlib
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from lipwright.cli.doctor import Config, ObjectStoreMemory
from lipwright.cli.local_service import find_service
from lipwright.cli.terminal import UsageError, interrupt_on_sigterm


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. Default: from the config, or 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="TCP port; 0 for a free one. Default: from the config, or 8000, or 8383 with --heygem.",
        ),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Data folder for jobs and files.")] = None,
    config: Config = None,
    object_store_memory: ObjectStoreMemory = None,
    metrics_port: Annotated[
        int, typer.Option(min=0, max=65535, help="TCP port for Prometheus metrics; 0 for a free one.")
    ] = 0,
    health_port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="Another TCP port for /healthz and /readyz alone, with connections of its own."
        ),
    ] = None,
    allow_without_keys: Annotated[
        bool, typer.Option("--allow-without-keys", help="Allow other machines to connect without an API key.")
    ] = False,
    heygem: Annotated[bool, typer.Option("--heygem", help="Also serve the HeyGem/Duix API (/easy/*).")] = False,
    heygem_root: Annotated[
        Path | None, typer.Option(help="Folder that HeyGem clients know as /code/data; implies --heygem.")
    ] = None,
    heygem_strict: Annotated[
        bool,
        typer.Option("--heygem-strict", help="One task at a time: report busy instead of queueing; implies --heygem."),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Also print the log, with Ray's output and tracebacks, on stderr.")
    ] = False,
) -> None:
    """Run the service until Ctrl-C.

    Prints the start-up steps, the address and warnings. Everything else goes to service.log in the data folder.
    """
    _print_line("Starting Lipwright ...")
    from lipwright.launch.serve_config import read_serve_config
    from lipwright.launch.service import NodeOptions, running_service
    from lipwright.launch.service_log import Terminal

    interrupt_on_sigterm()
    node = NodeOptions(object_store_memory, metrics_port or None)
    heygem_config = _heygem(heygem, heygem_root, heygem_strict)
    served = read_serve_config(config).on_this_machine(host, port, data_dir, allow_without_keys, heygem_config)
    terminal = Terminal(step=_print_line, warn=partial(print, file=sys.stderr, flush=True), is_verbose=verbose)
    with (
        contextlib.suppress(KeyboardInterrupt),
        running_service(served, terminal, node, health_port, served.pipeline.jobs.max_drain_s) as url,
    ):
        metrics = f"; metrics: port {metrics_port}, /metrics" if metrics_port else ""
        _print_line(f"Lipwright serves at {url} (API: {url}/docs{metrics}). Press Ctrl-C to stop.")
        if find_service() != url:
            _print_line(f"Other commands need `--server {url}` or LIPWRIGHT_SERVER={url} to use it.")
        try:
            threading.Event().wait()
        finally:
            _print_line("Stopping")


def _heygem(is_on: bool, root: Path | None, is_strict: bool) -> dict[str, Any]:
    """Return fields of `lipwright.config.HeygemConfig` to override; empty leaves the config as it is."""
    if root is not None and not root.is_dir():
        raise UsageError("input_invalid", f"--heygem-root: {root} does not exist or is not a folder.")
    given: dict[str, Any] = {"strict": True} if is_strict else {}
    if root is not None:
        given["root"] = str(root.absolute())
    return {"enabled": True, **given} if is_on or given else {}


_print_line = partial(print, flush=True)
