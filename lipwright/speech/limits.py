"""Limits of texts, checked before anything is done for them."""

from __future__ import annotations

from collections.abc import Sequence

from lipwright.config import TtsConfig
from lipwright.errors import OptionError
from lipwright.speech.local_backend import LocalBackend


def check_texts(settings: TtsConfig, texts: Sequence[str]) -> None:
    """Check the texts of a job. Loads no voice.

    Raises:
        OptionError: There is no voice, a text is too long, or all together are.
    """
    if settings.url is None and not (settings.use_builtin and LocalBackend(settings).default_voice):
        raise no_voice_error()
    for text in texts:
        check_length(settings, text)
    num_chars = sum(map(len, texts))
    if num_chars > (limit := settings.max_total_chars):
        raise OptionError(f"turns: expected texts of at most {limit} characters in all, found {num_chars}.")


def check_length(settings: TtsConfig, text: str) -> None:
    """Check the length of one text; OptionError if it is too long."""
    if len(text) > (limit := settings.max_chars):
        raise OptionError(f"text: expected at most {limit} characters, found {len(text)}.")


def no_voice_error() -> OptionError:
    """Return the error of a text where there is no voice."""
    return OptionError(
        "text: this service has no voice. Send audio instead, or ask the operator to set tts.url or to install the "
        "extra [tts] or espeak-ng."
    )
