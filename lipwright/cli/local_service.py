"""Which service a command talks to: --server, LIPWRIGHT_SERVER, the one of the data folder, the default address.

Commands that need a running service take `Server`. Others take `OptionalServer` with `service_at`, which starts a
service if none runs.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from lipwright.cli.terminal import UsageError
from lipwright.launch.data_folder import holder_of
from lipwright.launch.serve_config import read_serve_config
from lipwright_client.settings import DEFAULT_URL

DEFAULT_SERVER: Final = DEFAULT_URL
_VARIABLES: Final = ["LIPWRIGHT_SERVER", "LIPWRIGHT_URL"]


class ResultNotSavedError(OSError):
    """The result of a job cannot be written.

    Attributes:
        job_id: The job.
        out: The output file.
    """

    def __init__(self, job_id: str, out: Path, reason: str) -> None:
        super().__init__(f"cannot write {out}: {reason}")
        self.job_id, self.out = job_id, out


def _given_url(context: typer.Context, parameter: typer.CallbackParam, url: str | None) -> str | None:
    """Return the URL from the command line or the environment; print one from the environment.

    Raises:
        UsageError: It is not a URL.
    """
    if url and not url.startswith(("http://", "https://")):
        raise UsageError("option_invalid", f"--server: expected a URL such as {DEFAULT_SERVER}, found {url!r}.")
    source = context.get_parameter_source(parameter.name or "")
    if url and url != DEFAULT_SERVER and source and source.name == "ENVIRONMENT":
        _announce(url)
    return url


def _choose_url(context: typer.Context, parameter: typer.CallbackParam, url: str) -> str:
    """Return the URL of the service; print it if it is not the default and not from the command line."""
    if given := _given_url(context, parameter, url):
        return given
    found = find_service()
    if found != DEFAULT_SERVER:
        _announce(found)
    return found


def find_service() -> str:
    """Return the URL that commands use by default: of the service of the data folder, or the default address."""
    return _of_data_folder(None) or DEFAULT_SERVER


ANY_SERVER: Final = ""
"""The default of `Server`."""
Server = Annotated[
    str,
    typer.Option(
        envvar=_VARIABLES,
        callback=_choose_url,
        show_default=f"the one of the data folder, or {DEFAULT_SERVER}",
        help="Base URL of the service.",
    ),
]
OptionalServer = Annotated[
    str | None,
    typer.Option(
        envvar=_VARIABLES,
        callback=_given_url,
        help="Base URL of a running service. Default: the one of the data folder, or one that is started for this "
        "command.",
    ),
]
LocalDataDir = Annotated[Path | None, typer.Option(help="Data folder of the local service.")]


@contextlib.contextmanager
def service_at(url: str | None, data_dir: Path | None) -> Iterator[str]:
    """Yield the base URL of a service. A service started here stops with the block.

    Args:
        url: A running service; None finds or starts one.
        data_dir: Its data folder; None uses the config's.

    Raises:
        OSError: The block raised ResultNotSavedError; the message says how to download the result.
    """
    found = url or _of_data_folder(data_dir)
    if found and not url:
        _announce(found)
    with contextlib.nullcontext(found) if found else _start_service(data_dir) as base_url:
        try:
            yield base_url
        except ResultNotSavedError as error:
            copy = Path(tempfile.gettempdir()) / f"{error.job_id}{error.out.suffix}"
            download = f"lipwright jobs download {error.job_id} --out {copy} --server {found or DEFAULT_SERVER}"
            folder = "" if data_dir is None else f" --data-dir {shlex.quote(str(data_dir))}"
            start = "" if found else f"start `lipwright serve{folder}`, then "
            raise OSError(f"{error}. To save the result elsewhere, {start}run `{download}`.") from error


def _announce(url: str) -> None:
    print(f"Using the service at {url}.", file=sys.stderr)


def _of_data_folder(data_dir: Path | None) -> str | None:
    """Return the URL of the service that uses a data folder, by default the config's."""
    holder = holder_of(data_dir or read_serve_config().pipeline.data_dir)
    return (holder.url or None) if holder else None


@contextlib.contextmanager
def _start_service(data_dir: Path | None) -> Iterator[str]:
    from lipwright.launch.service import private_config, running_service

    terminal = Console(stderr=True)
    if not terminal.is_terminal:  # which shows no status
        terminal.print("Starting the service ...")
    with terminal.status("Starting the service ..."):
        running = contextlib.ExitStack()
        base_url = running.enter_context(running_service(private_config(data_dir)))
    with running:
        yield base_url
