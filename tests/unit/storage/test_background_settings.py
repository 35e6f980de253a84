"""Which background is shown, and how the background of an avatar changes."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from errors import OptionError
from storage.background_settings import BackgroundSettings, changed_background

BLUR = BackgroundSettings(background="blur")
BEACH = BackgroundSettings(background_id="beach", background_loop="hold", matte="chroma")
NONE = BackgroundSettings()


def test_a_background_that_is_named_wins_over_that_of_the_avatar() -> None:
    assert NONE.or_default(BEACH) == BEACH
    assert BLUR.or_default(BEACH) == BLUR, "with none of the other options of the avatar"
    assert BackgroundSettings(background="source").or_default(BEACH) == NONE.or_default(None) == NONE


def test_a_change_keeps_what_it_does_not_name() -> None:
    def changed(known: BackgroundSettings | None, **fields: Any) -> BackgroundSettings | None:
        return changed_background(known, BackgroundSettings(**fields))

    assert changed(None) is None and changed(BEACH) == BEACH
    assert changed(BEACH, matte="person") == BEACH.model_copy(update={"matte": "person"})
    assert changed(BEACH, background_id="street") == BEACH.model_copy(update={"background_id": "street"})
    assert changed(BEACH, background="white") == BackgroundSettings(background="#ffffff", matte="chroma")
    assert changed(BLUR, background_id="beach", background_loop="hold", matte="chroma") == BEACH
    assert changed(BEACH, background="source") is None


@pytest.mark.parametrize(
    ("known", "fields", "message"),
    [
        (None, {"matte": "person"}, "matte needs"),
        (BLUR, {"background": "source", "matte": "person"}, "matte needs"),
        (BLUR, {"background_loop": "hold"}, "background_loop needs"),
        (None, {"background": "transparent"}, "not possible for an avatar"),
    ],
)
def test_what_an_avatar_cannot_have(known: BackgroundSettings | None, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        changed_background(known, BackgroundSettings(**fields))


def test_one_background_at_a_time() -> None:
    with pytest.raises(ValidationError, match="not both"):
        BackgroundSettings(background="blur", background_id="beach")
