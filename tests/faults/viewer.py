"""A client of a live session that plays every chunk as soon as it arrives, in a thread."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.faults.load import Pair
from tests.faults.service_process import ServiceProcess
from tests.live_playback import report_playback
from tests.waiting import wait_until

START_S = 240.0


class Viewer:
    """A viewer of a session, in a thread, that plays every chunk as soon as it arrives."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.events: list[dict[str, Any]] = []
        self.arrivals: list[float] = []
        self.close_code: int | None = None
        self.shows = True
        self.shown_seconds = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while True:
                message = self._socket.recv(timeout=START_S)
                if isinstance(message, bytes):
                    continue
                said = json.loads(message)
                self.events.append(said)
                if said["type"] == "session.fragment":
                    self.arrivals.append(time.monotonic())
                    if self.shows:
                        self.shown_seconds = said["start_seconds"]
                        report_playback(self._socket, said)
        except ConnectionClosed as closed:
            self.close_code = closed.rcvd.code if closed.rcvd is not None else 1006

    def send(self, kind: str, **fields: Any) -> None:
        self._socket.send(json.dumps({"type": kind, **fields}))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [said for said in self.events if said["type"] == kind]

    @property
    def states(self) -> list[str]:
        """Each state of the session, in order."""
        return [str(said["state"]) for said in self.of("session.state_updated")]

    def until(self, num_fragments: int, bound_s: float = START_S) -> None:
        self._wait(lambda: len(self.arrivals) >= num_fragments, bound_s)

    def until_state(self, state: str, num: int) -> None:
        self._wait(lambda: self.states.count(state) >= num, START_S)

    def _wait(self, is_so: Callable[[], bool], bound_s: float) -> None:
        wait_until(lambda: is_so() or self.close_code is not None, bound_s)
        assert is_so(), (self.close_code, self.events[-2:])

    def check_whole(self) -> None:
        """The session goes on, and no chunk is missing."""
        fragments = self.of("session.fragment")
        ends = [said["start_seconds"] + said["duration_seconds"] for said in fragments]
        assert np.allclose([said["start_seconds"] for said in fragments[1:]], ends[:-1])
        assert self.close_code is None


def made_avatar(service: ServiceProcess, pair: Pair, api_key: str | None = None) -> str:
    """The id of a new avatar."""
    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    with httpx.Client(base_url=service.url, timeout=60, trust_env=False, headers=headers) as client:
        made = client.post("/v1/avatars", files={"video": ("avatar.mp4", pair.video)})
        return str(made.raise_for_status().json()["id"])


@contextmanager
def watching(service: ServiceProcess, avatar: str) -> Iterator[Viewer]:
    """A session; a place that was just left is waited for."""
    deadline = time.monotonic() + 60
    while True:
        with connect(live_url(service, avatar), proxy=None, max_size=2**24, open_timeout=60) as socket:
            viewer = Viewer(socket)
            while not viewer.events:
                time.sleep(0.02)
            if viewer.events[0].get("code") != "busy":
                yield viewer
                return
        assert time.monotonic() < deadline, "no place was freed"
        time.sleep(0.3)


def live_url(service: ServiceProcess, avatar: str) -> str:
    """The address of a session of an avatar."""
    return f"{service.url.replace('http', 'ws', 1)}/v1/live?avatar_id={avatar}"
