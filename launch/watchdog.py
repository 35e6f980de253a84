"""Watches what the service stands on: without Ray's own processes it could neither work nor end by itself."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import psutil

from errors import ConfigError
from launch.data_folder import TableFile
from launch.front_proxy import FrontProxy

EXIT_STATUS: Final = 75  # EX_TEMPFAIL of sysexits.h: start it again
_NEEDED: Final = ("raylet", "gcs_server")
_PERIOD_S: Final = 0.5
_KILL_S: Final = 5.0


class RayNode(Protocol):
    """See `deployments.runtime.ray_internals.LocalNode`; importing it here would import Ray too early."""

    def dead_processes(self) -> list[tuple[str, int]]:
        """Return the name and exit status of each process that has ended."""
        ...

    def kill(self) -> None:
        """Kill all processes."""
        ...


@contextmanager
def watchdog(node: RayNode, front: FrontProxy | None, table: TableFile) -> Iterator[None]:
    """Look after the processes of a Ray node, the front and the file of the job table while the block lasts.

    A front that ends is started again. When Ray's control store or its raylet ends, nothing can be mended from here:
    Ray waits for them, for a minute or for ever. Then this process says so and ends, with `EXIT_STATUS` and everything
    that it started, so that whoever supervises it starts the service again; accepted jobs go on there. It ends in the
    same way when the table is deleted or replaced: what is accepted would be written into a file that nobody finds.

    Args:
        node: The Ray node that this process started.
        front: What stands before Serve, if anything does.
        table: Where accepted jobs are written down.
    """
    stop = threading.Event()
    watch = threading.Thread(target=_watch, args=(node, front, table, stop), name="ray-watch", daemon=True)
    watch.start()
    try:
        yield
    finally:
        stop.set()
        watch.join(_PERIOD_S + _KILL_S)


def _watch(node: RayNode, front: FrontProxy | None, table: TableFile, stop: threading.Event) -> None:
    while not stop.wait(_PERIOD_S):
        for name, status in node.dead_processes():
            if name in _NEEDED:
                _end(node, f"Ray's {name} has ended (status {status})")
        if loss := table.loss():
            _end(
                node,
                loss,
                "Put it back before the next start: jobs that it does not hold go then, with their files.",
            )
        if front is not None and not front.is_alive:
            try:
                front.start()
            except ConfigError as error:
                _end(node, str(error))


def _end(node: RayNode, reason: str, advice: str = "Start it again; accepted jobs go on then.") -> None:
    print(f"Lipwright ends: {reason}. {advice}", file=sys.stderr, flush=True)
    killer = threading.Thread(target=_kill, args=(node,), daemon=True)
    killer.start()
    killer.join(_KILL_S)
    os._exit(EXIT_STATUS)


def _kill(node: RayNode) -> None:
    """End everything that was started here.

    Children of a raylet that is gone are not found any more. They notice that themselves, within two seconds.
    """
    children = psutil.Process().children(recursive=True)
    with contextlib.suppress(Exception):  # the process ends next, whatever is left
        node.kill()
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
