"""A server on loopback that speaks S3 (moto's, in a process of its own), for tests of files in a bucket."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from typing import Final

import pytest

from tests.ports import quiet_port
from tests.waiting import wait_until

CREDENTIALS: Final[Mapping[str, str]] = {
    "AWS_ACCESS_KEY_ID": "lipwright",
    "AWS_SECRET_ACCESS_KEY": "of no use elsewhere",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_START_S: Final = 240.0


class S3Server:
    """A server that keeps its objects in memory; each of `new_bucket` is empty."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self._process = process
        self._numbers = count(1)

    def freeze(self) -> None:
        """Have it answer nothing, and end no connection."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def new_bucket(self) -> str:
        """The setting `files` of an empty bucket."""
        name = f"lipwright{next(self._numbers)}"
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT", data=b"")
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.status == 200
        return f"s3://{name}/some/prefix?endpoint={self.endpoint}&region=us-east-1"

    def answers(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(self.endpoint, timeout=5) as answer:
            return bool(answer.status == 200)
        return False


@contextmanager
def running_s3() -> Iterator[S3Server]:
    """A server for the block; this process and those that it starts have its credentials."""
    port = quiet_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with pytest.MonkeyPatch.context() as environment, tempfile.TemporaryFile() as log:
        for name, value in CREDENTIALS.items():
            environment.setenv(name, value)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        server = S3Server(port, process)
        try:
            wait_until(lambda: server.answers() or process.poll() is not None, _START_S)
            log.seek(0)
            assert process.poll() is None, log.read()[-2000:]
            yield server
        finally:
            server.thaw()
            process.terminate()
            process.wait(30)
