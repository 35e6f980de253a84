"""How a service is ended: by the signal handler that was there before Ray came."""

from __future__ import annotations

import signal
from types import FrameType

from launch.environment import restore_sigterm


def test_restore_sigterm_restores_the_handler() -> None:
    def ours(number: int, frame: FrameType | None) -> None:
        raise AssertionError("no signal is sent")

    before = signal.signal(signal.SIGTERM, ours)
    try:
        with restore_sigterm():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)
