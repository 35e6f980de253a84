"""The options that a request sets and its job keeps: declared once, for forms, JSON, manifests and records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from lipwright.jobs.model.avatar_settings import AvatarSettings
from lipwright.media.language import parse_language
from lipwright.media.output.backgrounds import TRANSPARENT
from lipwright.media.output.formats import FORMATS, FormatName, Quality
from lipwright.media.output.framing import MAX_OUTPUT_FPS, check_same_aspect, parse_aspect, parse_size
from lipwright.media.playback import LoopMode

FACE: Final = (
    "Which face of the source to animate: `largest`, `speaking` (the person who speaks most in the video), `person:N` "
    "(see `GET /v1/avatars/{id}/people`), an index by size (`0` is the largest), `point:x,y` or `box:x0,y0,x1,y1` in "
    "pixels of the upright frame. To select a person by photo, use `face_image`."
)
"""Description of a choice of a face."""


def _same_if(parse: Callable[[str], object]) -> Callable[[str], str]:
    """Return a validator of texts that can be parsed, which are kept as they are."""

    def check(text: str) -> str:
        parse(text)
        return text

    return check


LanguageName = Annotated[str, Field(max_length=64), AfterValidator(parse_language)]
"""A language: its name in English, a code, or a tag; kept as the code of ISO 639-3."""


class VideoSettings(BaseModel):
    """Options of a job that avatars do not have. A new one needs no other declaration."""

    face: str = Field("largest", max_length=128, description=FACE)
    loop: LoopMode = Field(
        "pingpong",
        description="How to fit the video to the speech. `pingpong`, `loop` and `hold` continue a shorter video"
        " backwards and forwards, from its start, or on its last frame; `cut` ends with the shorter of the two,"
        " `source` with the video; `retime` plays it at half to twice its speed, so that it ends with the speech;"
        " `natural` continues it without visible jumps, from frames at which the person looks alike. An avatar with"
        " clips plays its clips, with `pingpong` (the default) and `natural`.",
    )
    action: str | None = Field(
        None,
        max_length=64,
        description="Action that an avatar with clips shows at the start; texts name others inline: `Hello! [wave]`.",
    )
    visible_label: bool = Field(False, description="Add a visible mark to the picture saying that it is AI-generated.")
    visible_label_top: bool = Field(False, description="Add the same mark in the top right corner.")
    background_gain_db: float | None = Field(
        None, ge=-60, le=12, description="Keep the video's own sound under the speech, with this gain in dB."
    )
    loudness_lufs: float | None = Field(
        None, ge=-40, le=-9, description="Normalize the result to this loudness (EBU R128, in LUFS), for example -16."
    )
    size: Annotated[str, AfterValidator(_same_if(parse_size))] | None = Field(
        None,
        description="Size of the picture, such as `1080x1920`. If its aspect ratio is not the source's, the picture"
        " is cropped, as with `crop`. Default: the source's.",
    )
    crop: Annotated[str, AfterValidator(_same_if(parse_aspect))] | None = Field(
        None,
        description="Aspect ratio, such as `9:16`, to which the picture is cropped; the crop follows the face that"
        " speaks.",
    )
    fps: float | None = Field(
        None, ge=1, le=MAX_OUTPUT_FPS, description="Frames per second of the result. Default: the source's."
    )
    format: FormatName = Field(
        "mp4", description="File format: `mp4` (H.264, AAC), `webm` (VP9, Opus) or `mov` (ProRes 4444, PCM)."
    )

    quality: Quality = Field(
        "balanced",
        description="How the video is encoded: `fast` takes half the CPU time for encoding, and even areas lose grain;"
        " `best` keeps more detail, above all of the mouth, in larger files. ProRes is always the same.",
    )
    language: LanguageName | None = Field(
        None,
        description="Language of the speech, such as `de` or `German`. Texts without a voice are spoken by voices of it"
        ", a different one for each speaker, and the sound and the text track are marked with it. Default: from the"
        " voices or the name of the subtitle file, if known.",
    )


class JobSettings(AvatarSettings, VideoSettings):
    """Options of a job with the same name and meaning everywhere."""

    @model_validator(mode="after")
    def _check_output(self) -> Self:
        if self.background == TRANSPARENT and FORMATS[self.format].alpha_pixel_format is None:
            raise ValueError(f"background: transparent is not possible in {self.format}; choose format webm or mov")
        if self.loop == "natural" and self.background_gain_db is not None:
            raise ValueError("background_gain_db: not possible with loop=natural, which reorders the video")
        if self.size is not None and self.crop is not None:
            check_same_aspect(parse_size(self.size), parse_aspect(self.crop))
        return self

    def shared(self) -> dict[str, Any]:
        """Return the options that are set, by name, without those that a subclass adds."""
        return {name: getattr(self, name) for name in JobSettings.model_fields if name in self.model_fields_set}
