"""The clips of an avatar, as its row and the plans of its jobs have them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from jobs.model.base import Frozen
from media.playback import ClipKind

ClipName = Annotated[
    str,
    Field(pattern=r"^[a-z0-9_-]{1,32}$", description="Name of the clip: 1 to 32 of `a-z`, `0-9`, `_` and `-`."),
]
ShownKind = Annotated[
    ClipKind,
    Field(
        description="When the clip is shown: while nobody speaks (`idle`), while somebody speaks (`talk`), or when it"
        " is named (`action`)."
    ),
]


class AvatarClip(Frozen):
    """A clip of an avatar; its video, status and track are those of an avatar row of its own."""

    kind: ClipKind | None = Field(description="None for the avatar's own video.")
    key: str = Field(description="Key of its avatar row.")
    created_at: datetime
