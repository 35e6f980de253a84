"""The configuration of HAProxy as the front proxy: limits, the proxy's own responses, and the file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template
from typing import Final

from lipwright.api.session_token import COOKIE
from lipwright.net.access_rule import FRONT_HEADER
from lipwright.storage.key_ring import ApiKey

NO_KEYS: Final = "no-keys"
"""The only entry of the map of keys if there are none."""
_TEMPLATES: Final = Path(__file__).parent / "haproxy"


@dataclass(frozen=True)
class FrontLimits:
    """Limits of the front proxy.

    Each request belongs to a class, which has slots of its own and a queue for them. A caller, an API key or an
    address, has a share of the slots of each class. Beyond it, all callers compete for the spare slots of the class; if
    it has none, the request is refused.

    Attributes:
        max_connections: Connections at a time; Serve's config allows as many requests.
        max_health_connections: Connections of the health listener.
        max_streams: Concurrent requests of one HTTP/2 connection.
        max_head_bytes: Request line and headers; nginx and httpd limit each line to 8 KiB.
        buffer_bytes: Size of a buffer, of which each connection that transfers data has two.
        head_s: Time to receive the headers, in seconds from the connection or the first byte on.
        idle_s: How long a client may neither send nor receive although it could, in seconds. Waiting for the service
            does not count.
        unacknowledged_s: Seconds until a client whose machine is gone is given up.
        max_quick: Concurrent requests without body or stream, so /healthz waits behind at most these.
        quick_share: The same of one caller.
        max_spare_quick: Spare slots for them.
        max_uploads: Concurrent requests that may have a body.
        upload_share: Uploads of one caller: as many as the default queue holds of its jobs. Each start takes 5 ms in
            Serve, for which health checks wait if all of them start at once.
        max_spare_uploads: Spare slots for uploads.
        max_downloads: Concurrent downloads and previews.
        download_share: Downloads of one caller.
        max_spare_downloads: Spare slots for downloads.
        max_unknown: Concurrent uploads of callers without a valid API key, and as many other requests.
        unknown_share: The same of one address.
        max_event_streams: Event streams.
        follower_share: Event streams of one caller.
        followers_per_s: New event streams per second; each takes 10 ms in Serve.
        followers_share_per_s: The same of one caller.
        max_live: WebSockets; the service limits the sessions.
        live_share: WebSockets of one caller, if there are API keys.
        live_bytes_per_s: Bytes per second of a WebSocket: twenty times the rate of speech at 24 kHz.
        queue_s: Seconds that a request waits for a slot.
    """

    max_connections: int = 2048
    max_health_connections: int = 16
    max_streams: int = 32
    max_head_bytes: int = 16 * 1024
    buffer_bytes: int = 64 * 1024
    head_s: int = 10
    idle_s: int = 60
    unacknowledged_s: int = 30
    max_quick: int = 64
    quick_share: int = 16
    max_spare_quick: int = 16
    max_uploads: int = 384
    upload_share: int = 32
    max_spare_uploads: int = 32
    max_downloads: int = 384
    download_share: int = 128
    max_spare_downloads: int = 128
    max_unknown: int = 64
    unknown_share: int = 32
    max_event_streams: int = 256
    follower_share: int = 128
    followers_per_s: int = 30
    followers_share_per_s: int = 20
    max_live: int = 64
    live_share: int = 32
    live_bytes_per_s: int = 1024 * 1024
    queue_s: int = 20

    @property
    def shares(self) -> dict[str, int]:
        """The slots of one caller, by class."""
        return {
            "health": self.unknown_share,
            "quick": self.quick_share,
            "uploads": self.upload_share,
            "downloads": self.download_share,
            "followers": self.follower_share,
            "live": self.live_share,
            "unknown_quick": self.unknown_share,
            "unknown_uploads": self.unknown_share,
        }

    @property
    def half_full(self) -> int:
        """Connections from which on an address may have fewer."""
        return self.max_connections // 2

    @property
    def nearly_full(self) -> int:
        """Connections from which on an address may have few."""
        return self.max_connections * 3 // 4

    @property
    def max_per_address(self) -> tuple[int, int, int]:
        """Connections of one address: usually, when half of all are taken, and when nearly all are."""
        return self.max_connections // 4, self.max_connections // 16, self.max_connections // 64

    @property
    def max_from_here(self) -> int:
        """Connections from 127.0.0.1 and ::1; the rest is for other addresses."""
        return self.max_connections - self.max_connections // 8


def write_front_config(
    folder: Path,
    limits: FrontLimits,
    serve_port: int,
    listener: int,
    health_listener: int | None = None,
    metrics: tuple[int, int] | None = None,
) -> Path:
    """Write HAProxy's configuration, except the map of keys; see `key_map`.

    Args:
        folder: Where to write it.
        limits: The limits.
        serve_port: TCP port of Serve on 127.0.0.1.
        listener: File descriptor of the listening socket.
        health_listener: The same of the listener for health checks, if there is one.
        metrics: The same of the listener for metrics, and the TCP port of Ray's exporter on 127.0.0.1.

    Returns:
        Path of the main file.
    """
    for name, (status, code, detail) in _answers(limits).items():
        (folder / f"{name}.http").write_bytes(_answer(status, code, detail))
    (folder / "shares.map").write_text("".join(f"{name} {share}\n" for name, share in limits.shares.items()))
    most, some, few = limits.max_per_address
    values = {
        **asdict(limits),
        "max_all": limits.max_connections + 2 * limits.max_health_connections,
        "half_full": limits.half_full,
        "nearly_full": limits.nearly_full,
        "most_per_address": most,
        "some_per_address": some,
        "few_per_address": few,
        "max_from_here": limits.max_from_here,
        "folder": folder,
        "listener": listener,
        "health_listener": health_listener,
        "metrics_listener": None if metrics is None else metrics[0],
        "metrics_port": None if metrics is None else metrics[1],
        "serve_port": serve_port,
        "front_header": FRONT_HEADER,
        "cookie": COOKIE,
        "no_keys": NO_KEYS,
    }
    names = ["callers.cfg"]
    names += [] if health_listener is None else ["health_checks.cfg"]
    names += [] if metrics is None else ["metrics.cfg"]
    texts = [(_TEMPLATES / name).read_text(encoding="utf-8") for name in names]
    path = folder / "haproxy.cfg"
    path.write_text("".join(Template(text).substitute(values) for text in texts), encoding="utf-8")
    return path


def key_map(keys: Iterable[ApiKey]) -> dict[str, str]:
    """Return what `keys.map` holds, by which the proxy recognizes callers."""
    return {key.id: key.hash for key in keys} or {NO_KEYS: "1"}


def _answers(limits: FrontLimits) -> dict[str, tuple[str, str, str]]:
    """Return status, code and detail of the proxy's own responses, by the name of their file.

    They have the format of `lipwright.api.problem`. HAProxy fixes the bodies of its own 400 and 408.
    """
    unavailable, lost = "503 Service Unavailable", "replica_lost"
    return {
        "431": (
            "431 Request Header Fields Too Large",
            "head_too_large",
            f"Request line and headers are limited to {limits.max_head_bytes} bytes.",
        ),
        "404": ("404 Not Found", "not_found", "This path does not exist."),
        "metrics": ("403 Forbidden", "forbidden", "Metrics are served at http://127.0.0.1 and http://localhost only."),
        "host": ("400 Bad Request", "bad_request", "HTTP/1.1 requires exactly one Host header."),
        "followers": (unavailable, "busy", "Too many event streams. Poll GET /v1/jobs/ID instead."),
        "unknown": (
            unavailable,
            "busy",
            f"Too many requests from this address without a valid API key; the limit is {limits.unknown_share} at a "
            "time.",
        ),
        "live": (
            unavailable,
            "busy",
            f"Too many live connections; the limit is {limits.max_live}, and {limits.live_share} per API key.",
        ),
        "502": ("502 Bad Gateway", lost, "The service closed the connection while responding."),
        "503": (unavailable, lost, "The service is starting, stopping or has too many requests."),
        "504": ("504 Gateway Timeout", "stage_timeout", "The service did not answer."),
    }


def _answer(status: str, code: str, detail: str) -> bytes:
    """Return a complete HTTP response in the format of `lipwright.api.problem.Problem`."""
    is_retryable = status.startswith("5")
    problem = {
        "type": f"urn:lipwright:problem:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": int(status[:3]),
        "detail": detail,
        "instance": "",
        "code": code,
        "retryable": is_retryable,
    }
    body = json.dumps(problem).encode()
    fields = f"Content-Type: application/problem+json\r\nContent-Length: {len(body)}\r\nCache-Control: no-store\r\n"
    if is_retryable:
        fields += "Retry-After: 5\r\n"
    return f"HTTP/1.1 {status}\r\n{fields}Connection: close\r\n\r\n".encode() + body
