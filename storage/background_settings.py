"""The background options of jobs, avatars and live sessions."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from errors import OptionError
from media.output.backgrounds import SOURCE, TRANSPARENT, MatteMode, checked_background
from media.playback import AfterEnd


class BackgroundSettings(BaseModel):
    """What is behind the person: `background` or `background_id`. With neither, no background is chosen."""

    background: Annotated[str, AfterValidator(checked_background)] | None = Field(
        None,
        max_length=64,
        description="What is behind the person: a colour (`#00b140`, `white`), `blur`, `transparent`, which needs"
        " `format` `webm` or `mov`, or `source`, the source's own. For a picture or video, see `background_file`"
        " and `background_id`. Default: the background of the avatar, otherwise `source`.",
    )
    background_id: str | None = Field(
        None, max_length=64, description="ID of a picture or video behind the person; see `POST /v1/backgrounds`."
    )
    background_loop: AfterEnd = Field(
        "loop",
        description="What follows the end of a video behind the person: it starts again (`loop`), plays backwards"
        " and forwards (`pingpong`), or stays on its last frame (`hold`).",
    )
    matte: MatteMode = Field(
        "auto",
        description="How the person is cut out for another background: by segmentation (`person`), by the colour of a"
        " green or blue screen (`chroma`), or whichever fits (`auto`).",
    )

    @model_validator(mode="after")
    def _one_background(self) -> Self:
        if self.background is not None and self.background_id is not None:
            raise ValueError("send background or background_id, not both")
        return self

    @property
    def names_background(self) -> bool:
        """Whether a background is chosen, possibly `source`."""
        return self.background is not None or self.background_id is not None

    def or_default(self, default: BackgroundSettings | None) -> BackgroundSettings:
        """Return what is shown: this, or `default` if this chooses nothing. `source` becomes no background."""
        chosen = self if self.names_background or default is None else default
        if chosen.background == SOURCE:
            return BackgroundSettings()
        return BackgroundSettings(**{name: getattr(chosen, name) for name in BackgroundSettings.model_fields})


def changed_background(known: BackgroundSettings | None, change: BackgroundSettings) -> BackgroundSettings | None:
    """Return the background of an avatar after a change. Fields of `change` that are not set stay as they are.

    Args:
        known: The current background of the avatar; None: that of its source.
        change: `source` removes the background.

    Raises:
        OptionError: The background is transparent, or an option needs a background that the avatar does not have.
    """
    given = change.model_dump(exclude_unset=True)
    kept = {} if known is None else known.model_dump()
    if given.keys() & {"background", "background_id"}:
        kept |= {"background": None, "background_id": None}
    settings = BackgroundSettings(**{**kept, **given}).or_default(None)
    if settings.background == TRANSPARENT:
        raise OptionError(
            f"background: `{TRANSPARENT}` is not possible for an avatar, because MP4 and live sessions have no "
            "transparency. Set it for each job, with format webm or mov."
        )
    if "background_loop" in given and settings.background_id is None:
        raise OptionError("background_loop needs background_file or background_id.")
    if not settings.names_background:
        if "matte" in given:
            raise OptionError("matte needs background, background_file or background_id.")
        return None
    return settings if settings.background_id is not None else settings.model_copy(update={"background_loop": "loop"})
