"""The HTTP API from the other side: submit, follow, download."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

_MAX_RECONNECTS = 10
_MAX_SUBMIT_S = 1800.0  # how long a full service is asked again
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

        Files that `options` names by URL are fetched by the service before it answers. A full service is asked again
        when it says so, a broken line is mended; the idempotency key makes sure that only one job comes of it.
        """
        headers = {"Idempotency-Key": uuid4().hex}
        deadline = time.monotonic() + _MAX_SUBMIT_S
        num_breaks = 0
        while True:
            try:
                answer = self._post(files, options, headers)
                wait_s = _wait_before_retry(answer)
            except httpx.TransportError:
                num_breaks += 1
                if num_breaks > _MAX_RECONNECTS:
                    raise
                answer, wait_s = None, 0.5
            if answer is not None and (wait_s is None or time.monotonic() + wait_s > deadline):
                job: dict[str, Any] = _checked(answer).json()
                return job
            time.sleep(wait_s or 0.5)

    def _post(self, files: dict[str, Path], options: dict[str, str], headers: dict[str, str]) -> httpx.Response:
        timeout = httpx.Timeout(30.0, read=_MAX_FETCH_S)
        if not files:
            return self._http.post("/v1/jobs", json=options, headers=headers, timeout=timeout)
        with contextlib.ExitStack() as opened:
            parts = {name: (path.name, opened.enter_context(path.open("rb"))) for name, path in files.items()}
            return self._http.post("/v1/jobs", data=options, files=parts, headers=headers, timeout=timeout)

    def follow(self, job_id: str) -> Iterator[dict[str, Any]]:
        """The job at every change until it is finished; goes on where it was when the line breaks."""
        version, num_breaks = "0", 0
        while num_breaks <= _MAX_RECONNECTS:
            with contextlib.suppress(httpx.TransportError):
                headers = {"Last-Event-ID": version}
                with self._http.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as answer:
                    if answer.is_error:
                        answer.read()
                        if (pause_s := _wait_before_retry(answer)) is not None and num_breaks < _MAX_RECONNECTS:
                            num_breaks += 1
                            time.sleep(pause_s)
                            continue
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


def _wait_before_retry(answer: httpx.Response) -> float | None:
    """Seconds after which the same submission may succeed; None when the answer stands."""
    if answer.status_code not in (409, 429, 503) or not _problem(answer).get("retryable"):
        return None
    told = answer.headers.get("retry-after", "")
    return float(told) if told.isdigit() else 1.0


def _problem(answer: httpx.Response) -> dict[str, Any]:
    """The problem document that an answer carries, or nothing."""
    with contextlib.suppress(ValueError):
        problem = answer.json()
        return problem if isinstance(problem, dict) else {}
    return {}


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    problem = _problem(answer)
    if "code" in problem and "detail" in problem:
        raise ClientError(str(problem["code"]), str(problem["detail"]))
    message = f"{answer.request.url} answered {answer.status_code} {answer.reason_phrase}."
    raise ClientError("unexpected_answer", message)


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
