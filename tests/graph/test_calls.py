"""What Serve makes of a chain of requests of which an earlier one cannot reach its replica."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ray import serve
from ray.exceptions import ActorUnavailableError
from ray.serve.handle import DeploymentHandle

from deployments.runtime.calls import CallBounds, Sent, call_stage
from errors import ReplicaLostError
from telemetry.log_context import CallContext

pytestmark = pytest.mark.slow


@serve.deployment(ray_actor_options={"num_cpus": 0})
class Unreachable:
    """Acts like a replica whose node has just died: callers get an unavailable error."""

    async def features(self) -> Any:
        raise ActorUnavailableError("the node does not answer", None)


@serve.deployment(ray_actor_options={"num_cpus": 0})
class Next:
    """The stage that takes what the other would have given."""

    async def plan(self, features: Any) -> Any:
        return features


@pytest.mark.usefixtures("service_url")
def test_it_is_a_lost_try_and_not_an_endless_one() -> None:
    first, second = _deployed(Unreachable), _deployed(Next)
    tries: list[int] = []

    def start(context: CallContext) -> Sent[Any]:
        tries.append(context.attempt)
        features = first.features.remote()
        return features, second.plan.remote(features)

    try:
        with pytest.raises(ReplicaLostError, match="Next"):
            asyncio.run(call_stage("Next", CallContext("job"), start, CallBounds(30.0, 2, 30.0)))
    finally:
        serve.delete("Unreachable")
        serve.delete("Next")
    assert tries == [1, 2]


def _deployed(deployment: Any) -> DeploymentHandle[Any]:
    """A handle of a deployment that runs as an application of its own."""
    handle: DeploymentHandle[Any] = serve.run(deployment.bind(), name=deployment.name, route_prefix=None)
    return handle
