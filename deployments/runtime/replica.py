"""What a replica knows of itself: its device, who is at work in it, and how it runs blocking work."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from functools import partial, update_wrapper
from queue import SimpleQueue
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import cv2
import ray
from ray import serve

from deployments.runtime.ray_internals import session_name
from errors import CapacityError, ConfigError, StageTimeoutError
from media.cancel_token import CancelToken
from models.engines.protocol import Device, Machine
from telemetry.log_context import CallContext, call_context, configure_logging

P = ParamSpec("P")
T = TypeVar("T")

_NICENESS = 5
_MAX_LATE_S = 1.0  # how long one whose bound passed waits for it
_REFUSAL_S = 0.25  # in which whoever came to a replica at the same moment has its answer, on a busy machine too


def claim_threads(niceness: int = _NICENESS) -> int:
    """Take OpenCV's threads from it and return the number of threads (at least 1) for everything else.

    The replica also gives way to those that only answer, by `niceness`, so that a busy machine is not a silent one.

    Ray's `num_cpus` is bookkeeping only: without this every replica uses all cores. OpenCV's work here is too small to
    be divided: painting a face on two threads of its own takes 1.4 times the CPU and no less time. Torch takes its
    number from OMP_NUM_THREADS, which Ray sets; importing it here would cost every replica two seconds of its start.
    """
    cpus = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
    num_threads = max(1, int(cpus))
    cv2.setNumThreads(0)
    os.setpriority(os.PRIO_PROCESS, 0, max(os.getpriority(os.PRIO_PROCESS, 0), niceness))
    return num_threads


def assigned_device() -> Device:
    """Return "cuda" if this replica was given a GPU or a fraction of one, else "cpu".

    A replica with `num_gpus: 0` still sees the GPUs, so visibility says nothing.
    """
    return "cuda" if ray.get_runtime_context().get_assigned_resources().get("GPU", 0) > 0 else "cpu"


def assigned_gpu_share() -> float:
    """Return the fraction of a GPU that this replica was given; 1 where it was given none, or several."""
    share = float(ray.get_runtime_context().get_assigned_resources().get("GPU", 0))
    return share if 0 < share < 1 else 1.0


def claim_gpu_share(machine: Machine) -> None:
    """Bound the GPU memory of this process by its share: Ray's fraction is bookkeeping only.

    Raises:
        ConfigError: The replica was given a GPU and PyTorch cannot use one.
    """
    if machine.device == "cpu":
        return
    import torch  # two seconds, which a replica without a GPU does not pay

    if not torch.cuda.is_available():
        raise ConfigError("The replica was given a GPU, and PyTorch finds no CUDA device.")
    torch.cuda.set_per_process_memory_fraction(machine.gpu_share)


def free_gpu_memory() -> None:
    """Give back what PyTorch has kept of networks that are gone."""
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def service_name() -> str:
    """Return a name that all replicas of this service share, and no other service has.

    Names sort by the time at which the service started.
    """
    return f"{session_name()}/{serve.get_replica_context().app_name}"


class CallGate:
    """Who is at work in a replica: any number of calls, or one alone.

    When a replica dies, each of its calls may be to blame. They are tried again alone, so that the one that is cannot
    take innocent ones with it a second time. Who comes meanwhile is told that there is no room, and comes again; so is
    who comes to work that hangs: with this replica, which will be replaced, one more try would be lost. Calls that
    waited for a replica come to it together: the one that is alone begins when the others have been told.

    Args:
        threads: The work of this replica.
    """

    def __init__(self, threads: Threads) -> None:
        """Have log lines of this replica say what they are about."""
        configure_logging()
        self._threads = threads
        self._num_inside = 0
        self._is_exclusive = False
        self._left = asyncio.Event()

    @asynccontextmanager
    async def enter(self, context: CallContext) -> AsyncIterator[None]:
        """Be at work for the block.

        Raises:
            CapacityError: Another call is here alone, or waits to be; or work hangs.
        """
        if self._is_exclusive:
            raise CapacityError("One call runs alone in this replica.", 1.0)
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
            while self._num_inside:  # each of them is bounded by its own work
                self._left.clear()
                await self._left.wait()
            self._refuse_if_hung()
            yield
        finally:
            self._is_exclusive = False

    def _refuse_if_hung(self) -> None:
        if self._threads.num_overdue:
            raise CapacityError("Work hangs in this replica.", 1.0)


class _HasGate(Protocol):
    _gate: CallGate


S = TypeVar("S", bound=_HasGate)


def stage_method(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, CallContext, P], Coroutine[Any, Any, T]]:
    """Make `method` of a deployment a call between stages: its first argument says what it is done for."""

    async def call(self: S, context: CallContext, /, *args: P.args, **kwargs: P.kwargs) -> T:
        async with self._gate.enter(context):
            return await method(self, *args, **kwargs)

    update_wrapper(call, method)
    return call


class Threads:
    """Blocking work of one replica: each piece in a thread, within a bound, and remembered until it has come back.

    A thread cannot be ended from outside. Decoding work is ended through its `CancelToken`, because its decoder can be
    killed; what hangs elsewhere stays, and `check` then fails, so that Serve replaces the replica.

    Args:
        stage: The deployment's name, for errors.
        max_unwind_s: How long a cancelled request waits for its thread.
        max_at_once: Pieces of work that run at the same time, others wait for the bound of those before them; None
            for any number. Work in NumPy passes the interpreter's lock from thread to thread thousands of times a
            second: two pieces at once take 40 % more processor time than one after the other, and end little sooner.
    """

    def __init__(self, stage: str, max_unwind_s: float = 10.0, max_at_once: int | None = None) -> None:
        self._stage = stage
        self._max_unwind_s = max_unwind_s
        self._turn: AbstractAsyncContextManager[None] = (
            nullcontext() if max_at_once is None else asyncio.Semaphore(max_at_once)
        )
        self._workers = _Workers()
        self._deadlines: dict[asyncio.Future[Any], float] = {}  # of work that has not come back; monotonic clock

    async def run(self, work: Callable[[CancelToken], T], timeout_s: float) -> T:
        """Return `work(token)`, done in a thread when it is its turn.

        On timeout or cancellation of the request, `token` is cancelled and the thread is given time to come back:
        what it uses is then in no other hands, and the replica's `max_ongoing_requests` stays honest.

        Raises:
            StageTimeoutError: The bound passed.
            Exception: Whatever `work` raised.
        """
        async with self._turn:
            return await self._run(work, timeout_s)

    async def _run(self, work: Callable[[CancelToken], T], timeout_s: float) -> T:
        token = CancelToken()
        done = self._workers.start(partial(work, token))
        self._deadlines[done] = time.monotonic() + timeout_s
        done.add_done_callback(self._came_back)
        try:
            await asyncio.wait([done], timeout=timeout_s)
            if not done.done():
                token.cancel()
                await asyncio.wait([done], timeout=_MAX_LATE_S)
                raise StageTimeoutError(f"{self._stage}: expected the work done in {timeout_s:.0f} s, found no end")
        except asyncio.CancelledError:
            token.cancel()
            if done in self._deadlines:
                self._deadlines[done] = min(self._deadlines[done], time.monotonic() + self._max_unwind_s)
            await asyncio.wait([done], timeout=self._max_unwind_s)
            raise
        return done.result()

    @property
    def num_overdue(self) -> int:
        """Pieces of work that are past their bound, or cancelled and still not back."""
        now = time.monotonic()
        return sum(deadline < now for deadline in self._deadlines.values())

    def check(self) -> None:
        """Raise StageTimeoutError while work is overdue."""
        if num_overdue := self.num_overdue:
            raise StageTimeoutError(f"{self._stage}: expected all work done within its bound, found {num_overdue} not")

    def _came_back(self, done: asyncio.Future[Any]) -> None:
        del self._deadlines[done]
        done.exception()  # nobody may be left to look at it


class _Workers:
    """Threads that are used again: what libraries keep for each thread is kept once, not once a request.

    Not `ThreadPoolExecutor`: there, work that hangs takes the place of work that does not, and is waited for at exit.
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
                # Cycles of tracebacks would keep frames and open files until the next collection.
                traceback.clear_frames(error.__traceback__)
                settle = partial(done.set_exception, error)
            self._idle.append(inbox)
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle)

        inbox.put(run)
        return done

    def _new_thread(self) -> SimpleQueue[Callable[[], None]]:
        inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()

        def serve() -> None:
            while True:
                # No name for it: it would hold frames until the next work comes.
                inbox.get()()

        threading.Thread(target=serve, daemon=True).start()
        return inbox
