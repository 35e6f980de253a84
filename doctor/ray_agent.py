"""Checks the port of Ray's dashboard agent, without which `ray job submit` finds no agent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import psutil

from doctor.check_result import CheckResult, ok, warning

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
