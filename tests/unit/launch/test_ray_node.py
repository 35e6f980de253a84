"""The processes of a Ray node: which have ended, and what is killed with them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import psutil
import pytest
from ray import serve

from lipwright.launch import ray_node
from lipwright.launch.ray_node import RayNode
from tests.waiting import wait_until


@pytest.fixture
def raylet(tmp_path: Path) -> subprocess.Popen[bytes]:
    """A process of that name with a child, which survives it."""
    program = tmp_path / "raylet"
    program.symlink_to("/bin/sh")
    started = subprocess.Popen([program, "-c", "sleep 60 & wait"])
    wait_until(lambda: psutil.Process(started.pid).children())
    return started


def test_ray_node_raylet_that_ended_is_dead_and_its_child_killed(raylet: subprocess.Popen[bytes]) -> None:
    (agent,) = psutil.Process(raylet.pid).children()
    node = RayNode()
    node.close()
    assert node.dead_processes() == []
    raylet.kill()  # and nobody waits for it
    wait_until(node.dead_processes)
    assert node.dead_processes() == ["raylet"] and agent.is_running()
    node.kill()
    agent.wait(10)
    raylet.wait(10)


def test_ray_node_controller_silence_begins_with_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = SimpleNamespace(applications={"lipwright": None})
    answers = [SimpleNamespace(applications={}), RuntimeError("the actor died"), *[answered] * 100]
    calls = Mock(side_effect=answers)
    monkeypatch.setattr(serve, "status", calls)
    monkeypatch.setattr(ray_node, "_PERIOD_S", 0.01)
    node = RayNode()
    wait_until(lambda: node.controller_silence_s() > 0)
    node.close()
    assert len(calls.mock_calls) >= 3
