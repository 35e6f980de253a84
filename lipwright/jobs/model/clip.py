"""The clips of an avatar, as its row and the plans of its jobs have them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from pydantic import Field

from lipwright.jobs.model.base import Frozen
from lipwright.media.playback import ClipKind

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


def action_names(clips: Mapping[str, AvatarClip]) -> list[str] | None:
    """Return the names of the actions among clips or parts of a composite; None if there is only an own video."""
    if all(clip.kind is None for clip in clips.values()):
        return None
    return [name for name, clip in clips.items() if clip.kind == "action"]
