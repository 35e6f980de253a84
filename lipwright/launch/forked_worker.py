"""Ray's raylet runs this script in place of its own worker script: it has the fork server start the worker.

Imports only the standard library, because it runs once for each worker. Without a fork server it runs Ray's script.
"""

from __future__ import annotations

import json
import os
import runpy
import socket
import sys
from typing import Final

SOCKET_VARIABLE: Final = "LIPWRIGHT_WORKER_FORK_SERVER"
"""Path of the fork server's socket."""
SCRIPT_VARIABLE: Final = "LIPWRIGHT_RAY_WORKER_SCRIPT"
"""Path of Ray's own worker script."""
OOM_SCORE_FILE: Final = "/proc/self/oom_score_adj"
"""The raylet raises it in each worker that it starts, so that the kernel kills workers first."""
# The raylet gives up a worker that has not registered within 60 s.
_MAX_WAIT_S: Final = 60.0


def fork_worker(arguments: list[str]) -> bool:
    """Have the fork server start a worker with this process's environment, folder and standard streams.

    Args:
        arguments: `sys.argv` of the worker.

    Returns:
        Whether it did; False if there is no fork server.

    Raises:
        TimeoutError: The fork server did not answer. It may still start the worker.
    """
    request = {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}
    with open(OOM_SCORE_FILE) as file:
        request["oom_score_adj"] = file.read()
    content = json.dumps(request).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_MAX_WAIT_S)
        try:
            connection.connect(os.environ[SOCKET_VARIABLE])
            socket.send_fds(connection, [len(content).to_bytes(4, "big")], [0, 1, 2])
            connection.sendall(content)
            return bool(connection.recv(1))
        except TimeoutError:
            raise
        except OSError:
            return False


def main() -> None:
    """Ends once the worker runs, or becomes the worker itself."""
    arguments = [os.environ[SCRIPT_VARIABLE], *sys.argv[1:]]
    if not fork_worker(arguments):
        sys.argv[:] = arguments
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main()
