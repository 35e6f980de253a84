"""Job and segment in the log lines of Serve's own handlers and formatters."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from logging.handlers import BufferingHandler

import pytest
from ray._common.formatters import JSONFormatter
from ray.serve._private.logging_utils import ServeFormatter, ServeLogAttributeRemovalFilter

from lipwright.errors import NotFoundError, StageTimeoutError
from lipwright.telemetry.log_context import CallContext, call_context, configure_logging
from lipwright.telemetry.trace_context import TraceContext

logger = logging.getLogger("ray.serve")
ours = logging.getLogger("models.engines.runtime.batching")


class Buffered(BufferingHandler):
    """Stands where Serve has a memory handler over a rotating file of JSON lines."""

    @property
    def records(self) -> list[dict[str, object]]:
        return [json.loads(JSONFormatter().format(record)) for record in self.buffer]


class Logs(Buffered):
    """What the logger wrote, also for a terminal."""

    def __init__(self) -> None:
        super().__init__(1000)
        self.addFilter(ServeLogAttributeRemovalFilter())
        self.terminal = io.StringIO()


@pytest.fixture
def logs() -> Iterator[Logs]:
    """Serve's logger with handlers like those of a replica; afterwards all loggers are as they were."""
    before = {each.name: (each.level, each.handlers[:], each.filters[:], each.propagate) for each in _loggers()}
    logs = Logs()
    terminal = logging.StreamHandler(logs.terminal)
    terminal.setFormatter(ServeFormatter("lipwright_Studio", "abc"))
    logger.handlers, logger.filters, logger.propagate = [terminal, logs], [], False
    logger.setLevel(logging.INFO)
    configure_logging()
    yield logs
    for each in _loggers():
        level, each.handlers, each.filters, each.propagate = before.get(each.name, (logging.NOTSET, [], [], True))
        each.setLevel(level)


def _loggers() -> list[logging.Logger]:
    return [each for each in logging.Logger.manager.loggerDict.values() if isinstance(each, logging.Logger)]


def test_call_context_adds_job_segment_and_trace(logs: Logs) -> None:
    with call_context(CallContext("4f00", 3)):
        logger.info("rendering %d frames", 9)
    logger.info("idle")
    first, second = logs.records
    assert (first["message"], first["job"], first["segment"]) == ("rendering 9 frames", "4f00", 3)
    assert "job" not in second
    lines = logs.terminal.getvalue().splitlines()
    assert lines[0].endswith("-- rendering 9 frames job=4f00 segment=3")
    assert lines[1].endswith("-- idle")
    trace = TraceContext("0af7651916cd43dd8448eb211c80319c")
    with call_context(CallContext("", trace=trace)):
        logger.info("accepted")
    assert logs.records[-1]["trace_id"] == trace.trace_id and "job" not in logs.records[-1]
    assert logs.terminal.getvalue().endswith(f"-- accepted trace_id={trace.trace_id}\n")


async def test_call_context_is_per_request_and_in_threads(logs: Logs) -> None:
    async def child(context: CallContext) -> None:
        logger.info("of %s", context.job_id)

    async def request(context: CallContext) -> None:
        with call_context(context):
            await asyncio.sleep(0)
            await asyncio.to_thread(logger.info, "of %s", context.job_id)
            await asyncio.create_task(child(context))

    await asyncio.gather(request(CallContext("a")), request(CallContext("b", 1)))
    assert len(logs.records) == 4
    assert all(record["message"] == f"of {record['job']}" for record in logs.records)
    assert [record.get("segment") for record in logs.records if record["job"] == "a"] == [None, None]


def test_configure_logging_twice_or_new_handler_marks_once(logs: Logs) -> None:
    configure_logging()
    more = Buffered(1000)
    logger.handlers.append(more)  # as Serve does when its logging settings change
    with call_context(CallContext("4f00")):
        logger.info("once")
    assert logs.terminal.getvalue().count("job=4f00") == 1
    assert len(logger.filters) == 1
    assert [record["job"] for record in more.records] == ["4f00"]


def test_configure_logging_module_records_reach_serve(logs: Logs) -> None:
    with call_context(CallContext("4f00")):
        ours.info("half precision: %s", True)
    ours.debug("below the level of Serve's logger")
    (record,) = logs.records
    assert (record["message"], record["job"], record["levelname"]) == ("half precision: True", "4f00", "INFO")
    assert logs.terminal.getvalue().count("half precision") == 1


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (NotFoundError("There is no job 4f00."), "INFO"),
        (StageTimeoutError("Studio: timed out after 60 s"), "WARNING"),
        (ZeroDivisionError("a defect"), "ERROR"),
    ],
)
def test_log_of_an_error_has_a_traceback_only_of_defects(logs: Logs, error: Exception, level: str) -> None:
    try:
        raise error
    except type(error):
        logger.exception("Request failed.")
    (record,), text = logs.records, logs.terminal.getvalue()
    assert record["levelname"] == level and str(error) in text
    assert "Traceback" in text if level == "ERROR" else len(text.splitlines()) == 1


def test_log_of_serves_router_warning_is_info(logs: Logs) -> None:
    from ray.serve._private.request_router import request_router

    assert request_router.logger is logger
    for path in (request_router.__file__, __file__):
        record = logger.makeRecord(logger.name, logging.WARNING, path, 1, "Failed to get queue length", (), None)
        logger.handle(record)
    assert [record["levelname"] for record in logs.records] == ["INFO", "WARNING"]
    assert [line.partition(" ")[0] for line in logs.terminal.getvalue().splitlines()] == ["INFO", "WARNING"]
