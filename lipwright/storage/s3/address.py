"""Opens the bucket of the setting `files`: `s3://bucket/prefix?endpoint=http://host:9000&region=eu-central-1`."""

from __future__ import annotations

from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlsplit

from lipwright.errors import ConfigError

if TYPE_CHECKING:
    from obstore.store import S3Store

_REQUEST_S: Final = timedelta(seconds=30)  # per request, including its body: at most one part
_CONNECT_S: Final = timedelta(seconds=3)
_RETRY_S: Final = timedelta(seconds=5)
"""Seconds of retries per request; waiting longer for a bucket that is down only piles up callers."""
_MAX_RETRIES: Final = 6
_QUERY: Final = frozenset({"endpoint", "region"})


def open_bucket(url: str) -> S3Store:
    """Return the store of a URL, without connecting. Credentials come from the environment (`AWS_*`).

    Raises:
        ConfigError: The URL is invalid, or the S3 client is not installed.
    """
    if find_spec("obstore") is None:
        raise ConfigError("files: a bucket needs the extra `s3` (pip install -e '.[s3]').")
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if parts.scheme != "s3" or not parts.hostname or parts.username is not None or not _QUERY.issuperset(query):
        raise ConfigError(f"files: expected s3://bucket/prefix?endpoint=...&region=..., found {_redact(url)}.")
    try:
        return S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            client_options={"allow_http": True, "timeout": _REQUEST_S, "connect_timeout": _CONNECT_S},
            retry_config={"max_retries": _MAX_RETRIES, "retry_timeout": _RETRY_S},
            **query,  # type: ignore[arg-type]  # its names are those of `S3Config`
        )
    except (BaseError, ValueError) as error:
        raise ConfigError(f"files: {_redact(url)}: {error}") from error


def _redact(url: str) -> str:
    """Return the URL without credentials."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
