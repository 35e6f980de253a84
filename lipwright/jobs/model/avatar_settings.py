"""The options that jobs and live sessions take from their avatar unless they set their own: movement and background."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from lipwright.errors import OptionError
from lipwright.jobs.model.base import FilePart, RequestModel, without_default
from lipwright.media.output.backgrounds import SOURCE, TRANSPARENT, MatteMode, checked_background
from lipwright.media.playback import AfterEnd

MAX_EXPRESSIVENESS: Final = 2

Expression = Literal["neutral", "happy", "sad", "angry", "surprised", "serious"]
Head = Literal["still", "calm", "lively"]


def _checked_gaze(text: str) -> str:
    """Return a gaze; ValueError if it is neither `camera` nor `free` nor a point."""
    if text in ("camera", "free"):
        return text
    try:
        x, y = map(float, text.split(","))
        if not (0 <= x <= 1 and 0 <= y <= 1):
            raise ValueError
    except ValueError:
        raise ValueError(
            f"expected camera, free, or a point x,y from 0,0 (upper left) to 1,1 (lower right), found {text!r}"
        ) from None
    return f"{x:g},{y:g}"


class StillSettings(BaseModel):
    """How a still picture moves. A field that is not set takes the value of the avatar."""

    motion: float = Field(
        1.0,
        ge=0,
        le=1,
        description="How far a still picture moves: 0 (not at all, and it does not blink) to 1 (as people do while they"
        " speak). It scales head, brows, gaze and expression. Videos ignore it. Default: the avatar's,"
        " otherwise 1.",
        json_schema_extra=without_default,
    )
    expression: Expression = Field(
        "neutral",
        description="Expression of a still picture: brows, lids and corners of the mouth. `neutral` is the"
        " picture's own. Default: the avatar's, otherwise `neutral`.",
        json_schema_extra=without_default,
    )
    gaze: Annotated[str, AfterValidator(_checked_gaze)] = Field(
        "free",
        max_length=32,
        description="Where a still picture looks: `free` (at the viewer, and sometimes elsewhere), `camera` (always at"
        " the viewer) or `x,y`, a point as shares of the picture's width and height. Default: the avatar's,"
        " otherwise `free`.",
        json_schema_extra=without_default,
    )
    head: Head = Field(
        "lively",
        description="How much a still picture turns its head at `motion` 1: `lively` (as people do while they speak),"
        " `calm` (about half as far) or `still`. Default: the avatar's, otherwise `lively`.",
        json_schema_extra=without_default,
    )

    def check_source(self, *, is_still: bool, prefix: str = "") -> None:
        """Raise OptionError if the settings change what only a still picture can change; `prefix` is in the message."""
        for name in ("expression", "gaze", "head"):
            if not is_still and getattr(self, name) != StillSettings.model_fields[name].default:
                raise OptionError(
                    f"{prefix}{name}: a video keeps its own; only still pictures can have another one. "
                    "For videos, `expressiveness` scales the mouth movement."
                )


class MovementSettings(StillSettings):
    """How far the face moves. A field that is not set takes the value of the avatar."""

    expressiveness: float = Field(
        1.0,
        ge=0,
        le=MAX_EXPRESSIVENESS,
        description="Scale of the mouth movement: 0 (still) to 2 (twice the natural movement). Closed lips stay "
        "closed. Engines other than `warp` only accept 1. Default: the avatar's, otherwise 1.",
        json_schema_extra=without_default,
    )


class BackgroundSettings(BaseModel):
    """What is behind the person: `background` or `background_id`. With neither, no background is chosen."""

    background: Annotated[str, AfterValidator(checked_background)] | None = Field(
        None,
        max_length=64,
        description="What is behind the person: a colour (`#00b140`, `white`), `blur`, `transparent`, which needs"
        " `format` `webm` or `mov`, or `source`, the source's own. `background_file` and `background_id` take a"
        " picture or video. Default: the background of the avatar, otherwise `source`.",
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


class AvatarSettings(BackgroundSettings, MovementSettings):
    """What an avatar has for its jobs and live sessions, and what they may set instead."""

    def or_default(self, default: AvatarSettings) -> AvatarSettings:
        """Return what applies: the fields that are set here, and `default` for the others.

        A background comes with all of its options from the one or the other. `source` becomes no background.
        """
        movement = {
            name: getattr(self if name in self.model_fields_set else default, name)
            for name in MovementSettings.model_fields
        }
        chosen = default if default.names_background and not self.names_background else self
        if chosen.background == SOURCE:
            return AvatarSettings(**movement)
        return AvatarSettings(**movement, **{name: getattr(chosen, name) for name in BackgroundSettings.model_fields})

    def usable(self, *, scales_movement: bool = True, background: bool = True) -> AvatarSettings:
        """Return what of the settings of an avatar a job or session can use.

        Args:
            scales_movement: Whether its engine obeys `expressiveness`.
            background: Whether it has no background of its own.
        """
        names = [*MovementSettings.model_fields, *(BackgroundSettings.model_fields if background else ())]
        fields = {name: getattr(self, name) for name in names if scales_movement or name != "expressiveness"}
        return AvatarSettings(**fields)


class AvatarFields(AvatarSettings, RequestModel):
    """Movement, and at most one of `background`, `background_file` and `background_id`, with options."""

    background_file: FilePart | None = Field(
        None, description="Picture or video behind the person. It fills the frame; a video has no sound."
    )

    @model_validator(mode="after")
    def _one_of_three(self) -> Self:
        if self.background_file is not None and self.names_background:
            other = "background" if self.background is not None else "background_id"
            raise ValueError(f"send {other} or background_file, not both")
        return self

    @property
    def avatar_settings(self) -> AvatarSettings:
        """Only the fields that were sent are set; `background_file` is left out."""
        sent = self.model_fields_set & AvatarSettings.model_fields.keys()
        return AvatarSettings(**{name: getattr(self, name) for name in sent})


class AvatarOverrides(AvatarFields):
    """The same fields of a job or live session: `background_loop` and `matte` need a background."""

    @model_validator(mode="after")
    def _options_need_a_background(self) -> Self:
        has_file = self.background_file is not None or self.background_id is not None
        if "background_loop" in self.model_fields_set and not has_file:
            raise ValueError("background_loop needs background_file or background_id")
        if "matte" in self.model_fields_set and not (has_file or self.background is not None):
            raise ValueError("matte needs background, background_file or background_id")
        return self


def changed_settings(known: AvatarSettings, change: AvatarSettings) -> AvatarSettings:
    """Return the settings of an avatar after a change. Fields of `change` that are not set stay as they are.

    Args:
        known: The current settings of the avatar.
        change: A `background` of `source` removes the background.

    Raises:
        OptionError: The background is transparent, or an option needs a background that the avatar does not have.
    """
    given = change.model_dump(exclude_unset=True)
    kept = known.model_dump()
    if given.keys() & {"background", "background_id"}:
        kept |= {"background": None, "background_id": None}
    settings = AvatarSettings(**{**kept, **given}).or_default(AvatarSettings())
    if settings.background == TRANSPARENT:
        raise OptionError(
            f"background: `{TRANSPARENT}` is not possible for an avatar, because MP4 and live sessions have no "
            "transparency. Set it for each job, with format webm or mov."
        )
    if "background_loop" in given and settings.background_id is None:
        raise OptionError("background_loop needs background_file or background_id.")
    if "matte" in given and not settings.names_background:
        raise OptionError("matte needs background, background_file or background_id.")
    needless = set() if settings.background_id is not None else {"background_loop"}
    needless |= set() if settings.names_background else {"matte"}
    return AvatarSettings(**settings.model_dump(exclude=needless))
