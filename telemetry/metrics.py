"""All metrics of Lipwright, each with its name, unit, labels, and the function that records it.

Ray exports them with the prefix `ray_` at each node's metrics port; counters end in `_total` there. Serve adds the
labels `application`, `deployment` and `replica`. Our own labels have few values: names of stages, codes and kinds.

A metric is created when it is first recorded, because Serve then reads the labels of the replica. Outside a Ray worker
recording does nothing and costs a microsecond, so tests need no fakes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from time import monotonic
from typing import Any, Final, Literal

from ray.serve import metrics as serve_metrics

from media.decoding.decoder import DecoderDeath

# Upper bounds of buckets in seconds: for calls about a few frames, a segment or a long join, and for waiting jobs.
_CALL_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_WAIT_SECONDS: Final = (0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)

CallbackOutcome = Literal["delivered", "retried", "given_up", "refused"]
"""`refused`: the URL is not allowed, so nothing was sent."""


@dataclass(frozen=True)
class _Metric:
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
class _Counter(_Metric):
    @cached_property
    def _made(self) -> serve_metrics.Counter:
        return serve_metrics.Counter(self.name, self.description, self._keys())

    def add(self, amount: float, *values: str) -> None:
        """Add `amount`; Ray refuses to add zero."""
        if amount > 0:
            self._made.inc(amount, self.tags(values))


@dataclass(frozen=True)
class _Gauge(_Metric):
    @cached_property
    def _made(self) -> serve_metrics.Gauge:
        return serve_metrics.Gauge(self.name, self.description, self._keys())

    def set(self, value: float, *values: str) -> None:
        """Replace the value."""
        self._made.set(value, self.tags(values))


@dataclass(frozen=True)
class _Histogram(_Metric):
    boundaries: tuple[float, ...] = field(default=_CALL_SECONDS, kw_only=True)

    @cached_property
    def _made(self) -> serve_metrics.Histogram:
        return serve_metrics.Histogram(self.name, self.description, list(self.boundaries), self._keys())

    def observe(self, value: float, *values: str) -> None:
        """Count `value` in its bucket."""
        self._made.observe(value, self.tags(values))


_QUEUED_JOBS = _Gauge("lipwright_queued_jobs", "Accepted jobs that wait to start.")
_QUEUED_BYTES = _Gauge("lipwright_queued_bytes", "Bytes of waiting uploads, including those still being received.")
_RUNNING_JOBS = _Gauge("lipwright_running_jobs", "Running jobs.")
_QUEUE_WAIT = _Histogram(
    "lipwright_queue_wait_seconds", "Time from the acceptance of a job to its start.", boundaries=_WAIT_SECONDS
)
_FINISHED_JOBS = _Counter(
    "lipwright_finished_jobs", "Finished jobs, by final status and error code.", ("status", "code")
)
_REFUSALS = _Counter("lipwright_refusals", "Requests answered with an error, by its code.", ("code",))
_FRAMES = _Counter("lipwright_rendered_frames", "Frames of finished segments.")
_STAGE_CALLS = _Histogram(
    "lipwright_stage_call_seconds",
    "One attempt of a call to a stage, by how it ended: ok or a call outcome.",
    ("stage", "outcome"),
)
_CALLBACKS = _Counter("lipwright_callbacks", "Attempts of webhooks, by outcome.", ("outcome",))
_UPLOADED = _Counter("lipwright_uploaded_bytes", "Bytes received from clients, including refused uploads.")
_FETCHED = _Counter("lipwright_fetched_bytes", "Bytes of completely fetched URL inputs.")
_FETCHES = _Counter("lipwright_fetches", "Fetches of URL inputs, by `ok` or the error code.", ("outcome",))
_DECODER_DEATHS = _Counter("lipwright_decoder_deaths", "Decoder processes that died, by cause.", ("cause",))
_FREE_DISK = _Gauge("lipwright_free_disk_bytes", "Free space of the data folder's file system.")

METRICS: Final[Mapping[str, _Metric]] = {
    metric.name: metric for metric in list(globals().values()) if isinstance(metric, _Metric)
}
"""All metrics by name."""


def exported_names() -> frozenset[str]:
    """Return the names under which Prometheus sees them."""
    names: set[str] = set()
    for metric in METRICS.values():
        suffixes = {_Counter: ("_total",), _Histogram: ("_bucket", "_sum", "_count")}.get(type(metric), ("",))
        names.update(f"ray_{metric.name}{suffix}" for suffix in suffixes)
    return frozenset(names)


def set_queue(num_queued: int, queued_bytes: int, num_running: int) -> None:
    """Set the length of the queue."""
    _QUEUED_JOBS.set(num_queued)
    _QUEUED_BYTES.set(queued_bytes)
    _RUNNING_JOBS.set(num_running)


def job_started(wait_s: float) -> None:
    """Record a job that waited `wait_s` for its first start."""
    _QUEUE_WAIT.observe(max(0.0, wait_s))


def job_finished(status: str, code: str = "none") -> None:
    """Count a job that reached the final `status`; `code` is that of its error, if any."""
    _FINISHED_JOBS.add(1, status, code)


def request_refused(code: str) -> None:
    """Count an error response by its stable `code`."""
    _REFUSALS.add(1, code)


def frames_rendered(num_frames: int) -> None:
    """Count the frames of a finished segment."""
    _FRAMES.add(num_frames)


@contextmanager
def timed_call(stage: str, outcome_of: Callable[[BaseException], str]) -> Iterator[None]:
    """Record one attempt of a call to `stage`: how long the block takes and how it ends.

    Args:
        stage: Name of the stage.
        outcome_of: Returns the label of an attempt that raised this.
    """
    start = monotonic()
    outcome = "ok"
    try:
        yield
    except BaseException as error:
        outcome = outcome_of(error)
        raise
    finally:
        _STAGE_CALLS.observe(monotonic() - start, stage, outcome)


def callback_tried(outcome: CallbackOutcome) -> None:
    """Count one attempt of a webhook."""
    _CALLBACKS.add(1, outcome)


def bytes_uploaded(num_bytes: int) -> None:
    """Count bytes that clients sent."""
    _UPLOADED.add(num_bytes)


def url_fetched(num_bytes: int, outcome: str) -> None:
    """Count a fetch of a URL input; `outcome` is "ok" or the code of the error."""
    _FETCHES.add(1, outcome)
    _FETCHED.add(num_bytes)


def decoder_died(cause: DecoderDeath) -> None:
    """Count a decoder process that died."""
    _DECODER_DEATHS.add(1, cause)


def set_free_disk(num_bytes: int) -> None:
    """Set the free space of the data folder's file system."""
    _FREE_DISK.set(num_bytes)
