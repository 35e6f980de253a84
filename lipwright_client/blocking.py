"""Runs the asynchronous client over blocking I/O, without an event loop.

Both clients share one implementation, written as coroutines. They suspend only in the I/O that they are given
(`transport`, `async_live`). The synchronous client gives them I/O that blocks, so they run to their end at once.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

A = TypeVar("A")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Blocking(Generic[A]):
    """A synchronous object on top of an asynchronous one."""

    def __init__(self, asynchronous: A) -> None:
        self._async = asynchronous


def converted(
    method: Callable[Concatenate[A, P], T], convert: Callable[[T], R]
) -> Callable[Concatenate[Blocking[A], P], R]:
    """Return the synchronous counterpart of a method, whose result is passed to `convert`."""

    @functools.wraps(method)
    def run(self: Blocking[A], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return convert(method(self._async, *args, **kwargs))

    return run


def blocking(method: Callable[Concatenate[A, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Blocking[A], P], T]:
    """Return the synchronous counterpart of a coroutine method."""
    return converted(method, finish)


def iterating(
    method: Callable[Concatenate[A, P], AsyncGenerator[T]],
) -> Callable[Concatenate[Blocking[A], P], Iterator[T]]:
    """Return the synchronous counterpart of an asynchronous generator method."""
    return converted(method, iterate)


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine whose I/O blocks, and return its result."""
    with contextlib.closing(coroutine):
        try:
            coroutine.send(None)
        except StopIteration as end:
            result: T = end.value
            return result
    raise RuntimeError("A coroutine of the synchronous client waited for an event loop.")


def iterate(items: AsyncGenerator[T, None]) -> Iterator[T]:
    """Iterate over an asynchronous generator whose I/O blocks; closes it at the end."""
    try:
        with contextlib.suppress(StopAsyncIteration):
            while True:
                yield finish(items.asend(None))
    finally:
        finish(items.aclose())


async def asynchronous(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield the items of a blocking iterable."""
    for item in items:
        yield item
