"""The configuration of HAProxy as the front proxy: limits, the proxy's own responses, and the file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from net.access_rule import CALLER_HEADER, FRONT_HEADER


@dataclass(frozen=True)
class FrontLimits:
    """Limits of the front proxy.

    Uploads and downloads have separate slots. A caller has a share of each; all callers compete for the spare slots.

    Attributes:
        max_connections: Connections at a time; Serve's config allows as many requests.
        max_health_connections: Connections of the health listener.
        max_head_bytes: Request line and headers; nginx and httpd limit each line to 8 KiB.
        buffer_bytes: Size of a buffer, of which each connection that transfers data has two.
        head_s: Time to receive the headers, in seconds from the connection or the first byte on.
        idle_s: How long a client may neither send nor receive although it could, in seconds. Waiting for the service
            does not count.
        unacknowledged_s: Seconds until a client whose machine is gone is given up.
        max_quick: Concurrent requests without body or stream, so /healthz waits behind at most these.
        max_uploads: Concurrent uploads.
        max_downloads: Concurrent downloads.
        upload_share: Uploads of one caller: as many as the default queue holds of its jobs. Each start takes 5 ms in
            Serve, for which health checks wait if all of them start at once.
        download_share: Downloads of one caller.
        max_spare_uploads: Spare slots for uploads.
        max_spare_downloads: Spare slots for downloads.
        max_new_uploads: Concurrent uploads of callers that have not been authenticated yet.
        new_share: Uploads of one address that has not been authenticated yet.
        known_for: How long credentials count as known after the service last accepted them.
        max_followers: Event streams.
        max_new_followers: Event streams of callers that have not been authenticated yet.
        followers_per_s: New event streams per second; each takes 10 ms in Serve.
        new_followers_per_s: The same of callers that have not been authenticated yet.
        max_live: WebSockets; the service limits the sessions.
        live_bytes_per_s: Bytes per second of a WebSocket: twenty times the rate of speech at 24 kHz.
        queue_s: Seconds that a request waits for a slot.
    """

    max_connections: int = 2048
    max_health_connections: int = 16
    max_head_bytes: int = 16 * 1024
    buffer_bytes: int = 64 * 1024
    head_s: int = 10
    idle_s: int = 60
    unacknowledged_s: int = 30
    max_quick: int = 64
    max_uploads: int = 384
    max_downloads: int = 384
    upload_share: int = 32
    download_share: int = 128
    max_spare_uploads: int = 32
    max_spare_downloads: int = 128
    max_new_uploads: int = 64
    new_share: int = 32
    known_for: str = "24h"
    max_followers: int = 256
    max_new_followers: int = 64
    followers_per_s: int = 20
    new_followers_per_s: int = 10
    max_live: int = 64
    live_bytes_per_s: int = 1024 * 1024
    queue_s: int = 20

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
    """Write HAProxy's configuration.

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
    config = _CONFIG.format(
        limits=limits,
        max_all=limits.max_connections + 2 * limits.max_health_connections,
        folder=folder,
        listener=listener,
        serve=f"serve 127.0.0.1:{serve_port}",
        front_header=FRONT_HEADER,
        caller_header=CALLER_HEADER,
    )
    if health_listener is not None:
        config += _HEALTH.format(limits=limits, folder=folder, listener=health_listener)
    if metrics is not None:
        config += _METRICS.format(limits=limits, folder=folder, listener=metrics[0], port=metrics[1])
    path = folder / "haproxy.cfg"
    path.write_text(config, encoding="utf-8")
    return path


def _answers(limits: FrontLimits) -> dict[str, tuple[str, str, str]]:
    """Return status, code and detail of the proxy's own responses, by the name of their file.

    They have the format of `api.problem`, except 400 and 408, whose bodies HAProxy fixes.
    """
    unavailable, lost = "503 Service Unavailable", "replica_lost"
    return {
        "431": (
            "431 Request Header Fields Too Large",
            "head_too_large",
            f"Request line and headers are limited to {limits.max_head_bytes} bytes.",
        ),
        "404": ("404 Not Found", "not_found", "This path does not exist."),
        "host": ("403 Forbidden", "forbidden", "Metrics are served at http://127.0.0.1 and http://localhost only."),
        "busy": (unavailable, "busy", "Too many event streams. Poll GET /v1/jobs/ID instead."),
        "new": (
            unavailable,
            "busy",
            "Too many uploads from this address without a known API key. Send GET /v1/status with the key first.",
        ),
        "live": (unavailable, "busy", "Too many live sessions."),
        "502": ("502 Bad Gateway", lost, "The service closed the connection while responding."),
        "503": (unavailable, lost, "The service is starting, stopping or has too many requests."),
        "504": ("504 Gateway Timeout", "stage_timeout", "The service did not answer."),
    }


def _answer(status: str, code: str, detail: str) -> bytes:
    """Return a complete HTTP response in the format of `api.problem.Problem`."""
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


# Keywords: HAProxy 2.8, Configuration Manual. The two `x-request-...` headers are removed because Serve obeys them; one
# of them turns off the detection of disconnected clients.
_CONFIG: Final = """\
global
    maxconn {max_all}
    nbthread 1
    tune.bufsize {limits.buffer_bytes}
    tune.maxrewrite 1024
    hard-stop-after 3s

defaults
    mode http
    option http-no-delay
    option abortonclose
    timeout connect 5s
    timeout http-request {limits.head_s}s
    timeout http-keep-alive {limits.idle_s}s
    timeout client {limits.idle_s}s
    timeout server 1h
    retries 1
    errorfile 502 {folder}/502.http
    errorfile 503 {folder}/503.http
    errorfile 504 {folder}/504.http

frontend callers
    maxconn {limits.max_connections}
    bind fd@{listener} tcp-ut {limits.unacknowledged_s}s
    stick-table type ipv6 size 100k expire 2m store conn_cur
    # Everybody has a /64 network of IPv6. A reverse proxy on this machine brings the connections of many clients.
    acl is_here src 127.0.0.1 ::1
    tcp-request connection track-sc0 src,ipmask(32,64) unless is_here
    acl has_some sc0_conn_cur gt {limits.max_per_address[2]}
    acl has_many sc0_conn_cur gt {limits.max_per_address[1]}
    tcp-request connection reject if {{ sc0_conn_cur gt {limits.max_per_address[0]} }}
    tcp-request connection reject if has_many {{ fe_conn gt {limits.half_full} }}
    tcp-request connection reject if has_some {{ fe_conn gt {limits.nearly_full} }}
    tcp-request connection reject if is_here {{ fe_conn gt {limits.max_from_here} }}
    http-request set-var(txn.target_bytes) url,length
    http-request set-var(txn.head_bytes) req.hdrs,length,add(txn.target_bytes)
    acl is_large var(txn.head_bytes) -m int gt {limits.max_head_bytes}
    http-request return status 431 errorfile {folder}/431.http if is_large
    http-request del-header x-request-disconnect-disabled
    http-request del-header x-request-timeout-seconds
    http-request set-header {front_header} "%[src] %[req.ver]"
    acl is_live path /v1/live /v1/live/view
    http-request del-header sec-websocket-extensions if is_live
    http-request set-header x-request-timeout-seconds 0 if is_live
    http-request return status 503 errorfile {folder}/live.http if is_live {{ be_conn(live) ge {limits.max_live} }}
    # The service names the caller of each request that it authenticated; `known_callers` maps credentials to callers.
    # Other callers are told apart by address.
    http-request set-var-fmt(txn.credentials) "%[src] %[req.fhdr(authorization)] %[req.fhdr(x-api-key)]"
    http-request set-var-fmt(txn.credentials) "%[var(txn.credentials)] %[req.fhdr(cookie)]"
    http-request set-var(txn.credentials) var(txn.credentials),sha2(256),hex
    acl is_known var(txn.credentials),in_table(known_callers)
    http-request set-var(txn.key) var(txn.credentials),table_gpt0(known_callers)
    http-request set-var(txn.network) src,ipmask(32,64)
    http-request set-var-fmt(txn.caller) "%[var(txn.network)]"
    http-request set-var-fmt(txn.caller) "%[var(txn.key)]" if {{ var(txn.key) -m int gt 0 }}
    http-response track-sc2 var(txn.credentials) table known_callers if {{ res.hdr({caller_header}) -m found }}
    http-response sc-set-gpt0(2) res.hdr({caller_header}),xxh32 if {{ res.hdr({caller_header}) -m len gt 1 }}
    http-response del-header {caller_header}
    acl is_get method GET
    acl is_events path_reg ^/v1/jobs/[^/]+/events$
    acl are_many be_conn(followers) ge {limits.max_followers}
    acl are_many be_sess_rate(followers) ge {limits.followers_per_s}
    acl are_many_new be_conn(new_followers) ge {limits.max_new_followers}
    acl are_many_new be_sess_rate(new_followers) ge {limits.new_followers_per_s}
    acl is_upload req.hdr_cnt(content-length) gt 0
    acl is_upload req.hdr_cnt(transfer-encoding) gt 0
    acl is_download path_end /video /preview /source /content
    acl is_download path_beg /static-offline-docs/ /easy/download
    http-request track-sc1 var(txn.caller) table uploads if is_upload
    http-request track-sc1 var(txn.caller) table downloads if is_download !is_upload
    acl is_over_upload_share sc1_conn_cur gt {limits.upload_share}
    acl is_over_download_share sc1_conn_cur gt {limits.download_share}
    acl is_over_new_share sc1_conn_cur gt {limits.new_share}
    # No path of ours contains "%": an escaped spelling of a path would bypass these rules.
    http-request return status 404 errorfile {folder}/404.http if {{ path -m sub % }}
    http-request return status 503 errorfile {folder}/busy.http if is_get is_events is_known are_many
    http-request return status 503 errorfile {folder}/busy.http if is_get is_events !is_known are_many_new
    http-request return status 503 errorfile {folder}/new.http if is_upload !is_known is_over_new_share
    use_backend health if {{ path /healthz /readyz }}
    use_backend live if is_live
    use_backend followers if is_get is_events is_known
    use_backend new_followers if is_get is_events
    use_backend new_uploads if is_upload !is_known
    use_backend spare_uploads if is_upload is_over_upload_share
    use_backend uploads if is_upload
    use_backend spare_downloads if is_download is_over_download_share
    use_backend downloads if is_download
    default_backend quick

# Slow and fast requests have separate queues, and health checks do not queue at all.
backend health
    server {serve} maxconn {limits.max_quick}
backend followers
    server {serve}
backend new_followers
    server {serve}
backend known_callers
    stick-table type string len 64 size 100k expire {limits.known_for} store gpt0
# A WebSocket lives as long as its session, which has its own limits; Serve's timeout is for responses. Bandwidth is
# limited here because nothing behind does it. Compression is off because it would bypass the limit.
backend live
    filter bwlim-in from-caller default-limit {limits.live_bytes_per_s} default-period 1s
    http-request set-bandwidth-limit from-caller
    timeout tunnel {limits.idle_s}s
    server {serve} maxconn {limits.max_live}
backend uploads
    stick-table type string len 48 size 100k expire 2m store conn_cur
    timeout queue {limits.queue_s}s
    server {serve} maxconn {limits.max_uploads}
backend spare_uploads
    timeout queue {limits.queue_s}s
    server {serve} maxconn {limits.max_spare_uploads}
backend new_uploads
    timeout queue {limits.queue_s}s
    server {serve} maxconn {limits.max_new_uploads}
backend downloads
    stick-table type string len 48 size 100k expire 2m store conn_cur
    timeout queue {limits.queue_s}s
    server {serve} maxconn {limits.max_downloads}
backend spare_downloads
    timeout queue {limits.queue_s}s
    server {serve} maxconn {limits.max_spare_downloads}
backend quick
    timeout queue {limits.queue_s}s
    server {serve} maxconn {limits.max_quick}
"""

# Health checks on a port of their own are answered even if callers take all connections.
_HEALTH: Final = """\
frontend health_checks
    maxconn {limits.max_health_connections}
    bind fd@{listener}
    timeout http-request 2s
    timeout client 5s
    option httpclose
    http-request return status 404 errorfile {folder}/404.http unless {{ path /healthz /readyz }}
    http-request del-header x-request-disconnect-disabled
    http-request del-header x-request-timeout-seconds
    default_backend health
"""

# Ray's exporter answers any Host: a web page whose domain points to 127.0.0.1 (DNS rebinding) could read the metrics.
_METRICS: Final = """\
frontend metrics
    maxconn {limits.max_health_connections}
    bind fd@{listener}
    timeout http-request 2s
    timeout client 5s
    option httpclose
    acl is_here req.hdr(host),host_only -m str -i 127.0.0.1 localhost [::1]
    http-request return status 403 errorfile {folder}/host.http unless is_here
    default_backend metrics
backend metrics
    server ray 127.0.0.1:{port}
"""
