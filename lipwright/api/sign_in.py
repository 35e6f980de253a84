"""The route /v1/session: exchanges an API key for a cookie, which `<video src>` and EventSource send too."""

from __future__ import annotations

from fastapi import Request, Response
from pydantic import BaseModel, Field

from lipwright.api.access import caller_of
from lipwright.api.routing import Routes, route
from lipwright.api.session_token import COOKIE, MAX_AGE_S, new_token
from lipwright.storage.key_ring import KeyRing


class SessionView(BaseModel):
    """Sign-in state."""

    needs_key: bool = Field(description="Whether the service requires an API key.")
    name: str | None = Field(description="Name of the API key in use; null if none is required.")


class SignInRoutes(Routes, prefix="/v1/session", tags=["service"]):
    """Handlers of /v1/session."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    @route("", summary="Get the sign-in state")
    def get_session(self, request: Request) -> SessionView:
        """Return the sign-in state; 401 if a key is required."""
        return self._view(request)

    @route("", "POST", summary="Sign in")
    def sign_in(self, request: Request, response: Response) -> SessionView:
        """Exchange the key in `Authorization: Bearer` for an HttpOnly cookie.

        The cookie is valid for 14 days, or until the key is revoked.
        """
        key = next((key for key in self._keys.list() if key.id == caller_of(request).owner), None)
        if key is not None:
            _set_cookie(request, response, new_token(key), MAX_AGE_S)
        return self._view(request)

    @route("", "DELETE", status_code=204, summary="Sign out")
    def sign_out(self, request: Request, response: Response) -> None:
        """Delete the cookie."""
        _set_cookie(request, response, "", 0)

    def _view(self, request: Request) -> SessionView:
        keys = {key.id: key for key in self._keys.list()}
        owner = caller_of(request).owner
        return SessionView(needs_key=bool(keys), name=keys[owner].name if owner in keys else None)


def _set_cookie(request: Request, response: Response, token: str, max_age_s: int) -> None:
    """Set the session cookie: HttpOnly, same-site, for this service only."""
    response.set_cookie(
        COOKIE,
        token,
        max_age_s,
        path=request.scope.get("root_path", "") or "/",
        httponly=True,
        samesite="strict",
        secure="https" in (request.url.scheme, request.headers.get("x-forwarded-proto")),
    )
