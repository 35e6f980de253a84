"""A draft or a finished dub as an SRT file to edit, and its turns as a table."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.table import Column, Table

from lipwright.cli.terminal import name
from lipwright.media.subtitles.cues import Cue, read_cues
from lipwright.media.subtitles.texts import subtitle_file
from lipwright_client import Job, Lipwright, Turn, Turns
from lipwright_client.calls import RevisionFields, TurnFields, TurnOptions

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
    overlaps most. If there is no such cue, the first one is the first turn. Face and voice of a new speaker or a new
    cue are those of the nearest turn of that speaker.

    Raises:
        OptionError: It is not an SRT or WebVTT file.
    """
    texts = [turn for turn in turns if turn.text is not None]
    acts = any("[" in (turn.text or "") for turn in texts)
    cues = read_cues(content, {turn.speaker for turn in texts if turn.speaker is not None}, lambda _: acts)
    shown = {turn.number: _read_again(turn, acts) for turn in texts}
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


def _read_again(turn: Turn, acts: bool) -> Cue:
    """Return the cue of an unchanged turn as it is read from the file: readers leave out markup."""
    cue, known = _cue_of(turn), {turn.speaker} if turn.speaker is not None else set[str]()
    cues = read_cues(subtitle_file([cue], "srt").encode(), known, lambda _: acts)
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
    if cues and left and len(left) == len(shown):  # no turn is left, but a job keeps at least one
        yield next(iter(left)), cues[0]


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


_FAST: Final = 1.15
"""Speech that is played faster than this sounds hurried."""


def turn_table(turns: Sequence[Turn]) -> Table:
    """Return a table of turns, with what is too long."""
    columns = (Column(title, no_wrap=True) for title in ("start", "end", "speaker", "face", "voice", "fit"))
    table = Table(Column("turn", justify="right"), *columns, "text", box=None)
    for turn in turns:
        end = "" if turn.end is None else _clock(turn.end)
        who = name(turn.speaker or ""), name(turn.face or ""), name(turn.voice or "")
        text = name(turn.text) if turn.text is not None else "(audio file)"
        table.add_row(str(turn.number), _clock(turn.start), end, *who, _fit(turn), text)
    return table


def long_texts(turns: Sequence[Turn]) -> list[str]:
    """Return a line for each text that is spoken hurriedly or cut, to end in time."""
    return [
        f"Too long: turn {turn.number} at {_clock(turn.start)} ({_fit(turn)}): {' '.join((turn.text or '').split())}"
        for turn in turns
        if turn.text is not None and ((turn.speed or 1.0) > _FAST or turn.cut_seconds)
    ]


def print_result(job: Job, out: Path, num_bytes: int, as_json: bool) -> None:
    """Print where the video of a job with turns is, the voices, and what was cut."""
    if as_json:
        print(json.dumps({**job.raw, "out": str(out), "num_bytes": num_bytes}, indent=2))
        return
    done = f"{out}: {job.num_frames} frames, {num_bytes} bytes"
    print("\n".join([done, *voices_of(job), *_cut_texts(job)]), flush=True)


def voices_of(job: Job) -> Sequence[str]:
    """Return a line that says which voice speaks for whom."""
    turns = job.raw.get("options", {}).get("turns") or ()
    faces = {"speaking": "who speaks most", None: "everybody"}
    speakers = [turn.get("speaker") or faces.get(turn.get("face"), turn.get("face")) for turn in turns]
    voices = {name: turn.get("voice") or "the default voice" for name, turn in zip(speakers, turns, strict=True)}
    return ["Voices: " + "; ".join(f"{name}: {voice}" for name, voice in voices.items())] if voices else []


def _cut_texts(job: Job) -> Sequence[str]:
    """Return a line for each text that does not fit into its time."""
    cuts = (job.report or {}).get("output", {}).get("cut_texts", ())
    return [f"Cut by {cut['cut_seconds']:.1f} s at {cut['start_seconds']:.1f} s: {cut['text']}" for cut in cuts]


def _fit(turn: Turn) -> str:
    """Return how the speech of a turn is made to end in time."""
    speed = f"{turn.speed:.2f} x speed" if turn.speed else ""
    cut = f"{turn.cut_seconds:.1f} s cut" if turn.cut_seconds else ""
    return ", ".join(filter(None, (speed, cut)))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{minutes // 60:02.0f}:{minutes % 60:02.0f}:{rest:06.3f}"
