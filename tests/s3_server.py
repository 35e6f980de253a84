"""A server on loopback that speaks S3 (moto's, in a process of its own), for tests of files in a bucket."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Final

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

    def __init__(self) -> None:
        self.port = quiet_port()
        self._numbers = count(1)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, log: Path) -> None:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        env = {**os.environ, **CREDENTIALS}
        with log.open("ab") as file:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file, env=env)
        self._process = process
        wait_until(lambda: self._answers() or process.poll() is not None, _START_S)
        assert process.poll() is None, log.read_text()[-2000:]

    def stop(self) -> None:
        if self._process is not None:
            self.thaw()
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def freeze(self) -> None:
        """Have it answer nothing, and end no connection."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def new_bucket(self) -> str:
        """The setting `files` of an empty bucket."""
        name = f"lipwright{next(self._numbers)}"
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT", data=b"")
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.status == 200
        return f"s3://{name}/some/prefix?endpoint={self.endpoint}&region=us-east-1"

    def _answers(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(self.endpoint, timeout=5) as answer:
            return bool(answer.status == 200)
        return False


@contextmanager
def running_s3() -> Iterator[S3Server]:
    """A server for the block; this process and those that it starts have its credentials."""
    known = {name: os.environ.get(name) for name in CREDENTIALS}
    server = S3Server()
    with tempfile.TemporaryDirectory(prefix="lipwright-s3-") as folder:
        os.environ.update(CREDENTIALS)
        try:
            server.start(Path(folder) / "log")
            yield server
        finally:
            server.stop()
            for name, value in known.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
