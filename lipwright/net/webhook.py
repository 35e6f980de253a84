"""Delivers a signed webhook (Standard Webhooks 1.0.0, github.com/standard-webhooks/standard-webhooks, spec)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType

from standardwebhooks.webhooks import Webhook

from lipwright.config import NetworkConfig
from lipwright.errors import UrlFetchError, UrlRefusedError
from lipwright.net.ssrf_guard import SsrfGuard, fetch_errors

MAX_ATTEMPTS = 8
"""Attempts to deliver one webhook, over about 30 hours."""
_GONE = 410
# The specification's example schedule, after the first attempt: 5 s, 5 min, 30 min, 2, 5, 10, 14, 20 and 24 h.
_DELAYS_S = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
_JITTER = 0.2


async def deliver(
    url: str,
    secret: str,
    event_id: str,
    payload: bytes,
    network: NetworkConfig,
    more_headers: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Posts `payload`, JSON in UTF-8, once and returns when the receiver responds with 2xx. A redirect is a failure.

    The secret, `whsec_...`, is shared with the receiver. `event_id` is the same for every attempt of one event, so that
    receivers can drop duplicates; it contains no full stop. `more_headers` are not signed.

    Raises:
        UrlRefusedError: The URL is not allowed, or the receiver responds with 410: do not retry.
        UrlFetchError: It was not delivered; retry later.
    """
    guard = SsrfGuard(network)
    target = guard.check(url)
    headers = [*_sign(secret, event_id, payload, datetime.now(UTC)), *more_headers.items()]
    with fetch_errors(target):
        async with (
            asyncio.timeout(network.connect_timeout_s + network.stall_timeout_s),
            guard.pool(target) as pool,
            pool.stream("POST", target.url, headers=headers, content=payload) as response,
        ):
            status = response.status
    if status == _GONE:
        raise UrlRefusedError(f"{target}: the receiver is gone (status {status}).")
    if not 200 <= status < 300:
        raise UrlFetchError(f"{target}: expected a status of 2xx, found {status}.")


def retry_delay_s(num_failed: int) -> float:
    """Returns the delay after the `num_failed`-th failure (from 1): the specification's schedule, plus up to 20 %."""
    return _DELAYS_S[min(num_failed, len(_DELAYS_S)) - 1] * random.uniform(1.0, 1.0 + _JITTER)


def longest_delay_s(num_failed: int) -> float:
    """Returns the longest delay that `retry_delay_s` can return; 0 before the first attempt."""
    return _DELAYS_S[min(num_failed, len(_DELAYS_S)) - 1] * (1.0 + _JITTER) if num_failed else 0.0


def _sign(secret: str, event_id: str, payload: bytes, now: datetime) -> list[tuple[str, str]]:
    """Returns the headers of one attempt; the signature covers id, time and payload."""
    return [
        ("User-Agent", "lipwright"),
        ("Content-Type", "application/json"),
        ("webhook-id", event_id),
        ("webhook-timestamp", str(int(now.timestamp()))),
        ("webhook-signature", Webhook(secret).sign(event_id, now, payload.decode())),
    ]
