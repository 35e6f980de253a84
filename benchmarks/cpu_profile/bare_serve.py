"""What Ray Serve costs without Lipwright: `python -m benchmarks.cpu_profile.bare_serve`.

As many empty deployments as the service has, with the same settings of Ray: CPU and wall-clock time until they answer,
and CPU time while they are idle, by process.
"""

from __future__ import annotations

import time
import urllib.request

from rich.console import Console
from rich.table import Table

from benchmarks.process_tree import cpu_between, cpu_seconds
from benchmarks.through_graph import IDLE_S
from launch.environment import set_ray_variables
from launch.port import free_port

_DEPLOYMENTS = 8


class Empty:
    """Answers requests, and holds handles like an ingress."""

    def __init__(self, *behind: object) -> None:
        """Keep nothing."""

    async def __call__(self) -> str:
        """Answer."""
        return "ready"


def main() -> None:
    """Starts Ray Serve, prints the table and stops it."""
    start = time.monotonic()
    set_ray_variables()
    import ray
    from ray import serve

    ray.init(address="local", namespace="serve", include_dashboard=False, log_to_driver=False)
    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    empty: serve.Deployment = serve.deployment(Empty)  # type: ignore[assignment]
    empty = empty.options(ray_actor_options={"num_cpus": 0.1})
    behind = [empty.options(name=f"Empty{k}").bind() for k in range(1, _DEPLOYMENTS)]
    serve.run(empty.options(name="Ingress").bind(*behind))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
        answer.read()
    ready_s, started = time.monotonic() - start, cpu_between({}, cpu_seconds())
    time.sleep(IDLE_S / 2)  # the last processes come up
    before = cpu_seconds()
    time.sleep(IDLE_S)
    idle = cpu_between(before, cpu_seconds())
    serve.shutdown()
    ray.shutdown()
    title = f"Ray Serve, {_DEPLOYMENTS} empty deployments"
    table = Table("process", "CPU s until ready", "idle, CPU ms per s", title=title)
    for name, seconds in sorted(started.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{seconds:.1f}", f"{idle.get(name, 0) * 1000 / IDLE_S:.0f}")
    idle_share = sum(idle.values()) / IDLE_S
    table.add_row("total", f"{sum(started.values()):.1f}", f"{idle_share * 1000:.0f}")
    Console().print(table)
    Console().print(f"Ready after {ready_s:.1f} s.")


if __name__ == "__main__":
    main()
