"""What every replica needs: its device and threads, a gate for calls, and a way to run blocking work."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from functools import partial, update_wrapper
from queue import SimpleQueue
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import cv2
import ray
from ray import serve
from ray.serve.exceptions import RayServeException

from lipwright.config import PipelineConfig
from lipwright.errors import CapacityError, ConfigError, StageTimeoutError
from lipwright.jobs.model.compute import ComputeMeter, ComputeTime, Metered, current_meter, metered, received
from lipwright.media.cancel_token import CancelToken
from lipwright.media.decoding.decoder import Decoders
from lipwright.telemetry import metrics
from lipwright.telemetry.log_context import CallContext, call_context, configure_logging
from lipwright.telemetry.tracing import span, start_tracing
from models.engines.protocol import ComputeResources, Device

P = ParamSpec("P")
T = TypeVar("T")

GRACE_S = 60.0
"""How long a replica that Serve stops may take to end its calls, such as a segment, in seconds."""
_NICENESS = 5
_MAX_LATE_S = 1.0  # how long a request that timed out waits for its thread
_REFUSAL_S = 0.25  # calls that arrived at the same time are refused within this time, on a busy machine too


def claim_threads(niceness: int = _NICENESS) -> int:
    """Turn off OpenCV's threads and return the number of threads (at least 1) for everything else.

    Ray only accounts for `num_cpus`: without this, every replica uses all cores. OpenCV's tasks are too small to split:
    generating a face with two OpenCV threads takes 1.4 times the CPU and the same time. Torch reads OMP_NUM_THREADS,
    which Ray sets; importing torch here would add two seconds to the start of every replica. `niceness` lowers the
    priority of this process, so that a busy machine still answers requests.
    """
    cpus = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
    num_threads = max(1, int(cpus))
    cv2.setNumThreads(0)
    os.setpriority(os.PRIO_PROCESS, 0, max(os.getpriority(os.PRIO_PROCESS, 0), niceness))
    return num_threads


def assigned_device() -> Device:
    """Return "cuda" if this replica was given a GPU or a fraction of one, else "cpu".

    A replica with `num_gpus: 0` still sees the GPUs, so their visibility proves nothing.
    """
    return "cuda" if ray.get_runtime_context().get_assigned_resources().get("GPU", 0) > 0 else "cpu"


def free_gpu_memory() -> None:
    """Release the memory that PyTorch caches of dropped networks."""
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def service_name() -> str:
    """Return a name that all replicas of this service share, and no other service has.

    Names sort by the time at which the service started.
    """
    return f"{ray.get_runtime_context().get_session_name()}/{serve.get_replica_context().app_name}"


def set_up_telemetry() -> str:
    """Configure the logs and the traces of this replica; return its name there, such as `Studio#x1y2z3`."""
    configure_logging()
    name = f"process {os.getpid()}"
    with suppress(RayServeException):  # not in Serve
        replica = serve.get_replica_context()
        name = f"{replica.deployment}#{replica.replica_tag}"
    start_tracing(name)
    return name


class CallGate:
    """Admits calls to a replica: any number of them, or one exclusively.

    When a replica dies, any of its calls may have killed it. They are retried exclusively, so that the guilty one takes
    no other call with it. While a call runs exclusively, or while a hung call waits for the replica to be replaced, new
    calls get CapacityError and are retried elsewhere. Calls that waited for a replica arrive together: the exclusive
    one starts after the others have been refused.
    """

    def __init__(self, threads: Threads) -> None:
        """Configure the logs and the traces of this replica."""
        self.replica = set_up_telemetry()
        self._threads = threads
        self._num_inside = 0
        self._is_exclusive = False
        self._left = asyncio.Event()

    @asynccontextmanager
    async def enter(self, context: CallContext) -> AsyncIterator[None]:
        """Run a call in the block; CapacityError if another one runs exclusively or waits to, or a call hangs."""
        if self._is_exclusive:
            raise CapacityError("One call runs exclusively in this replica.", 1.0)
        self._refuse_if_hung()
        with call_context(context):
            if context.attempt > 1:
                async with self._exclusive():
                    yield
                return
            self._num_inside += 1
            try:
                yield
            finally:
                self._num_inside -= 1
                self._left.set()

    @asynccontextmanager
    async def _exclusive(self) -> AsyncIterator[None]:
        self._is_exclusive = True
        try:
            await asyncio.sleep(_REFUSAL_S)
            while self._num_inside:  # each of them has its own timeout
                self._left.clear()
                await self._left.wait()
            self._refuse_if_hung()
            yield
        finally:
            self._is_exclusive = False

    def _refuse_if_hung(self) -> None:
        if self._threads.num_overdue:
            raise CapacityError("A call hangs in this replica.", 1.0)


class _HasGate(Protocol):
    _gate: CallGate


S = TypeVar("S", bound=_HasGate)


def stage_method(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, CallContext, P], Coroutine[Any, Any, Metered[T]]]:
    """Let other stages call a method of a deployment: adds the call context as the first argument, and the gate.

    The result comes with the compute time of the call, and of those that it made;
    `lipwright.jobs.model.compute.received` takes it off. Positional arguments may be results of other calls.
    """

    async def call(self: S, context: CallContext, /, *args: P.args, **kwargs: P.kwargs) -> Metered[T]:
        with metered() as meter:
            own: Any = map(received, args)
            async with self._gate.enter(context):
                with span(method.__qualname__, replica=self._gate.replica):
                    result = await method(self, *own, **kwargs)
            return Metered(result, meter.total)

    update_wrapper(call, method)
    return call


class ComputeClock:
    """Measures work in the threads of this process, for the meter of its context. Thread-safe.

    The CPU time of the process, with all of its threads, and the time of its GPU are divided equally among the work
    that runs at the same time. So the sum over all calls is what the process has used.
    """

    def __init__(self, has_gpu: bool = False) -> None:
        self._has_gpu = has_gpu
        self._lock = threading.Lock()
        self._running: list[ComputeMeter] = []
        self._since = ComputeTime()

    def measure(self, work: Callable[[CancelToken], T], token: CancelToken) -> T:
        """Return `work(token)`."""
        meter = current_meter()
        with self._lock:
            self._divide()
            self._running.append(meter)
        try:
            return work(token)
        finally:
            with self._lock:
                self._divide()
                self._running.remove(meter)

    def _divide(self) -> None:
        now = ComputeTime(time.process_time(), time.monotonic() if self._has_gpu else 0.0)
        num = len(self._running)
        for meter in self._running:
            meter.add(ComputeTime(*((stop - start) / num for stop, start in zip(now, self._since, strict=True))))
        self._since = now


class Threads:
    """Runs the blocking work of one replica in threads, with timeouts, and tracks it until it returns.

    A thread cannot be killed. Decoding is stopped through its `CancelToken`, because its decoder process can be killed.
    Anything else that hangs keeps its thread, and `check` raises so that Serve replaces the replica.

    Args:
        stage: The deployment's name, for errors.
        max_unwind_s: How long a cancelled request waits for its thread.
        max_at_once: Number of tasks that run at the same time; None for any number. NumPy passes the interpreter lock
            between threads thousands of times per second: two tasks at once take 40 % more CPU time than one after the
            other, and hardly finish sooner.
        has_gpu: Whether the time of the tasks counts as GPU time.
    """

    def __init__(
        self, stage: str, max_unwind_s: float = 10.0, max_at_once: int | None = None, has_gpu: bool = False
    ) -> None:
        self._stage = stage
        self._max_unwind_s = max_unwind_s
        self._turn: AbstractAsyncContextManager[None] = (
            nullcontext() if max_at_once is None else asyncio.Semaphore(max_at_once)
        )
        self._workers = _Workers()
        self._clock = ComputeClock(has_gpu)
        self._deadlines: dict[asyncio.Future[Any], float] = {}  # of running work; monotonic clock

    async def run(self, work: Callable[[CancelToken], T], timeout_s: float) -> T:
        """Return the result of `work(token)`, run in a thread.

        On timeout or cancellation of the request, `token` is cancelled and the thread gets time to return: until then
        nothing else uses its resources, and the request still counts for `max_ongoing_requests`.

        Raises:
            StageTimeoutError: The work timed out.
            Exception: Whatever `work` raised.
        """
        async with self._turn:
            return await self._run(work, timeout_s)

    async def _run(self, work: Callable[[CancelToken], T], timeout_s: float) -> T:
        token = CancelToken()
        done = self._workers.start(partial(self._clock.measure, work, token))
        self._deadlines[done] = time.monotonic() + timeout_s
        done.add_done_callback(self._forget_call)
        try:
            await asyncio.wait([done], timeout=timeout_s)
            if not done.done():
                token.cancel()
                await asyncio.wait([done], timeout=_MAX_LATE_S)
                raise StageTimeoutError(f"{self._stage}: timed out after {timeout_s:.0f} s")
        except asyncio.CancelledError:
            token.cancel()
            if done in self._deadlines:
                self._deadlines[done] = min(self._deadlines[done], time.monotonic() + self._max_unwind_s)
            await asyncio.wait([done], timeout=self._max_unwind_s)
            raise
        return done.result()

    @property
    def num_overdue(self) -> int:
        """Number of tasks that are past their timeout, or were cancelled and still run."""
        now = time.monotonic()
        return sum(deadline < now for deadline in self._deadlines.values())

    def check(self) -> None:
        """Raise StageTimeoutError while any task is overdue."""
        if num_overdue := self.num_overdue:
            raise StageTimeoutError(f"{self._stage}: {num_overdue} task(s) hang; Serve replaces this replica")

    def _forget_call(self, done: asyncio.Future[Any]) -> None:
        del self._deadlines[done]
        done.exception()  # or asyncio logs that it was never retrieved


class StageReplica:
    """Base of the deployments that run blocking work: its threads, the gate for calls, and Serve's health check."""

    def __init__(self, stage: str, config: PipelineConfig, max_at_once: int | None = None) -> None:
        """Set up the threads; for the arguments see `Threads`."""
        self._config = config
        self._threads = Threads(stage, max_at_once=max_at_once, has_gpu=assigned_device() == "cuda")
        self._gate = CallGate(self._threads)

    async def ready(self) -> bool:
        """Return True: the constructor has loaded everything."""
        return True

    async def check_health(self) -> None:
        """Raise while work hangs; Serve then replaces the replica."""
        self._threads.check()

    def _claim_resources(self, config: PipelineConfig, niceness: int = _NICENESS) -> ComputeResources:
        """Return the resources of this replica; limits its GPU memory to its share, which Ray only accounts for.

        `niceness`: see `claim_threads`.

        Raises:
            ConfigError: The replica was given a GPU and PyTorch cannot use one.
        """
        share = float(ray.get_runtime_context().get_assigned_resources().get("GPU", 0))
        gpu_share = share if 0 < share < 1 else 1.0  # given none, or several whole ones
        resources = ComputeResources(
            assigned_device(), claim_threads(niceness), gpu_share, config.engine_cache.tensorrt
        )
        if resources.device == "cuda":
            import torch  # takes two seconds; replicas without a GPU skip it

            if not torch.cuda.is_available():
                raise ConfigError("The replica was assigned a GPU, but PyTorch finds no CUDA device.")
            torch.cuda.set_per_process_memory_fraction(resources.gpu_share)
        return resources

    async def _run(self, work: Callable[[CancelToken], T], num_frames: int) -> T:
        """Run `work` in a thread, with the timeout of a call about this number of frames."""
        return await self._threads.run(work, self._config.jobs.call_timeout_s(num_frames))


def make_decoders(
    config: PipelineConfig, warm: bool = True, niceness: int = 0, modules: Sequence[str] = ()
) -> Decoders:
    """Return decoders whose deaths are counted; `warm` starts their fork server, so that no file waits for it.

    `niceness`, `modules`: see `Decoders`.
    """
    decoders = Decoders(config.decoder, partial(metrics.DECODER_DEATHS.add, 1), niceness=niceness, modules=modules)
    if warm:
        decoders.warm()
    return decoders


class _Workers:
    """A pool of reused threads, so that per-thread caches of libraries are not created for every request.

    Not a `ThreadPoolExecutor`: there, hung work occupies slots, and the process waits for it at exit.
    """

    def __init__(self) -> None:
        self._idle: list[SimpleQueue[Callable[[], None]]] = []

    def start(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Run `work` in an idle thread or a new one, in this request's context."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        context = contextvars.copy_context()
        inbox = self._idle.pop() if self._idle else self._new_thread()

        def run() -> None:
            settle: Callable[[], None]
            try:
                settle = partial(done.set_result, context.run(work))
            except BaseException as error:
                # Reference cycles of tracebacks would keep frames and files open until the next garbage collection.
                traceback.clear_frames(error.__traceback__)
                settle = partial(done.set_exception, error)
            self._idle.append(inbox)
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(settle)

        inbox.put(run)
        return done

    def _new_thread(self) -> SimpleQueue[Callable[[], None]]:
        inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()

        def serve() -> None:
            while True:
                # Not assigned to a name, which would keep its frames alive until the next task.
                inbox.get()()

        threading.Thread(target=serve, daemon=True).start()
        return inbox
