"""Documents the API key in OpenAPI. `api.access.ApiKeyMiddleware` checks it."""

from __future__ import annotations

from typing import Final

from fastapi import Depends
from fastapi.security import APIKeyHeader, HTTPBearer

API_KEY: Final = [
    Depends(HTTPBearer(auto_error=False, description="API key. Required once the service has at least one key.")),
    Depends(
        APIKeyHeader(
            name="X-API-Key",
            scheme_name="X-API-Key",
            auto_error=False,
            description="API key, as an alternative to `Authorization`.",
        )
    ),
]
"""Dependencies of the routes that require a key."""
