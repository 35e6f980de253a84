"""All reads of names that Ray does not document, each with its reason, checked against Ray 2.60."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import ray._private.services
from pydantic import ValidationError

from lipwright.api.validation_message import describe
from lipwright.errors import ConfigError, StateError, UnavailableError

_GCS_S: Final = 5.0


def deploy(config: dict[str, Any]) -> None:
    """Start Serve and deploy `config`, as `serve run` does with a file. Returns before the replicas run.

    Reason: `serve.run` takes no options of deployments, and `serve deploy` needs Ray's dashboard.
    """
    from ray import serve
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    try:
        schema = ServeDeploySchema.model_validate(config)
    except ValidationError as error:
        raise ConfigError(f"Invalid Serve config: {describe(error.errors())}") from error
    serve.start(proxy_location=schema.proxy_location, http_options=schema.http_options.model_dump())
    client: Any = _get_global_client()
    client.deploy_apps(schema, _blocking=False)


def is_node_draining() -> bool:
    """Return whether Ray drains the node of this process. Blocks; raises Ray's exceptions.

    Reason: the public `ray.nodes()` does not tell.
    """
    client: Any = ray._private.worker.global_worker.gcs_client  # type: ignore[attr-defined]
    return ray.get_runtime_context().get_node_id() in client.get_draining_nodes(timeout=_GCS_S)


@dataclass(frozen=True)
class ClusterNode:
    """A living node: its ID in Ray, its IP address and host name, and whether it holds the state of the cluster."""

    id: str
    address: str
    host: str
    is_head: bool


class ControlStore:
    """A client of Ray's control store (GCS); UnavailableError if that does not answer.

    Reason: `ray drain-node` is not in the help, `ray list nodes` needs the dashboard, and a process that connects with
    `ray.init` ends with the node that is drained.
    """

    def __init__(self) -> None:
        """Find the cluster as Ray's commands do: RAY_ADDRESS, or the one that runs on this machine."""
        try:
            address = ray._private.services.canonicalize_bootstrap_address_or_die("auto")
        except Exception as error:  # Ray raises ConnectionError or exits, depending on what it finds
            advice = "run this on one of its nodes, or set RAY_ADDRESS to HOST:6379 of its head."
            raise UnavailableError(f"No Ray cluster was found: {advice}") from error
        with _control_store_errors():
            self._client: Any = ray._raylet.GcsClient(address=address)  # type: ignore[attr-defined]

    def nodes(self) -> list[ClusterNode]:
        """Return the nodes that are alive."""
        with _control_store_errors():
            found = self._client.get_all_node_info(timeout=_GCS_S)
        alive = ray.core.generated.gcs_pb2.GcsNodeInfo.ALIVE  # type: ignore[attr-defined]
        return [
            ClusterNode(node_id.hex(), node.node_manager_address, node.node_manager_hostname, node.is_head_node)
            for node_id, node in found.items()
            if node.state == alive
        ]

    def drain(self, node_id: str, timeout_s: float) -> None:
        """Have Ray drain a node and end it when nothing runs there; StateError if it refuses. May be repeated."""
        reasons = ray.core.generated.autoscaler_pb2.DrainNodeReason  # type: ignore[attr-defined]
        reason, deadline_ms = reasons.Value("DRAIN_NODE_REASON_PREEMPTION"), int((time.time() + timeout_s) * 1000)
        with _control_store_errors():
            is_accepted, why = self._client.drain_node(node_id, reason, "lipwright drain", deadline_ms)
        if not is_accepted:
            raise StateError(f"Ray refuses to drain node {node_id}: {why}")


@contextmanager
def _control_store_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Ray raises exceptions of any class
        raise UnavailableError(f"Ray's control store does not answer: {error}") from error
