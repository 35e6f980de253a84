from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from lipwright.errors import OptionError
from lipwright.jobs.model.avatar_settings import AvatarSettings, changed_settings
from lipwright.jobs.model.base import UploadedFile
from lipwright.jobs.model.job_settings import JobSettings
from lipwright.jobs.model.plan import JobOptions
from tests.unit.job_records import SOUND, job_record


def test_options_of_a_picture() -> None:
    settings = JobSettings(size="1080x1920", crop="9:16", fps=29.97, format="webm", background=" Transparent ")
    assert settings.background == "transparent"
    assert set(settings.shared()) == {"size", "crop", "fps", "format", "background"}, "avatars set the others"
    assert JobOptions(engine="warp", **settings.shared()).shared() == settings.shared()
    ordered = JobSettings.model_validate({"matte": "chroma", "background": "blur", "size": "640x640", "face": "0"})
    assert list(ordered.model_dump(exclude_defaults=True)) == ["face", "size", "background", "matte"], "batches hash it"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": "1920x1080", "crop": "9:16"}, "another aspect ratio than crop"),
        ({"fps": 61}, "less than or equal to 60"),
        ({"fps": float("nan")}, "fps"),
        ({"quality": "lossless"}, "'fast', 'balanced' or 'best'"),
    ],
)
def test_options_that_cannot_be_made(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        JobSettings.model_validate(fields)


def test_other_options_and_files_are_other_videos() -> None:
    def produce_id(background_file: UploadedFile | None = None, **options: object) -> str:
        made = JobOptions.model_validate({"engine": "warp", **options})
        return job_record(options=made, background_file=background_file).produce_id

    files = (None, SOUND, SOUND.model_copy(update={"sha256": "b" * 64}))
    changes: list[dict[str, Any]] = [{"format": "mov"}, {"quality": "best"}, {"background": "blur"}]
    ids = {*(produce_id(file) for file in files), *(produce_id(**each) for each in changes)}
    assert len(ids) == 6
    assert produce_id(fps=None, format="mp4") in ids, "a default does not count"


BLUR = AvatarSettings(background="blur")
BEACH = AvatarSettings(background_id="beach", background_loop="hold", matte="chroma")
CALM = AvatarSettings(expressiveness=0.6, motion=0.2)
NONE = AvatarSettings()


def test_or_default_prefers_named_settings_to_the_avatars() -> None:
    assert NONE.or_default(BEACH) == BEACH
    assert BLUR.or_default(BEACH) == BLUR, "with none of the other options of the avatar"
    assert AvatarSettings(background="source").or_default(BEACH) == NONE.or_default(NONE) == NONE
    assert AvatarSettings(matte="person").or_default(CALM).matte == "person", "beside a file of its own"
    assert NONE.or_default(CALM) == CALM
    assert AvatarSettings(expressiveness=1).or_default(CALM) == AvatarSettings(motion=0.2)
    assert BLUR.or_default(CALM) == AvatarSettings(background="blur", expressiveness=0.6, motion=0.2)
    whole = CALM.model_copy(update={"background": "blur", "matte": "person"})
    assert whole.usable() == whole
    assert whole.usable(scales_movement=False) == whole.model_copy(update={"expressiveness": 1.0})
    assert whole.usable(background=False) == CALM


def test_a_change_keeps_what_it_does_not_name() -> None:
    def changed(known: AvatarSettings, **fields: Any) -> AvatarSettings:
        return changed_settings(known, AvatarSettings(**fields))

    assert changed(NONE) == NONE and changed(BEACH) == BEACH
    assert changed(BEACH, matte="person") == BEACH.model_copy(update={"matte": "person"})
    assert changed(BEACH, background_id="street") == BEACH.model_copy(update={"background_id": "street"})
    assert changed(BEACH, background="white") == AvatarSettings(background="#ffffff", matte="chroma")
    assert changed(BLUR, background_id="beach", background_loop="hold", matte="chroma") == BEACH
    assert changed(BEACH, background="source") == NONE
    calm = changed(BEACH, expressiveness=0.6, motion=0.2)
    assert calm == BEACH.model_copy(update={"expressiveness": 0.6, "motion": 0.2})
    assert changed(calm, background="source") == CALM
    assert changed(CALM, motion=1) == AvatarSettings(expressiveness=0.6)


def test_what_an_avatar_cannot_have() -> None:
    with pytest.raises(OptionError, match="matte needs"):
        changed_settings(BLUR, AvatarSettings(background="source", matte="person"))
    with pytest.raises(OptionError, match="background_loop needs"):
        changed_settings(BLUR, AvatarSettings(background_loop="hold"))


@pytest.mark.parametrize("fields", [{"head": "wild"}, {"gaze": "left"}, {"gaze": "0.2,1.5"}, {"gaze": "nan,0"}])
def test_what_cannot_be_set(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="head|gaze"):
        AvatarSettings(**fields)


def test_check_source_of_a_video_refuses_options_of_stills() -> None:
    settings = AvatarSettings(expression="sad", gaze="0.50,1", head="still")
    assert settings.gaze == "0.5,1"
    settings.check_source(is_still=True)
    with pytest.raises(OptionError, match=r"^expression: .*only still pictures.*`expressiveness`"):
        settings.check_source(is_still=False)
    AvatarSettings(expression="neutral", gaze="free", motion=0.5).check_source(is_still=False)
