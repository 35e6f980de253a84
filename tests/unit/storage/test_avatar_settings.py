"""Which settings of an avatar apply, and how they change."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from errors import OptionError
from jobs.model.avatar_settings import AvatarSettings, changed_settings

BLUR = AvatarSettings(background="blur")
BEACH = AvatarSettings(background_id="beach", background_loop="hold", matte="chroma")
CALM = AvatarSettings(expressiveness=0.6, motion=0.2)
NONE = AvatarSettings()


def test_a_background_that_is_named_wins_over_that_of_the_avatar() -> None:
    assert NONE.or_default(BEACH) == BEACH
    assert BLUR.or_default(BEACH) == BLUR, "with none of the other options of the avatar"
    assert AvatarSettings(background="source").or_default(BEACH) == NONE.or_default(NONE) == NONE
    assert AvatarSettings(matte="person").or_default(CALM).matte == "person", "beside a file of its own"


def test_each_movement_that_is_set_wins_over_that_of_the_avatar() -> None:
    assert NONE.or_default(CALM) == CALM
    assert AvatarSettings(expressiveness=1).or_default(CALM) == AvatarSettings(motion=0.2)
    assert BLUR.or_default(CALM) == AvatarSettings(background="blur", expressiveness=0.6, motion=0.2)


def test_only_what_can_be_used_of_an_avatar() -> None:
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


@pytest.mark.parametrize(
    ("known", "fields", "message"),
    [
        (NONE, {"matte": "person"}, "matte needs"),
        (BLUR, {"background": "source", "matte": "person"}, "matte needs"),
        (BLUR, {"background_loop": "hold"}, "background_loop needs"),
        (NONE, {"background": "transparent"}, "not possible for an avatar"),
    ],
)
def test_what_an_avatar_cannot_have(known: AvatarSettings, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        changed_settings(known, AvatarSettings(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"background": "blur", "background_id": "beach"},
        {"expressiveness": 2.1},
        {"expressiveness": float("nan")},
        {"motion": -0.1},
    ],
)
def test_what_cannot_be_set(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"not both|expressiveness|motion"):
        AvatarSettings(**fields)


def test_schemas_promise_no_default_that_an_avatar_may_replace() -> None:
    properties = AvatarSettings.model_json_schema()["properties"]
    assert all("default" not in properties[name] for name in ("expressiveness", "motion"))
