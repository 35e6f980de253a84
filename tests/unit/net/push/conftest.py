"""WebRTC on loopback only."""

from __future__ import annotations

import pytest


@pytest.fixture
def on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ends of a WebRTC connection, which are in this process, use no other interface."""
    monkeypatch.setattr("aioice.ice.get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])
