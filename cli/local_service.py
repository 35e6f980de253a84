"""Finds a service for one command: the given one, the one using the data folder, or a temporary one."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console


@contextlib.contextmanager
def service_at(url: str | None, data_dir: Path | None) -> Iterator[str]:
    """Yield the base URL of a service. A service started here stops with the block.

    Args:
        url: A running service; None finds or starts one.
        data_dir: Its data folder; None uses the config's.
    """
    if url:
        yield url
        return
    from launch.folder_lock import holder_of
    from launch.serve_config import read_serve_config
    from launch.service import running_service

    holder = holder_of(data_dir or read_serve_config().pipeline.data_dir)
    if holder is not None and holder.url:
        print(f"Using the service at {holder.url}.", file=sys.stderr)
        yield holder.url
        return
    terminal = Console(stderr=True)
    if not terminal.is_terminal:  # which shows no status
        terminal.print("Starting the service ...")
    with terminal.status("Starting the service ..."):
        running = contextlib.ExitStack()
        base_url = running.enter_context(running_service(data_dir=data_dir))
    with running:
        yield base_url
