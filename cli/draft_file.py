"""The texts of a job in review as an SRT file, and what a changed file means for its turns."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lipwright_client import Lipwright, Turn, Turns
from lipwright_client.calls import RevisionFields, TurnFields, TurnOptions
from media.subtitles.cues import Cue, read_cues
from media.subtitles.texts import subtitle_file

_MAX_CHARS_OF_NAME: Final = 40


class NewTurn(TurnOptions):
    """Fields of a turn to add."""

    text: str
    start: float


@dataclass(frozen=True)
class DraftChanges:
    """What a changed file means.

    Attributes:
        changed: New fields of turns, by their numbers.
        removed: Numbers of turns whose lines are gone.
        added: Fields of new turns.
    """

    changed: Mapping[int, TurnFields]
    removed: Sequence[int]
    added: Sequence[NewTurn]

    def __len__(self) -> int:
        return len(self.changed) + len(self.removed) + len(self.added)

    def revision(self) -> RevisionFields:
        """Return the changes of a finished job; none if nothing changes."""
        fields: RevisionFields = {
            "turns": [{"number": number, **change} for number, change in self.changed.items()],
            "removed_turns": self.removed,
            "added_turns": [dict(turn) for turn in self.added],
        }
        return fields if self else {}


def draft_text(turns: Sequence[Turn]) -> str:
    """Return an SRT file with one cue per text; names of speakers are in front of it (`Anna: Hello`)."""
    return subtitle_file([_cue_of(turn) for turn in turns if turn.text is not None], "srt")


def draft_changes(turns: Sequence[Turn], content: bytes) -> DraftChanges:
    """Compare turns with a file that was made by `draft_text` and then edited. Turns without a text stay.

    A cue is the turn that starts at the same time, otherwise the one with the same text, otherwise the one that it
    overlaps most. Face and voice of a new speaker or a new cue are those of the nearest turn of that speaker.

    Raises:
        OptionError: It is not an SRT or WebVTT file.
    """
    texts = [turn for turn in turns if turn.text is not None]
    cues = read_cues(content, {turn.speaker for turn in texts if turn.speaker is not None})
    shown = {turn.number: _read_again(turn) for turn in texts}
    matched = dict(_matches(shown, cues))
    by_number = {turn.number: turn for turn in texts}
    changes = {number: _change(by_number[number], shown[number], cue, texts) for number, cue in matched.items()}
    kept = {id(cue) for cue in matched.values()}
    return DraftChanges(
        changed={number: fields for number, fields in sorted(changes.items()) if fields},
        removed=[number for number in shown if number not in matched],
        added=[_new_turn(cue, texts) for cue in cues if id(cue) not in kept],
    )


def apply_changes(
    client: Lipwright, job_id: str, turns: Turns, changes: DraftChanges, on_edit: Callable[[], object]
) -> Turns:
    """Change the turns of a job in review, and return them. `on_edit` is called after each edit.

    Turns are removed first and added last. Turns that start later are changed from the last one to the first, then
    those that start earlier from the first to the last, so that no two of them overlap in between.

    Raises:
        StateError: The job has changed in the meantime.
        ClientError: An edit is refused. The edits before it have been made.
    """
    starts = {turn.number: turn.start for turn in turns.turns if turn.number not in changes.removed}
    for number in reversed(changes.removed):
        turns = client.jobs.remove_turn(job_id, number, turns.version)
        on_edit()
    for number in _order_of_changes(changes.changed, starts):
        fields = changes.changed[number]
        turns = client.jobs.edit_turn(job_id, list(starts).index(number), turns.version, **fields)
        starts[number] = fields.get("start", starts[number])
        starts = dict(sorted(starts.items(), key=lambda item: item[1]))  # as the service numbers the turns
        on_edit()
    for new in changes.added:
        turns = client.jobs.add_turn(job_id, version=turns.version, **new)
        on_edit()
    return turns


def _order_of_changes(changed: Mapping[int, TurnFields], starts: Mapping[int, float]) -> list[int]:
    earlier = [number for number in sorted(changed) if changed[number].get("start", starts[number]) < starts[number]]
    return [*(number for number in sorted(changed, reverse=True) if number not in earlier), *earlier]


def _cue_of(turn: Turn) -> Cue:
    """Return the cue of a turn with a text; the name of the speaker is in its text."""
    end = turn.end if turn.end is not None else turn.start + max(turn.natural_seconds or 0.0, 1.0)
    name = " ".join((turn.speaker or "").split())
    prefix = f"{name}: " if 0 < len(name) <= _MAX_CHARS_OF_NAME else ""
    return Cue(turn.start, end, f"{prefix}{turn.text}")


def _read_again(turn: Turn) -> Cue:
    """Return the cue of an unchanged turn as it is read from the file: readers leave out sounds in brackets."""
    cue = _cue_of(turn)
    cues = read_cues(subtitle_file([cue], "srt").encode(), {turn.speaker} if turn.speaker is not None else ())
    return cues[0] if len(cues) == 1 else cue


def _matches(shown: Mapping[int, Cue], cues: Sequence[Cue]) -> Iterator[tuple[int, Cue]]:
    """Yield turns and their cues in the file, each at most once: the most certain ones first."""
    keys: tuple[Callable[[Cue], object], ...] = (
        lambda cue: (_milliseconds(cue.start), _words(cue)),
        lambda cue: _milliseconds(cue.start),
        _words,
    )
    left, unmatched = dict(shown), list(cues)
    for key in keys:
        numbers: defaultdict[object, deque[int]] = defaultdict(deque)
        for number, cue in left.items():
            numbers[key(cue)].append(number)
        rest = []
        for cue in unmatched:
            if same := numbers.get(key(cue)):
                del left[same[0]]
                yield same.popleft(), cue
            else:
                rest.append(cue)
        unmatched = rest
    for cue in unmatched:
        overlaps = {number: min(old.end, cue.end) - max(old.start, cue.start) for number, old in left.items()}
        number = max(overlaps, key=overlaps.__getitem__, default=-1)
        if overlaps.get(number, 0.0) > 0:
            del left[number]
            yield number, cue


def _milliseconds(seconds: float) -> int:
    """Return a time as subtitle files have it."""
    return round(1000 * seconds)


def _words(cue: Cue) -> tuple[str, ...]:
    return tuple(cue.text.split())


def _change(turn: Turn, old: Cue, new: Cue, turns: Sequence[Turn]) -> TurnFields:
    """Return the fields of a turn that a cue changes."""
    fields: TurnFields = {}
    if _words(old) != _words(new):
        fields["text"] = new.text
    if _milliseconds(old.start) != _milliseconds(new.start):
        fields["start"] = new.start
    if _milliseconds(old.end) != _milliseconds(new.end):
        fields["end"] = new.end
    if new.speaker is not None and new.speaker.casefold() != (turn.speaker or "").casefold():
        return {**fields, **_speaker_fields(new, turns)}
    return fields


def _new_turn(cue: Cue, turns: Sequence[Turn]) -> NewTurn:
    return {**_speaker_fields(cue, turns), "end": cue.end, "text": cue.text, "start": cue.start}


def _speaker_fields(cue: Cue, turns: Sequence[Turn]) -> TurnOptions:
    """Return the speaker, face and voice of a cue."""
    name = (cue.speaker or "").casefold()
    same = [turn for turn in turns if (turn.speaker or "").casefold() == name]
    if not same:
        return {"speaker": cue.speaker}
    nearest = min(same, key=lambda turn: abs(turn.start - cue.start))
    return {"speaker": nearest.speaker, "face": nearest.face, "voice": nearest.voice}
