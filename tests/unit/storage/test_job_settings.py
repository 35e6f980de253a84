from __future__ import annotations

import pytest
from pydantic import ValidationError

from jobs.model.files import UploadedFile
from jobs.model.job_settings import JobSettings
from jobs.model.plan import JobOptions
from tests.unit.job_records import SOUND, job_record


def test_options_of_a_picture() -> None:
    settings = JobSettings(size="1080x1920", crop="9:16", fps=29.97, format="webm", background=" Transparent ")
    assert settings.background == "transparent"
    assert set(settings.shared()) == {"size", "crop", "fps", "format", "background"}, "avatars set the others"
    assert JobOptions(engine="warp", **settings.shared()).shared() == settings.shared()


def test_the_fields_keep_their_order_which_batch_records_hash() -> None:
    options = {"matte": "chroma", "background": "blur", "size": "640x640", "face": "0"}
    settings = JobSettings.model_validate(options)
    assert list(settings.model_dump(exclude_defaults=True)) == ["face", "size", "background", "matte"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": "99999x2"}, "size"),
        ({"size": "1920x1080", "crop": "9:16"}, "another aspect ratio than crop"),
        ({"crop": "0:1"}, "expected WIDTH:HEIGHT"),
        ({"fps": 61}, "less than or equal to 60"),
        ({"fps": 0.5}, "greater than or equal to 1"),
        ({"fps": float("nan")}, "fps"),
        ({"format": "avi"}, "mp4"),
        ({"quality": "lossless"}, "'fast', 'balanced' or 'best'"),
        ({"background": "transparent"}, "choose format webm or mov"),
        ({"background": "no colour"}, "background_file"),
    ],
)
def test_options_that_cannot_be_made(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        JobSettings.model_validate(fields)


def test_other_options_and_files_are_other_videos() -> None:
    def produce_id(background_file: UploadedFile | None = None, **options: object) -> str:
        made = JobOptions.model_validate({"engine": "warp", **options})
        return job_record(options=made, background_file=background_file).produce_id

    ids = {
        produce_id(),
        produce_id(format="mov"),
        produce_id(quality="best"),
        produce_id(background="blur"),
        produce_id(background_file=SOUND),
        produce_id(background_file=SOUND.model_copy(update={"sha256": "b" * 64})),
    }
    assert len(ids) == 6
    assert produce_id(fps=None, format="mp4") in ids, "a default does not count"
