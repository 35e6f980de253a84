"""`lipwright node`: starts a node of a Ray cluster whose workers are forked."""

from __future__ import annotations

import sys
from contextlib import ExitStack

import typer

from lipwright.launch.environment import make_ray_folder, set_node_variables
from lipwright.launch.worker_fork_server import WORKER_SCRIPT, worker_fork_server


def node(context: typer.Context) -> None:
    """Start a node of a Ray cluster and run it until SIGTERM or Ctrl-C.

    Does what `ray start --block` does, and takes its options, such as --head or --address=HEAD:6379 (`ray start --help`
    lists them). Replicas start sooner and share memory, because workers are forked from a process that has imported
    Lipwright.
    """
    set_node_variables()
    from deployments.runtime.ray_internals import RAY_WORKER_SCRIPT, run_node_command, use_worker_script

    folder = make_ray_folder()  # Ray's own files are where `ray start` puts them
    with ExitStack() as running:
        if folder is not None:
            running.enter_context(worker_fork_server(folder.parent, RAY_WORKER_SCRIPT))
            running.enter_context(use_worker_script(WORKER_SCRIPT))
        sys.exit(run_node_command(context.args))
