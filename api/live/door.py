"""How many live sessions there are at a time: who comes when all are taken is told so before anything is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from config import LiveConfig
from errors import BusyError

_AGAIN_S: Final = 15.0


class LiveDoor:
    """The places of one replica of the Ingress."""

    def __init__(self, live: LiveConfig) -> None:
        self._max_sessions = live.max_sessions
        self._num_inside = 0

    @property
    def num_sessions(self) -> int:
        """Sessions at the moment."""
        return self._num_inside

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Hold a place for the block.

        Raises:
            BusyError: All are taken.
        """
        if self._num_inside >= self._max_sessions:
            raise BusyError(
                f"All live sessions are taken: expected fewer than {self._max_sessions}, found {self._num_inside}.",
                _AGAIN_S,
            )
        self._num_inside += 1
        try:
            yield
        finally:
            self._num_inside -= 1
