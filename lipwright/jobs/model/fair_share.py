"""Shares a server between flows, such as API keys, in proportion to their weights."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

F = TypeVar("F", bound=Hashable)


@dataclass
class FairShare(Generic[F]):
    """Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996).

    Work begins at a virtual time: that of the server, or when the last work of its flow ends, if that is later. The
    work that begins first is served first. Work of a flow lasts as long as it costs, divided by the weight of the flow.
    A flow that had nothing to do saves up no service.

    Attributes:
        virtual_time: Virtual time of the server.
        ends: Virtual time at which the last work of each flow ends, for flows that are ahead of the server.
    """

    virtual_time: float = 0.0
    ends: dict[F, float] = field(default_factory=dict)

    def start_of(self, flow: F) -> float:
        """Return the virtual time at which the next work of a flow begins."""
        return max(self.virtual_time, self.ends.get(flow, 0.0))

    def serve(self, flow: F, cost: float, weight: float, waiting: Iterable[F]) -> None:
        """Serve work of a flow; `waiting` are the flows with work, this one among them."""
        start = self.start_of(flow)
        self.virtual_time = min(map(self.start_of, waiting))
        self.ends[flow] = start + cost / weight
        self.ends = {each: end for each, end in self.ends.items() if end > self.virtual_time}
