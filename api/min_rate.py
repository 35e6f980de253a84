"""Minimum rate of uploads and downloads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class MinRate:
    """Enforces a minimum rate, as a token bucket: waiting for the client spends time, transferred bytes earn it back.

    Over any period, the body must be transferred at `min_bytes_per_s`, apart from `max_pause_s` of pauses. Time that
    the service needs to read or write data does not count.

    Args:
        min_bytes_per_s: Minimum rate.
        max_pause_s: Capacity of the bucket, in seconds; it starts full.
    """

    min_bytes_per_s: float
    max_pause_s: float
    left_s: float = 0.0

    def __post_init__(self) -> None:
        self.left_s = self.max_pause_s

    def count(self, num_bytes: int, waited_s: float) -> None:
        """Count transferred bytes and the time spent waiting for the client to transfer them."""
        earned_s = num_bytes / self.min_bytes_per_s
        self.left_s = min(self.max_pause_s, self.left_s - waited_s + earned_s)
