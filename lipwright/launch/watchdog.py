"""Watches Ray's processes, the front proxy and the job table's file.

What can be restarted is restarted; otherwise the service ends.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from lipwright.errors import ConfigError
from lipwright.launch.data_folder import TableFile
from lipwright.launch.front_proxy import FrontProxy

logger = logging.getLogger(__name__)

EXIT_STATUS: Final = 75  # EX_TEMPFAIL of sysexits.h: restart the service
_PERIOD_S: Final = 0.5
_KILL_S: Final = 5.0
_MAX_SILENCE_S: Final = 60.0


class WatchedNode(Protocol):
    """See `lipwright.launch.ray_node.RayNode`."""

    def dead_processes(self) -> list[str]:
        """Return the name of each process that has ended."""
        ...

    def kill(self) -> None:
        """Kill all processes."""
        ...

    def controller_silence_s(self) -> float:
        """Return for how many seconds Serve's controller has not answered."""
        ...

    def restart_controller(self) -> None:
        """Have Ray restart Serve's controller; requests continue meanwhile."""
        ...


@contextmanager
def watchdog(
    node: WatchedNode,
    front: FrontProxy | None,
    table: TableFile,
) -> Iterator[None]:
    """Watch the processes of a Ray node, the front proxy and the job table's file during the block.

    A front proxy that exits is restarted. When Ray's GCS server or raylet exits, Ray cannot recover: it waits for a
    minute or forever. Then this process prints the reason and exits with `EXIT_STATUS`, together with everything that
    it started, so that a supervisor restarts the service and jobs are resumed. The same happens when the job table is
    deleted or replaced: new jobs would be written to a file that no restart finds.

    Serve's controller, which replaces dead replicas, is restarted when it does not answer for a minute.

    Args:
        node: The Ray node that this process started.
        front: The front proxy, if there is one.
        table: The file of the job table.
    """
    stop = threading.Event()
    arguments = (node, front, table, stop)
    watch = threading.Thread(target=_watch, args=arguments, name="ray-watch", daemon=True)
    watch.start()
    try:
        yield
    finally:
        stop.set()
        watch.join(_PERIOD_S + _KILL_S)


def _watch(
    node: WatchedNode,
    front: FrontProxy | None,
    table: TableFile,
    stop: threading.Event,
) -> None:
    while not stop.wait(_PERIOD_S):
        for name in node.dead_processes():
            _end(node, f"Ray's {name} has ended")
        if loss := table.loss():
            _end(
                node,
                loss,
                "Restore it before the next start, which deletes the files of jobs that are not in the table.",
            )
        if front is not None and not front.is_alive:
            logger.warning("the front proxy has ended and is restarted: %s", front.last_line())
            try:
                front.start()
            except ConfigError as error:
                _end(node, str(error))
            except OSError as error:  # short of memory or disk space
                logger.warning("the front proxy could not be restarted and is tried again: %s", error)
        if (silence_s := node.controller_silence_s()) > _MAX_SILENCE_S:
            logger.warning("Serve's controller has not answered for %.0f s; restarting it", silence_s)
            node.restart_controller()


def _end(node: WatchedNode, reason: str, advice: str = "Restart it to resume the jobs.") -> None:
    print(f"Lipwright exits: {reason}. {advice}", file=sys.stderr, flush=True)
    killer = threading.Thread(target=node.kill, daemon=True)
    killer.start()
    killer.join(_KILL_S)
    os._exit(EXIT_STATUS)
