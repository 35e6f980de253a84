"""Times of the actions of a job, the path through the clips of its avatar, and edits of texts with actions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from errors import OptionError
from jobs.actions import ClipTimes, planned_actions, speech_rows
from jobs.drafts import edited
from jobs.messages import PreparedSpeech
from jobs.model.base import utc_now
from jobs.model.clip import AvatarClip
from jobs.model.edits import NewTurn, TurnChange, TurnSplit
from jobs.model.plan import PlannedAction
from jobs.model.record import JobRecord
from jobs.model.spec import JobSpec
from jobs.model.turns import PlannedTurn
from media.playback import Playback
from media.probe import AudioInfo
from models.speech.level import SpeechLevel
from storage.file_store import FileStore
from tests.unit.clip_graphs import NOD, WAVE, acting_graph, starts_of
from tests.unit.job_records import job_record

CLIPS = {
    name: AvatarClip(kind=kind, key=name, created_at=utc_now())
    for name, kind in (("", None), ("wave", "action"), ("nod", "action"))
}


def acting_job(*turns: PlannedTurn, text: str | None = None, action: str | None = None) -> JobRecord:
    job = job_record()
    plan = job.plan.with_options(turns=turns or None, action=action).model_copy(update={"clips": CLIPS})
    spec = None if text is None else JobSpec(text=text, avatar_id="a")
    return job.model_copy(update={"plan": plan, "spec": spec})


def rows(*seconds: tuple[float, float], total: float = 8.0) -> np.ndarray:
    speaks = np.zeros(round(total * 50), bool)
    for start, stop in seconds:
        speaks[round(start * 50) : round(stop * 50)] = True
    return speaks


def test_planned_actions_of_a_text_are_at_their_words() -> None:
    job = acting_job(text="Hello! [wave] Welcome. [nod]", action="nod")
    found = planned_actions(job, rows((0.5, 1), (2, 4), total=4))
    assert [(each.name, round(each.seconds, 1)) for each in found] == [("nod", 0), ("wave", 2), ("nod", 4)]


def test_planned_actions_of_turns_are_in_their_time() -> None:
    text = PlannedTurn(start=4, end=7, text="Hi! [nod] You.", action="wave").with_actions(["nod", "wave"])
    job = acting_job(PlannedTurn(start=1, end=2, action="nod"), text)
    plan = job.plan.model_copy(update={"cue_actions": (PlannedAction(seconds=3, name="wave"),)})
    found = planned_actions(job.model_copy(update={"plan": plan}), rows((1, 2), (4, 4.5), (6, 7)))
    expected = [("nod", 1), ("wave", 3), ("wave", 4), ("nod", 6)]
    assert [(each.name, round(each.seconds, 1)) for each in found] == expected
    turn = PlannedTurn(start=0, end=2, cut_seconds=2, text="One two three [nod] four").with_actions(["nod"])
    (cut,) = planned_actions(acting_job(turn), rows((0, 2)))
    assert cut.seconds == 2, "the end of the turn"


def playback(actions: list[tuple[float, str]], num_frames: int = 200, speed: float = 1.0) -> Playback:
    planned = tuple(PlannedAction(seconds=seconds, name=name) for seconds, name in actions)
    return ClipTimes(acting_graph(), rows((0, 8)), planned, 7).playback(Playback(speed=speed), num_frames, 25.0)


@pytest.mark.parametrize("speed", [0.5, 1.0])
def test_playback_shows_an_action_at_its_time(speed: float) -> None:
    found = playback([(3.0, "wave")], speed=speed)
    (start,) = starts_of(found.path, WAVE)
    assert start == pytest.approx(75, abs=5)
    shown = found.source_frames(range(round(start / speed), round((start + 50) / speed)), 170)
    assert set(shown.tolist()) == set(WAVE)
    found = playback([(1.0, "wave")], num_frames=40)
    assert len(starts_of(found.path, WAVE)) == 1
    assert found.source_frames(range(40), 170)[-1] in WAVE, "it ends with the speech"


def test_playback_ten_actions_in_a_second_show_whole_clips() -> None:
    actions = tuple(PlannedAction(seconds=3 + number / 10, name="nod") for number in range(10))
    times = ClipTimes(acting_graph(), rows((0, 8)), (*actions, PlannedAction(seconds=5, name="bow")), 7)
    found = times.playback(Playback(), 200, 25.0)
    starts = starts_of(found.path, NOD)
    assert 1 <= len(starts) < 10
    assert all(np.diff(starts) >= len(NOD))
    missing = times.missing(found)
    assert len(missing) == 11 - len(starts) and missing[-1].name == "bow", "those without room, and without a clip"
    assert times._replace(actions=actions[:1]).missing(found) == ()
    assert playback([(3.0, "bow")]) == playback([])


def test_part_of_a_playback_shows_the_same_frames() -> None:
    found = playback([(1.0, "wave"), (5.0, "nod")], speed=0.8)
    for first in range(0, 200, 25):
        frames = range(first, first + 25)
        part = found.part(frames)
        assert len(part.path) < len(found.path)
        assert part.source_frames(frames, 170).tolist() == found.source_frames(frames, 170).tolist()


def test_speech_rows_are_true_where_somebody_is_heard(tmp_path: Path) -> None:
    files = FileStore(tmp_path)
    samples = np.zeros(32000, np.int16)
    samples[16000:] = 6000 * np.sin(np.arange(16000) / 5)
    with files.stored.written("speech.npy") as path, path.open("wb") as file:
        np.save(file, samples)
    speech = PreparedSpeech("speech.npy", AudioInfo(16000, 1, 2.0, "pcm_s16le"), SpeechLevel(32000, 1.0, -15.0))
    found = speech_rows(files.stored, speech)
    assert not found[:48].any()
    assert found[52:98].all()


def test_produce_id_with_clips_depends_on_the_seed() -> None:
    def with_seed(seed: int, clips: dict[str, AvatarClip]) -> str:
        job = job_record(avatar_key="a")
        return job.model_copy(update={"plan": job.plan.model_copy(update={"clips": clips, "seed": seed})}).produce_id

    assert with_seed(1, CLIPS) != with_seed(2, CLIPS)
    assert with_seed(1, {}) == with_seed(2, {})


NAMES = ["nod", "wave"]
SPOKEN = {"natural_seconds": 1.0, "cue": "c"}
TURN = PlannedTurn(start=0, text="Hi [wave] you", voice="v", action="nod").with_actions(NAMES)


def edit(change: Any) -> list[PlannedTurn]:
    return edited([TURN.model_copy(update=SPOKEN)], 0, change, NAMES)


@pytest.mark.parametrize(
    ("fields", "text", "actions", "is_spoken"),
    [
        ({"text": "[nod] Hi you"}, "Hi you", ((0, "nod"),), True),
        ({"text": "Hi you"}, "Hi you", (), True),
        ({"text": "Hi [wave] all"}, "Hi all", ((3, "wave"),), False),
        ({"voice": "w"}, "Hi you", ((3, "wave"),), False),
        ({"action": None, "start": 2}, "Hi you", ((3, "wave"),), True),
    ],
)
def test_edited_text_has_its_actions(fields: dict[str, Any], text: str, actions: Any, is_spoken: bool) -> None:
    (turn,) = edit(TurnChange(**fields))
    assert (turn.text, turn.actions, turn.cue is not None) == (text, actions, is_spoken)
    assert turn.action == fields.get("action", "nod")


def test_edited_split_keeps_the_action_at_the_start() -> None:
    first, second = edit(TurnSplit(start=1, text="Hi [wave] you", next_text=r"\[ok] [nod] bye"))
    assert [(turn.text, turn.action) for turn in (first, second)] == [("Hi you", "nod"), ("[ok] bye", None)]
    assert (first.actions, second.marked_text) == (((3, "wave"),), r"\[ok] [nod] bye")


@pytest.mark.parametrize("change", [TurnChange(action="bow"), TurnChange(text="[bow]"), NewTurn(text="[bow]", start=1)])
def test_edited_unknown_action_is_refused(change: Any) -> None:
    with pytest.raises(OptionError, match="Actions of this avatar: nod, wave"):
        edit(change)
