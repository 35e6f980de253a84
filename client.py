"""The HTTP API from the other side: submit, follow, download."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

_MAX_RECONNECTS = 10
_MAX_FETCH_S = 3600.0  # the service's own bound of one request
_FINAL = ("succeeded", "failed", "cancelled")


class ClientError(Exception):
    """A request or a job that failed. Arguments: the service's code and its message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message


class Client:
    """The HTTP API, with its problems as `ClientError`."""

    def __init__(self, base_url: str) -> None:
        timeout = httpx.Timeout(30.0, read=120.0, write=120.0)
        is_local = httpx.URL(base_url).host in ("127.0.0.1", "localhost", "::1")
        key = os.environ.get("LIPWRIGHT_API_KEY", "").strip()
        # A proxy from the environment cannot reach this machine's loopback.
        self._http = httpx.Client(
            base_url=base_url.rstrip("/"),
            timeout=timeout,
            trust_env=not is_local,
            headers={"Authorization": f"Bearer {key}"} if key else None,
        )

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request; anything but a success raises."""
        return _checked(self._http.request(method, path, **options))

    def submit(self, files: dict[str, Path], options: dict[str, str]) -> dict[str, Any]:
        """Send the files by field name, streamed from the disk, and return the job.

        Files that `options` names by URL are fetched by the service before it answers.
        """
        timeout = httpx.Timeout(30.0, read=_MAX_FETCH_S)
        if not files:
            by_url: dict[str, Any] = self.request("POST", "/v1/jobs", json=options, timeout=timeout).json()
            return by_url
        with contextlib.ExitStack() as opened:
            parts = {name: (path.name, opened.enter_context(path.open("rb"))) for name, path in files.items()}
            job: dict[str, Any] = self.request("POST", "/v1/jobs", data=options, files=parts, timeout=timeout).json()
            return job

    def follow(self, job_id: str) -> Iterator[dict[str, Any]]:
        """The job at every change until it is finished; goes on where it was when the line breaks."""
        version, num_breaks = "0", 0
        while num_breaks <= _MAX_RECONNECTS:
            with contextlib.suppress(httpx.TransportError):
                headers = {"Last-Event-ID": version}
                with self._http.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as answer:
                    if answer.is_error:
                        answer.read()
                    for name, identity, text in _events(_checked(answer).iter_lines()):
                        if name == "job":
                            version, num_breaks, job = identity, 0, json.loads(text)
                            yield job
                            if job["status"] in _FINAL:
                                return
            num_breaks += 1
            time.sleep(0.5)
        raise ClientError("connection_lost", f"The service broke off {num_breaks} times while job {job_id} ran.")

    def download(self, job_id: str, out: Path) -> int:
        """Write the video to `out`, whole or not at all, and return its bytes."""
        partial = out.with_name(f".{out.name}.{job_id[:8]}.part")
        try:
            with self._http.stream("GET", f"/v1/jobs/{job_id}/video") as answer, partial.open("wb") as file:
                if answer.is_error:
                    answer.read()
                for piece in _checked(answer).iter_bytes(1 << 20):
                    file.write(piece)
            num_bytes = partial.stat().st_size
            partial.replace(out)
            return num_bytes
        finally:
            partial.unlink(missing_ok=True)


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    try:
        problem = answer.json()
        raise ClientError(str(problem["code"]), str(problem["detail"]))
    except (ValueError, KeyError, TypeError):
        message = f"{answer.request.url} answered {answer.status_code} {answer.reason_phrase}."
        raise ClientError("unexpected_answer", message) from None


def _events(lines: Iterator[str]) -> Iterator[tuple[str, str, str]]:
    """Event name, id and data of each server-sent event."""
    fields: dict[str, str] = {}
    for line in lines:
        if not line and "data" in fields:
            yield fields.get("event", "message"), fields.get("id", ""), fields["data"]
        if not line:
            fields = {}
        name, colon, value = line.partition(":")
        if name and colon:
            fields[name] = value.removeprefix(" ")
