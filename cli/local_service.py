"""A service for one command: the one that is named, the one that works in the data folder, or one that is started."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console


@contextlib.contextmanager
def service_at(url: str | None, data_dir: Path | None) -> Iterator[str]:
    """Give the base URL of a service for the block; one that had to be started ends with it.

    Args:
        url: A service that runs; None looks for one, and starts one.
        data_dir: Where it works; None takes the config's.
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
    with Console(stderr=True).status("Starting the service ..."):
        running = contextlib.ExitStack()
        base_url = running.enter_context(running_service(data_dir=data_dir))
    with running:
        yield base_url
