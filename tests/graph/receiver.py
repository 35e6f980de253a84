"""A receiver of webhooks on loopback, as its owner would write it from the specification."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.threads import QuietHandler, http_server
from tests.waiting import wait_until


@dataclass(frozen=True)
class Hook:
    """One request that came in."""

    path: str
    headers: dict[str, str]
    body: bytes
    received_at: float = field(default_factory=time.time)

    @property
    def event(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    def is_signed_with(self, secret: str) -> bool:
        """Standard Webhooks 1.0.0: HMAC-SHA256 of `id.timestamp.body` under the key that follows `whsec_`."""
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        key = base64.b64decode(secret.removeprefix("whsec_"))
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        is_fresh = abs(int(self.headers["webhook-timestamp"]) - self.received_at) < 30
        return is_fresh and f"v1,{expected}" in self.headers["webhook-signature"].split(" ")


@dataclass
class Receiver:
    """What came, and what is answered: each status once, then 204."""

    url: str
    statuses: list[int]
    hooks: list[Hook] = field(default_factory=list)

    def wait(self, num_hooks: int, timeout_s: float) -> list[Hook]:
        """The hooks, once there are that many."""
        wait_until(lambda: len(self.hooks) >= num_hooks, timeout_s)
        return self.hooks


@contextmanager
def receiving(port: int = 0, statuses: tuple[int, ...] = ()) -> Iterator[Receiver]:
    """A receiver for the block."""
    receiver = Receiver("", list(statuses))

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.hooks.append(Hook(self.path, headers, self.body()))
            self.answer(status=receiver.statuses.pop(0) if receiver.statuses else 204)

    with http_server(Handler, port) as used_port:
        receiver.url = f"http://127.0.0.1:{used_port}"
        yield receiver
