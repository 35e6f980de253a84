"""TCP ports that stay free until the process that was given one listens on it."""

from __future__ import annotations

from lipwright.launch.readiness import free_port as quiet_port

__all__ = ["quiet_port"]
