"""Run as a job of a cluster of two nodes: prints from which nodes a caller's questions are answered, as JSON."""

import json
import logging
from typing import Any, cast

import ray
from ray import serve
from ray.serve import Deployment
from ray.serve.handle import DeploymentHandle

from deployments.runtime.local_first_router import LOCAL_FIRST

NUM_QUESTIONS = 30


class Replica:
    """Says where it is."""

    async def node(self) -> str:
        return ray.get_runtime_context().get_node_id()


class Asker:
    """Asks one question after the other, so that every replica is free."""

    def __init__(self, replica: DeploymentHandle[Any]) -> None:
        self._replica = replica

    async def ask(self) -> tuple[str, list[str]]:
        answers = [await self._replica.node.remote() for _ in range(NUM_QUESTIONS)]
        return ray.get_runtime_context().get_node_id(), answers


def main() -> None:
    ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    no_cpu = {"num_cpus": 0}
    replica = cast(
        Deployment,
        serve.deployment(Replica, name="Replica", num_replicas=2, max_replicas_per_node=1, ray_actor_options=no_cpu),
    )
    near = replica.options(request_router_config=LOCAL_FIRST)
    found = {}
    for is_near in (True, False):
        asker = cast(Deployment, serve.deployment(Asker, name="Asker", ray_actor_options=no_cpu))
        name = f"near_{is_near}"
        handle: DeploymentHandle[Any] = serve.run(
            asker.bind((near if is_near else replica).bind()), name=name, route_prefix=None
        )
        node, answers = handle.ask.remote().result(timeout_s=60)
        found[is_near] = {"same": answers.count(node), "other": len(answers) - answers.count(node)}
        serve.delete(name)
    print(json.dumps({"near": found[True], "anywhere": found[False]}))


if __name__ == "__main__":
    main()
