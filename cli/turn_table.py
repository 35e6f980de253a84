"""Shows the turns of a job, and what became of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.table import Column, Table

from cli.terminal import name
from lipwright_client import Job, Turn

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
    speakers = [turn.get("speaker") or turn.get("face") or "everybody" for turn in turns]
    voices = {name: turn.get("voice") or "the default voice" for name, turn in zip(speakers, turns, strict=True)}
    return ["Voices: " + ", ".join(f"{name}={voice}" for name, voice in voices.items())] if voices else []


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
