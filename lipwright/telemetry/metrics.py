"""All metrics of Lipwright, each with its name, unit and labels.

Ray exports them with the prefix `ray_` at each node's metrics port; counters end in `_total` there. Serve adds the
labels `application`, `deployment` and `replica`. Our own labels have few values: names of stages, codes and kinds.

A metric is created when it is first recorded, because Serve then reads the labels of the replica. Outside a Ray worker
recording does nothing and costs a microsecond, so tests need no fakes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from time import monotonic
from typing import Any, Final

from ray.serve import metrics as serve_metrics

from lipwright.telemetry.tracing import span

# Upper bounds of buckets in seconds: for calls about a few frames, a segment or a long join, and for waiting jobs.
_CALL_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_WAIT_SECONDS: Final = (0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)


@dataclass(frozen=True)
class Metric:
    """A metric; its labels are given to each record as values, in order."""

    name: str
    description: str
    labels: tuple[str, ...] = ()

    def _keys(self) -> Any:
        """The labels in the type that Ray's stubs declare; Ray accepts any number."""
        return self.labels

    def tags(self, values: tuple[str, ...]) -> dict[str, str]:
        """Return the labels with their values, in order."""
        return dict(zip(self.labels, values, strict=True))


@dataclass(frozen=True)
class _Counter(Metric):
    @cached_property
    def _made(self) -> serve_metrics.Counter:
        return serve_metrics.Counter(self.name, self.description, self._keys())

    def add(self, amount: float, *values: str) -> None:
        """Add `amount`; Ray refuses to add zero."""
        if amount > 0:
            self._made.inc(amount, self.tags(values))


@dataclass(frozen=True)
class _Gauge(Metric):
    @cached_property
    def _made(self) -> serve_metrics.Gauge:
        return serve_metrics.Gauge(self.name, self.description, self._keys())

    def set(self, value: float, *values: str) -> None:
        """Replace the value."""
        self._made.set(value, self.tags(values))


@dataclass(frozen=True)
class _Histogram(Metric):
    boundaries: tuple[float, ...] = field(default=_CALL_SECONDS, kw_only=True)

    @cached_property
    def _made(self) -> serve_metrics.Histogram:
        return serve_metrics.Histogram(self.name, self.description, list(self.boundaries), self._keys())

    def observe(self, value: float, *values: str) -> None:
        """Count `value` in its bucket."""
        self._made.observe(value, self.tags(values))


JOBS_WAITING = _Gauge("lipwright_jobs_waiting", "Accepted jobs that wait to start.")
JOBS_RUNNING = _Gauge("lipwright_jobs_running", "Running jobs.")
SEGMENTS_WAITING = _Gauge(
    "lipwright_segments_waiting", "Segments of rendering jobs that are neither finished nor sent to a Studio."
)
SEGMENTS_RUNNING = _Gauge("lipwright_segments_running", "Segments that were sent to Studios and are not finished.")
LIVE_SESSIONS = _Gauge("lipwright_live_sessions", "Live sessions of one LiveSession replica.")
QUEUED_BYTES = _Gauge("lipwright_queued_bytes", "Bytes of waiting uploads, including those still being received.")
QUEUE_WAIT = _Histogram(
    "lipwright_queue_wait_seconds", "Time from the acceptance of a job to its start.", boundaries=_WAIT_SECONDS
)
JOB_RUN = _Histogram(
    "lipwright_job_run_seconds",
    "Time from the start of a job to its end, by final status; not of jobs with a review.",
    ("status",),
    boundaries=_WAIT_SECONDS,
)
FINISHED_JOBS = _Counter(
    "lipwright_finished_jobs", "Finished jobs, by final status and error code.", ("status", "code")
)
REFUSALS = _Counter("lipwright_refusals", "Requests answered with an error, by its code.", ("code",))
FRAMES = _Counter("lipwright_rendered_frames", "Frames of finished segments.")
VIDEO_SECONDS = _Counter("lipwright_rendered_seconds", "Duration of the video in finished segments.")
STAGE_CALLS = _Histogram(
    "lipwright_stage_call_seconds",
    "One attempt of a call to a stage, by how it ended: ok or a call outcome.",
    ("stage", "outcome"),
)
CALLBACKS = _Counter("lipwright_callbacks", "Attempts of webhooks, by outcome.", ("outcome",))
"""Outcomes: `delivered`, `retried`, `given_up`, and `refused`, if the URL is not allowed and nothing was sent."""
UPLOADED = _Counter("lipwright_uploaded_bytes", "Bytes received from clients, including refused uploads.")
FETCHED = _Counter("lipwright_fetched_bytes", "Bytes of completely fetched URL inputs.")
FETCHES = _Counter("lipwright_fetches", "Fetches of URL inputs, by `ok` or the error code.", ("outcome",))
DECODER_DEATHS = _Counter("lipwright_decoder_deaths", "Decoder processes that died, by cause.", ("cause",))
FREE_DISK = _Gauge("lipwright_free_disk_bytes", "Free space of the data folder's file system.")


@contextmanager
def timed_call(stage: str, attempt: int, outcome_of: Callable[[BaseException], str]) -> Iterator[None]:
    """Record one attempt of a call to `stage`: the time of the block, and how it ends: "ok" or `outcome_of(error)`."""
    start = monotonic()
    outcome = "ok"
    with span("attempt", attempt=attempt) as attributes:
        try:
            yield
        except BaseException as error:
            outcome = outcome_of(error)
            raise
        finally:
            attributes["outcome"] = outcome
            STAGE_CALLS.observe(monotonic() - start, stage, outcome)
