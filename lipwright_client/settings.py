"""Connection settings, from arguments and environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx

from lipwright_client.errors import ConnectionFailedError

DEFAULT_URL: Final = "http://127.0.0.1:8000"
VERSION: Final = "0.1.0"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Settings:
    """Connection settings.

    Attributes:
        base_url: URL of the service, including a path prefix if any.
        api_key: API key; empty for none.
        timeout_s: Timeout for connecting and for reading short responses, in seconds.
        more_headers: Extra header fields of every request.
    """

    base_url: str
    api_key: str
    timeout_s: float
    more_headers: Mapping[str, str]

    @classmethod
    def of(
        cls, base_url: str | None, api_key: str | None, timeout_s: float, headers: Mapping[str, str] | None
    ) -> Settings:
        """Return settings from the arguments, then LIPWRIGHT_URL and LIPWRIGHT_API_KEY.

        Raises:
            ConnectionFailedError: The URL is invalid.
        """
        url = base_url or os.environ.get("LIPWRIGHT_URL", "").strip() or DEFAULT_URL
        if not url.startswith(("http://", "https://")) or not _host(url):
            raise ConnectionFailedError(f"Invalid service URL {url!r}. Expected a URL such as {DEFAULT_URL}.")
        key = os.environ.get("LIPWRIGHT_API_KEY", "") if api_key is None else api_key
        return cls(url.rstrip("/"), key.strip(), timeout_s, headers or {})

    def httpx_options(self) -> dict[str, Any]:
        """Return the arguments for an httpx client."""
        headers = {"User-Agent": f"lipwright-client/{VERSION}", **self.more_headers}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        return {
            "base_url": self.base_url,
            "headers": headers,
            "timeout": httpx.Timeout(self.timeout_s),
            # A proxy from the environment cannot reach this machine's loopback.
            "trust_env": _host(self.base_url) not in _LOOPBACK,
        }


def _host(url: str) -> str:
    try:
        return httpx.URL(url).host
    except httpx.InvalidURL:
        return ""
