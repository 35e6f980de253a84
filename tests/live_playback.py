"""What a client of a live session reports while it plays the stream."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection


def report_playback(socket: ClientConnection, fragment: Mapping[str, Any]) -> None:
    """Report that a fragment is shown. After the service has closed the socket, its last messages can still be read."""
    with suppress(ConnectionClosed):
        socket.send(json.dumps({"type": "session.playback", "position_seconds": fragment["start_seconds"]}))
