"""`lipwright drain`: takes a node out of a cluster without losing the work on it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from lipwright.errors import NotFoundError, OptionError, StageTimeoutError, StateError

if TYPE_CHECKING:
    from deployments.runtime.ray_internals import ClusterNode

_POLL_S: Final = 1.0


def drain(
    node: Annotated[
        str | None,
        typer.Argument(
            metavar="[NODE]", help="Ray's node ID or its start, IP address or host name. Default: this machine."
        ),
    ] = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1.0, help="Seconds that the work on the node gets to end or to move.")
    ] = 600.0,
) -> None:
    """Take a node out of a Ray cluster: move what runs on it to other nodes, then end its raylet.

    Run it on any node of the cluster; it waits until the raylet has ended. Jobs continue, and clients of live sessions
    reconnect. To stop a service that `lipwright serve` runs, send SIGTERM to it instead.
    """
    import ray.util

    from deployments.runtime.ray_internals import ControlStore

    store = ControlStore()
    nodes = store.nodes()
    found = choose_node(nodes, node or ray.util.get_node_ip_address())
    if len(nodes) == 1:
        raise StateError("This is the only node of the cluster. To stop everything, use `ray stop`.")
    if found.is_head:
        raise StateError(f"Node {found.id} is the head of the cluster, which cannot continue without it.")
    begin = time.monotonic()
    store.drain(found.id, timeout_s)
    print(f"Draining node {found.id} ({found.host}, {found.address}), at most {timeout_s:g} s", flush=True)
    while any(each.id == found.id for each in store.nodes()):
        if time.monotonic() - begin > timeout_s:
            raise StageTimeoutError(
                f"Node {found.id} still works after {timeout_s:g} s. Wait longer with the same command, or stop the "
                "node: its jobs resume on other nodes."
            )
        time.sleep(_POLL_S)
    print(f"The node has left the cluster after {time.monotonic() - begin:.0f} s")


def choose_node(nodes: Sequence[ClusterNode], name: str) -> ClusterNode:
    """Return the node with this ID or start of an ID, address or host name.

    Raises:
        NotFoundError: There is none.
        OptionError: There are several.
    """
    found = [each for each in nodes if each.id.startswith(name) or name in (each.address, each.host)]
    listed = ", ".join(f"{each.id} ({each.host}, {each.address})" for each in nodes)
    if not found:
        raise NotFoundError(f"The cluster has no node {name!r}. Its nodes: {listed}.")
    if len(found) > 1:
        raise OptionError(f"{len(found)} nodes match {name!r}; use an ID. Nodes of the cluster: {listed}.")
    return found[0]
