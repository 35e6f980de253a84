"""The route /v1/tokens: browser tokens, see `lipwright.api.browser_token`."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import Request, Response
from pydantic import BaseModel, Field

from lipwright.api.access import caller_of
from lipwright.api.browser_token import new_browser_token
from lipwright.api.forms.json_request import json_request, receive_json
from lipwright.api.problem import problem_responses
from lipwright.api.routing import Routes, route
from lipwright.errors import StateError
from lipwright.jobs.model.browser_token import TokenRequest
from lipwright.jobs.ports import JobService
from lipwright.speech.service import TextToSpeech
from lipwright.storage.key_ring import KeyRing


class TokenView(BaseModel):
    """A token for the pages of a web site."""

    token: str = Field(description="Give it to the page that shows the avatar.")
    expires_at: datetime = Field(description="Until when sessions may start. They may last longer.")


class TokenRoutes(Routes, prefix="/v1/tokens", tags=["live"]):
    """Handler of /v1/tokens."""

    def __init__(self, service: JobService, keys: KeyRing, speech: TextToSpeech) -> None:
        self._service, self._keys, self._speech = service, keys, speech

    @route(
        "",
        "POST",
        status_code=201,
        summary="Create a browser token",
        openapi_extra=json_request(TokenRequest),
        responses=problem_responses(404, 409, 413, 422, 504),
    )
    async def create_token(self, request: Request, response: Response) -> TokenView:
        """Create a token with which pages of a web site show one avatar live, without the API key.

        It is valid until it expires or the API key is revoked. It is accepted by `WS /v1/live`, as a subprotocol after
        `lipwright.live`, and by the thumbnail of the avatar; other requests get 403.
        """
        wanted = await receive_json(request, TokenRequest)
        owner = caller_of(request).owner
        await self._service.get_avatar(wanted.avatar_id, owner)
        if wanted.voice is not None:
            await self._speech.check_voice(wanted.voice)
        key = next((key for key in self._keys.list() if key.id == owner), None)
        if key is None:
            raise StateError("Tokens are signed with an API key. Create one with `lipwright keys add NAME`.")
        token, grant = new_browser_token(key, wanted)
        response.headers["cache-control"] = "no-store"
        return TokenView(token=token, expires_at=datetime.fromtimestamp(grant.expires_at, UTC))
