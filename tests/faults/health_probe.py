"""Whether /healthz is answered while a service is under load, and how fast."""

from __future__ import annotations

import threading
import time

import httpx

NO_ANSWER_S = 60.0


class HealthProbe:
    """Asks /healthz ten times a second and notes how long each answer takes; none at all counts as a minute."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, trust_env=False, timeout=10)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.seconds: list[float] = []

    def __enter__(self) -> HealthProbe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)
        self._client.close()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            started = time.perf_counter()
            try:
                self._client.get("/healthz").raise_for_status()
                self.seconds.append(time.perf_counter() - started)
            except httpx.HTTPError:
                self.seconds.append(NO_ANSWER_S)

    def percentile(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
