"""Attacks on the HTTP port of `lipwright serve`; good callers meanwhile are served as if nobody else were there."""

from __future__ import annotations

import resource
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import httpx
import psutil
import pytest

from tests.faults.attacker import PIECE, MemoryWatch, announced_upload, connect, dripping, endless_head, status_of
from tests.faults.health_probe import HealthProbe
from tests.faults.load import IS_ENDURANCE, Caller, Pair
from tests.faults.service_process import ServiceProcess

HEALTHY_S = 0.25
"""p99 of /healthz that is promised during an attack; on a machine that does nothing else it is 5 ms."""
WHILE_SENT_S = 2.0
"""p99 of /healthz while the disk takes all that it can; the proxy moves 75 MB/s then, and one core is its own."""
REFUSED_S = 5.0
"""A head that is waited for to its end takes three times as long."""
NUM_FOLLOWERS = 1030
FOLLOWERS_ANSWERED_S = 10.0
"""Within so long each has its answer; .2 to .5 s measured."""
REPLICA_METHODS = ("/ray.serve.ASGIService/HandleRequest", "/ray.rpc.CoreWorkerService/PushTask")


def quickest_head(url: str, num_bytes: int) -> tuple[int, float]:
    """`endless_head`, up to three times while it takes long: a busy machine may stand still."""
    for _ in range(3):
        status, took_s = endless_head(url, num_bytes)
        if took_s < REFUSED_S:
            break
    return status, took_s


@pytest.mark.timeout(300)
def test_an_endless_head_costs_nobody_else_anything(
    service: ServiceProcess, caller: Caller, portrait_pair: Pair
) -> None:
    processes = serving_processes(service)
    for health in HealthProbe.looks(service.url, HEALTHY_S):
        with health, MemoryWatch(processes) as memory:
            attacks = [quickest_head(service.url, size << 20) for size in (1, 50, 100, 200)]
            job = caller.accepted(portrait_pair)
            assert caller.wait([job], 120)[job]["status"] == "succeeded"
    p99 = health.percentile(0.99)
    print(f"\nheads of 1, 50, 100, 200 MB: {attacks}, healthz p99 {p99 * 1000:.0f} ms, MiB {memory.grown_mib}")
    assert all(status in (0, 400, 431) and took_s < REFUSED_S for status, took_s in attacks)
    assert p99 < health.bound(HEALTHY_S)
    assert memory.grown_mib["proxy"] < 50
    answer = httpx.get(f"{service.url}/v1/jobs", headers={"big": "a" * 20_000}, trust_env=False, timeout=20)
    assert (answer.status_code, answer.json()["code"]) == (431, "head_too_large")


@pytest.mark.timeout(300)
def test_idle_uploads_keep_nobody_out(
    service: ServiceProcess, caller: Caller, portrait_pair: Pair, upload_pause_s: float
) -> None:
    with (
        HealthProbe(service.url) as health,
        MemoryWatch(serving_processes(service)) as memory,
        ExitStack() as stack,
    ):
        lines = [stack.enter_context(announced_upload(service.url, 5_700_000_000)) for _ in range(5)]
        stack.enter_context(dripping(lines, upload_pause_s / 3))
        statuses = []
        started = time.monotonic()
        for _ in range(16 if IS_ENDURANCE else 4):
            statuses.append(caller.submit(portrait_pair).status_code)
            queue = caller.request("GET", "/v1/status").json()["queue"]
        assert statuses == [202] * len(statuses), "what others announce is not there"
        assert queue["num_bytes"] < 5 * 40 * 2**20
        ends = []
        for line in lines:
            line.settimeout(60)
            ends.append(status_of(line.recv(4096)))
        cut_s = time.monotonic() - started
    p99 = health.percentile(0.99)
    print(
        f"\n5 idle uploads of 5.7 GB: {len(statuses)} good jobs accepted, cut off after {cut_s:.1f} s, "
        f"MiB {memory.grown_mib}, healthz p99 {p99 * 1000:.0f} ms"
    )
    assert ends == [504] * 5
    assert p99 < health.bound(HEALTHY_S)
    assert all(grown < 100 for grown in memory.grown_mib.values())
    finish(caller)


@pytest.mark.timeout(400)
def test_a_fast_upload_takes_a_window_of_memory(service: ServiceProcess, caller: Caller, portrait_pair: Pair) -> None:
    num_mib = 900 if IS_ENDURANCE else 300
    processes = serving_processes(service)
    with (
        HealthProbe(service.url) as health,
        MemoryWatch(processes) as memory,
        ThreadPoolExecutor(1) as pool,
        announced_upload(service.url, num_mib << 20) as line,
    ):
        started = time.monotonic()
        for number in range(num_mib):
            line.sendall(PIECE)
            if number == num_mib // 3:  # in its middle
                accepted = pool.submit(caller.accepted, portrait_pair)
        job = accepted.result()
        sent_s = time.monotonic() - started
        time.sleep(1)
    p99 = health.percentile(0.99)
    print(
        f"\n{num_mib} MiB in {sent_s:.1f} s: MiB {memory.grown_mib}, kept {memory.kept_mib}, "
        f"healthz p99 {p99 * 1000:.0f} ms"
    )
    assert p99 < health.bound(WHILE_SENT_S)
    assert all(grown < 100 for grown in memory.grown_mib.values())
    assert caller.wait([job], 120)[job]["status"] == "succeeded"


@pytest.mark.timeout(300)
def test_followers_by_the_thousand_keep_nobody_out(
    service: ServiceProcess, caller: Caller, long_pair: Pair, portrait_pair: Pair
) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    (ingress,) = service.replicas("Ingress")[:1]
    for health in HealthProbe.looks(service.url, HEALTHY_S):
        followed = caller.accepted(long_pair)
        with health, ExitStack() as stack:
            request = f"GET /v1/jobs/{followed}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            lines = [stack.enter_context(connect(service.url)) for _ in range(NUM_FOLLOWERS)]
            started = time.monotonic()
            for line in lines:
                line.sendall(request)
            statuses = Counter(status_of(line.recv(4096)) for line in lines)
            began_s = time.monotonic() - started
            health.count_from_now()
            job = caller.accepted(portrait_pair)
            final = caller.wait([job, followed], 200)
    p99 = health.percentile(0.99)
    worst = max(health.seconds)
    print(
        f"\n{NUM_FOLLOWERS} followers: {dict(statuses)} in {began_s:.1f} s, "
        f"healthz p99 {p99 * 1000:.0f} ms, worst {worst * 1000:.0f} ms of {len(health.seconds)}"
    )
    assert set(statuses) == {200, 503}
    assert statuses[200] <= 256
    assert began_s < FOLLOWERS_ANSWERED_S
    assert p99 < health.bound(HEALTHY_S)
    assert {one["status"] for one in final.values()} == {"succeeded"}
    assert ingress.is_running()


def test_the_ports_of_replicas_ask_for_a_token(service: ServiceProcess) -> None:
    """Ray opens two for each replica, one of them on every address; what they take is run."""
    found: dict[tuple[int, int], set[grpc.StatusCode | None]] = {}
    for replica in (*service.replicas("Studio"), *service.replicas("Director")):
        ports = [line.laddr.port for line in replica.net_connections("tcp") if line.status == psutil.CONN_LISTEN]
        found |= {(replica.pid, port): {_refusal(port, method) for method in REPLICA_METHODS} for port in ports}
    assert len(found) >= 4, found
    expected = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED}  # each port knows one of the methods
    assert all(refusals == expected for refusals in found.values()), found


def _refusal(port: int, method: str) -> grpc.StatusCode | None:
    """How a request without a token is refused; None if it is answered."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            channel.unary_unary(method)(b"", timeout=60)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
    return None


def serving_processes(service: ServiceProcess) -> dict[str, psutil.Process]:
    """Serve's proxy and the Ingress replicas."""
    proxies = [process for process in service.processes() if "ProxyActor" in "".join(process.cmdline())]
    ingresses = {f"Ingress {number}": process for number, process in enumerate(service.replicas("Ingress"))}
    return {"proxy": proxies[0], **ingresses}


def finish(caller: Caller) -> None:
    for job in caller.request("GET", "/v1/jobs").json()["jobs"]:
        caller.request("DELETE", f"/v1/jobs/{job['id']}")
