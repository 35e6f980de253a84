"""What runs on a thread for the length of a block."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from python_multipart import parse_form


@contextmanager
def repeating(work: Callable[[], object], period_s: float) -> Iterator[None]:
    """Do something again and again, with a pause before each time."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(period_s):
            work()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)


class Repeating:
    """Calls `look` every `period_s` seconds in a thread, for a block."""

    period_s: float

    def look(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._repeated = repeating(self.look, self.period_s)
        self._repeated.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._repeated.__exit__(None, None, None)


class QuietHandler(BaseHTTPRequestHandler):
    """Answers requests without logging them."""

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def form(self) -> tuple[dict[str, str], dict[str, bytes]]:
        """The fields and the files of a multipart body."""
        fields: dict[str, str] = {}
        files: dict[str, bytes] = {}

        def add_field(each: Any) -> None:
            fields[each.field_name.decode()] = each.value.decode()

        def add_file(each: Any) -> None:
            each.file_object.seek(0)
            files[each.field_name.decode()] = each.file_object.read()

        headers = {name: value.encode() for name, value in self.headers.items()}
        parse_form(headers, io.BytesIO(self.body()), add_field, add_file)
        return fields, files

    def answer(self, body: bytes = b"", status: int = 200, **fields: str) -> None:
        """Send an answer with these header fields, whose hyphens are underscores here."""
        self.send_response(status)
        for name, value in {**fields, "Content_Length": str(len(body))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the terminal quiet."""


@contextmanager
def http_server(handler: type[BaseHTTPRequestHandler], port: int = 0) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join(10)
