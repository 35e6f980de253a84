"""Browser tokens: what they allow, as a caller asks for it and as it is signed."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from lipwright.jobs.model.base import Frozen

Action = Literal["text", "audio"]
_ORIGIN: Final = re.compile(r"(https?)://([a-z0-9.-]{1,253}|\[[0-9a-f:]+\])(?::(\d{1,5}))?", re.ASCII)
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}


def _origin(text: str) -> str:
    """Return an origin as browsers write it (RFC 6454, section 6.2)."""
    found = _ORIGIN.fullmatch(text.strip().lower().removesuffix("/"))
    if found is None:
        raise ValueError("expected a web origin, such as https://www.example.com, with the host name in ASCII")
    scheme, host, port = found.groups()
    return f"{scheme}://{host}" + (f":{port}" if port and port != _DEFAULT_PORTS[scheme] else "")


class TokenLimits(Frozen):
    """What the bearer of a token may do."""

    avatar_id: str = Field(max_length=64, description="The only avatar that is shown.")
    origin: Annotated[
        tuple[Annotated[str, Field(max_length=300), AfterValidator(_origin)], ...],
        BeforeValidator(lambda sent: [sent] if isinstance(sent, str) else sent),
    ] = Field(min_length=1, max_length=8, description="Origins of the pages that may use the token, one or several.")
    actions: tuple[Action, ...] = Field(
        ("text", "audio"), max_length=2, description="What the avatar may speak: texts, or audio from a microphone."
    )
    voice: str | None = Field(None, max_length=128, description="Voice of texts; defaults to the service's.")
    max_sessions: int = Field(1, ge=1, le=1000, description="How many sessions may start in all.")
    max_session_seconds: int = Field(600, ge=1, le=86_400, description="Maximum length of one session.")
    max_seconds: int | None = Field(
        None, ge=1, le=864_000, description="Maximum length of all sessions together; by default, no further limit."
    )


class TokenRequest(TokenLimits):
    """A token to create."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"avatar_id": "ID", "origin": ["https://example.com"]}]})

    expires_in: int = Field(600, ge=1, le=3600, description="Seconds in which sessions may start.")


class TokenGrant(TokenLimits):
    """The signed content of a token."""

    id: str
    expires_at: int = Field(description="Seconds since 1970.")
