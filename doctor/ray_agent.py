"""Checks the port of Ray's dashboard agent, without which `ray job submit` finds no agent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from doctor.check_result import CheckResult, ok, warning

AGENT_PORT: Final = 52365
"""Ray's default for `ray start --dashboard-agent-listen-port`."""
_LISTEN: Final = "0A"  # TCP_LISTEN of the kernel's include/net/tcp_states.h
_AGENT: Final = "ray::DashboardAgent"
_PROC: Final = Path("/proc")


def check_agent_port(port: int, num_rays: int) -> CheckResult:
    """Checks that each Ray on this machine can have its agent's port.

    Args:
        port: TCP port of the agents.
        num_rays: Number of Ray nodes on this machine that use this port, as from `num_rays_on`.
    """
    sockets = _listening_sockets(port)
    if not sockets:
        return ok(f"{port} is free")
    option = "--dashboard-agent-listen-port"
    holder = _holder(sockets)
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
    commands = (_command(process) for process in _processes())
    return sum(b"/raylet" in command[0] and _listens(command, port) for command in commands if command)


def _listens(command: list[bytes], port: int) -> bool:
    # The raylet starts the agent; the agent's command is one of its arguments.
    return any(f"--listen-port={port}".encode() in argument.split() for argument in command)


def _listening_sockets(port: int) -> set[str]:
    """Returns the inodes of the sockets that listen on this port, on any address; see proc_net_tcp in the kernel."""
    sockets = set()
    for table in ("tcp", "tcp6"):
        try:
            _, *lines = (_PROC / "net" / table).read_text(encoding="ascii").splitlines()
        except OSError:  # no IPv6
            continue
        for line in lines:
            _, local, _, state, *fields = line.split()
            if state == _LISTEN and int(local.rpartition(":")[2], 16) == port:
                sockets.add(fields[5])
    return sockets


def _holder(sockets: set[str]) -> str | None:
    """Returns the program that has one of these sockets open; None if no visible one has."""
    links = {f"socket:[{inode}]" for inode in sockets}
    for process in _processes():
        try:
            if any(os.readlink(file) in links for file in (process / "fd").iterdir()):
                program = _command(process)[0].decode(errors="replace")
                return _AGENT if program.startswith(_AGENT) else f"{program} (process {process.name})"
        except (OSError, IndexError):  # another user's, or gone
            continue
    return None


def _processes() -> Iterator[Path]:
    return (process for process in _PROC.iterdir() if process.name.isdigit())


def _command(process: Path) -> list[bytes]:
    """Returns the arguments of a process; none if it is gone."""
    try:
        return [each for each in (process / "cmdline").read_bytes().split(b"\0") if each]
    except OSError:
        return []
