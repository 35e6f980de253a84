"""Stages that answer no call; a test defines those that it expects."""

from __future__ import annotations

from typing import Any


class NoStages:
    """Implements `lipwright.jobs.ports.Stages`: every method that a subclass does not define fails the test."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AssertionError(f"expected no call of Stages.{name}")

    async def ready(self) -> bool:
        return True
