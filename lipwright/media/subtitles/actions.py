"""Reads the actions that texts carry inline, as in `Hello! [wave] Welcome.`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from lipwright.errors import OptionError

_AS_TEXT: Final = r" A bracket that is spoken is written \[."
_MARK: Final = re.compile(r"\\\[|\[([^\[\]\n]*)\]")
_MAX_SHOWN: Final = 40
"""Characters of an unknown name, and known names, that an error shows."""


class TextAction(NamedTuple):
    """An action of a text: the position of the word that it precedes, in characters, and its name."""

    position: int
    name: str


class ActedText(NamedTuple):
    """A text without marks, and its actions in order."""

    text: str
    actions: tuple[TextAction, ...] = ()


def read_actions(text: str, names: Collection[str] | None, skips_unknown: bool = False) -> ActedText:
    r"""Return a text without its marks, and the actions that these name. `\[` is a bracket.

    Args:
        text: What is spoken, with marks.
        names: The actions of the avatar; None: it has no clips, and brackets are text.
        skips_unknown: Whether other brackets are left out, as in subtitles, where they describe sounds.

    Raises:
        OptionError: The avatar has no action of a name.
    """
    if names is None:
        return ActedText(text)
    plain, actions, end = "", [], 0
    for mark in _MARK.finditer(text):
        plain, end = _joined(plain, text[end : mark.start()]), mark.end()
        if mark[1] is None:
            plain += "["
        elif not skips_unknown or mark[1].strip() in names:
            actions.append((len(plain), checked_action(mark[1].strip(), names, _AS_TEXT)))
    plain = _joined(plain, text[end:]).rstrip() if actions else plain + text[end:]
    return ActedText(plain, tuple(TextAction(_next_word(plain, start), name) for start, name in actions))


def marked(text: str, actions: Iterable[TextAction]) -> str:
    """Return the text that `read_actions` has read."""
    parts, end = [], 0
    for position, name in actions:
        parts += [text[end:position].replace("[", r"\["), f"[{name}] "]
        end = position
    return "".join([*parts, text[end:].replace("[", r"\[")]).strip()


def checked_action(name: str, names: Collection[str] | None, advice: str = "") -> str:
    """Return the name of an action; OptionError, with some advice, if the avatar does not have it."""
    if names is None:
        raise OptionError("action: actions need an avatar with clips, and a job or session that plays them.")
    if name not in names:
        known = ", ".join(sorted(names)[:_MAX_SHOWN]) or "none"
        raise OptionError(f"action: there is no action {name[:_MAX_SHOWN]!r}. Actions of this avatar: {known}.{advice}")
    return name


def _joined(text: str, more: str) -> str:
    """Return a text with what follows a mark; the spaces around the mark become one."""
    return text + (more.lstrip() if not text or text[-1].isspace() else more)


def _next_word(text: str, position: int) -> int:
    return len(text) - len(text[position:].lstrip())
