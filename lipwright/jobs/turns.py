"""Jobs in which several people speak: which face speaks when, and in which frames it is generated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from math import inf
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lipwright.errors import OptionError
from lipwright.jobs.model.avatar_settings import StillSettings
from lipwright.jobs.model.plan import JobOptions
from lipwright.jobs.model.record import JobRecord
from lipwright.jobs.model.turns import MAX_TURNS, PlannedTurn
from lipwright.media.audio_parts import AudioPart
from lipwright.media.dubbing.slots import MAX_SLOT_SECONDS, SpeechSlot
from lipwright.media.output.crop_path import PAN_SECONDS
from lipwright.media.phones import Closures
from lipwright.media.probe import VideoInfo
from lipwright.media.subtitles.cues import Cue
from lipwright.storage.file_keys import job_file_key
from models.face.choice import OFF_SCREEN, FaceChoice
from models.quality.report import TruncatedText

MAX_FACES: Final = 16
_CROSSFADE_SECONDS: Final = 0.12
"""Time in which the picture changes between the source's own mouth and the generated one, outside of a turn."""
_MAX_PAUSE_SECONDS: Final = 0.6
"""A mouth stays generated between two turns that are closer: the source's own would flash up for a moment."""
_TOLERANCE_SECONDS: Final = 0.1
"""By how much a turn may be longer than the video: times of subtitles and lengths of files are rounded."""
_MAX_READS: Final = 10
"""How often an audio file may be read for one face: from its start again where turns use it out of order."""


class FaceTurns(NamedTuple):
    """The turns of one face in order; `face` is None for the face of the job."""

    face: str | None
    turns: tuple[PlannedTurn, ...]

    def parts(self, job_id: str) -> list[AudioPart[str]]:
        """Return the speech, by the keys of its files."""
        return [
            AudioPart(job_file_key(job_id, each.audio), each.start, each.end, each.audio_start, gain_db=each.gain_db)
            for each in self.turns
        ]

    def weight(self, options: JobOptions, source: VideoInfo, num_frames: int) -> NDArray[np.float32] | None:
        """Return the weight of the generated face in each of `num_frames`, see `lipwright.jobs.messages.FacePlan`.

        It is 1 in turns and short pauses, with crossfades around them. A still, which has no mouth movement of its
        own, always shows the generated face.
        """
        if source.is_still or options.idle_mouths == "closed":
            return None
        fps = source.fps
        times = np.arange(num_frames) / float(fps)
        weight = np.zeros(num_frames)
        edges = [self.turns[0].start]
        for before, after in pairwise(self.turns):
            assert before.end is not None
            if after.start - before.end > _MAX_PAUSE_SECONDS:
                edges += [before.end, after.start]
        assert self.turns[-1].end is not None
        edges.append(self.turns[-1].end)
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            # A frame is shown until the next one: it belongs to the turn if the turn begins before its end.
            begin = np.searchsorted(times, start - 1 / float(fps), "right")
            ramp = round(_CROSSFADE_SECONDS * fps)
            end = np.searchsorted(times, stop, "left")
            around = slice(max(begin - ramp, 0), end + ramp)
            index = np.arange(*around.indices(num_frames))
            distance = np.maximum(begin - index, index - (end - 1))
            weight[around] = np.maximum(weight[around], 1 - np.maximum(distance, 0) / (ramp + 1))
        return weight.astype(np.float32)


def speaker_of_frames(faces: Sequence[FaceTurns | None], num_frames: int, fps: Fraction) -> NDArray[np.int8]:
    """Return the (T,) index of the face that a crop follows: the one that speaks, spoke last, or is about to speak.

    The pan to another face is centred where the index changes. In a pause between two faces, it ends when the second
    one begins to speak; without a pause, half of it comes before.

    `faces` are those of a job with turns, or one None.
    """
    turns = [(turn.start, turn.end, number) for number, face in enumerate(faces) if face for turn in face.turns]
    speaker = np.zeros(num_frames, np.int8)
    silent_since = -math.inf
    for place, (start, end, number) in enumerate(sorted(turns)):
        lead_seconds = min(max(start - silent_since, 0.0), PAN_SECONDS) / 2
        speaker[math.ceil((start - lead_seconds) * float(fps)) if place else 0 :] = number
        assert end is not None
        silent_since = max(silent_since, end)
    return speaker


def faces_of(turns: Sequence[PlannedTurn]) -> list[FaceTurns]:
    """Return the faces that are shown in the order in which they first speak, with their turns in order of time."""
    return [each for each in _speakers(turns) if each.face != OFF_SCREEN]


def _speakers(turns: Sequence[PlannedTurn]) -> list[FaceTurns]:
    faces: dict[str | None, list[PlannedTurn]] = {}
    for turn in sorted(turns, key=lambda turn: turn.start):
        faces.setdefault(turn.face, []).append(turn)
    return [FaceTurns(face, tuple(of_face)) for face, of_face in faces.items()]


def all_parts(job: JobRecord) -> list[AudioPart[str]]:
    """Return the speech of a job, by the keys of its files."""
    if job.options.turns is None:
        return [AudioPart(job_file_key(job.id), speed=job.options.audio_speed or 1.0)]
    return [part for face in _speakers(job.options.turns) for part in face.parts(job.id)]


def closures_of(job: JobRecord, face: FaceTurns | None) -> Closures:
    """Return when the lips of a face are known to close, in seconds of the job; None is the only face of one speech."""
    known = {job_file_key(job.id, field): np.array(file.closures) for field, file in job.audio_files.items()}
    found: list[tuple[float, float]] = []
    for part in all_parts(job) if face is None else face.parts(job.id):
        if not len(times := known[part.file]):
            continue
        stop = inf if part.stop is None else part.file_start + (part.stop - part.start) * part.speed
        first, last = np.searchsorted(times[:, 0], (part.file_start, stop))
        placed = part.start + (times[first:last] - part.file_start) / part.speed
        found += [(start, end) for start, end in placed.round(3).tolist()]
    return tuple(found)


def texts_of(turns: Sequence[PlannedTurn]) -> list[str]:
    """Return the texts of turns, in their order."""
    return [turn.text for turn in turns if turn.text is not None]


def cues_of(options: JobOptions) -> list[Cue]:
    """Return the texts of the turns of a job; `options` are those of its row."""
    return [
        Cue(turn.start, turn.end, turn.text, turn.speaker)
        for turn in options.turns or ()
        if turn.text is not None and turn.end is not None
    ]


def cut_texts(options: JobOptions) -> tuple[TruncatedText, ...]:
    """Return the texts that do not fit into their time."""
    return tuple(
        TruncatedText(start_seconds=turn.start, cut_seconds=turn.cut_seconds, text=turn.text)
        for turn in options.turns or ()
        if turn.text is not None and turn.cut_seconds is not None
    )


def checked_turns(
    sent: Sequence[PlannedTurn],
    audio_seconds: Mapping[str, float],
    video_seconds: float | None,
    has_faces: bool = True,
    max_seconds: float = inf,
) -> tuple[PlannedTurn, ...]:
    """Return the turns of a job in order of time, each with its end; a text that is not yet spoken may have none.

    This is the only place where turns are checked against each other, their files and the video.

    Args:
        sent: The turns.
        audio_seconds: Length of each audio file that was sent, by the name of its form field.
        video_seconds: Length of the video; None for a still, which lasts as long as the turns.
        has_faces: Whether the faces of all turns are known; otherwise they are not compared.
        max_seconds: When turns must have ended if there is no video.

    Raises:
        OptionError: A turn cannot be spoken, or two of one face overlap; turns are counted from 0, as they were sent.
    """
    if not sent or len(sent) > MAX_TURNS:
        raise OptionError(f"turns: expected 1 to {MAX_TURNS} turns, found {len(sent)}.")
    if len({turn.face for turn in sent}) > MAX_FACES:
        raise OptionError(f"turns: expected at most {MAX_FACES} faces.")
    turns = [_check_turn(f"turns[{number}]", turn, audio_seconds, video_seconds) for number, turn in enumerate(sent)]
    for number, turn in enumerate(turns):
        if video_seconds is None and (end := turn.end or turn.start) > max_seconds:
            raise OptionError(f"turns[{number}]: expected an end within {max_seconds:g} s, found {end:g} s.")
    of_files = [turn for turn in turns if turn.text is None]
    if unused := sorted(set(audio_seconds) - {turn.audio for turn in of_files}):
        raise OptionError(f"turns: no turn uses the file {unused[0]}.")
    if not faces_of(turns):
        raise OptionError("turns: all of them are offscreen; at least one needs a face.")
    if has_faces:
        check_overlaps(turns)
    _check_reading(of_files, audio_seconds)
    return tuple(sorted(turns, key=lambda turn: turn.start))


def speech_slots(turns: Sequence[PlannedTurn], video_seconds: float | None) -> dict[int, SpeechSlot]:
    """Return when each turn with a text is spoken, by its index; `video_seconds` is when all end."""
    order = sorted(range(len(turns)), key=lambda number: turns[number].start)
    latest: dict[str | None, float] = {}
    slots: dict[int, SpeechSlot] = {}
    for number in reversed(order):
        turn = turns[number]
        end = latest.get(turn.face, video_seconds or inf)
        latest[turn.face] = turn.start
        if turn.text is not None:
            slots[number] = SpeechSlot(turn.start, None if turn.end is None else min(turn.end, end), end)
    return dict(sorted(slots.items(), key=lambda item: item[1].start))


def check_overlaps(turns: Sequence[PlannedTurn]) -> None:
    """Check that no two turns of one face overlap; a text without an end lasts until the next turn of its face.

    Raises:
        OptionError: Two of them do.
    """
    order = sorted(range(len(turns)), key=lambda number: turns[number].start)
    last: dict[str | None, int] = {}
    for number in order:
        turn = turns[number]
        before = last.get(turn.face)
        last[turn.face] = number
        if before is None:
            continue
        end = turns[before].end
        if turn.start < end - 1e-3 if end is not None else turn.start <= turns[before].start:
            name = "the face of the job" if turn.face is None else f"face {turn.face!r}"
            raise OptionError(
                f"turns[{before}] and turns[{number}] are two turns of {name} and overlap: one starts at "
                f"{turns[before].start:g} s" + (f" and ends at {end:g} s" if end is not None else "") + ", the next "
                f"starts at {turn.start:g} s."
            )


def _check_turn(
    name: str, turn: PlannedTurn, audio_seconds: Mapping[str, float], video_seconds: float | None
) -> PlannedTurn:
    """The turn with its end, which a text may lack; raises OptionError with the name of the turn."""
    if turn.face is not None and turn.face != OFF_SCREEN:
        try:
            FaceChoice.parse(turn.face)
        except OptionError as error:
            raise OptionError(f"{name}.face: {error}") from error
    StillSettings(expression=turn.expression or "neutral").check_source(
        is_still=video_seconds is None, prefix=f"{name}."
    )
    if video_seconds is not None and turn.start >= video_seconds:
        raise OptionError(f"{name}.start: the video ends at {video_seconds:g} s, before {turn.start:g} s.")
    available = inf if turn.text is not None else _available(name, turn, audio_seconds)
    if turn.end is None:
        return turn if available == inf else _until_its_end(turn, available, video_seconds)
    if turn.end <= turn.start:
        raise OptionError(f"{name}: expected start < end, found {turn.start:g} and {turn.end:g}.")
    if turn.text is not None and turn.end - turn.start > MAX_SLOT_SECONDS:
        raise OptionError(f"{name}: a text may last at most {MAX_SLOT_SECONDS:g} s.")
    if video_seconds is not None and turn.end > video_seconds + _TOLERANCE_SECONDS:
        if turn.text is not None:
            return turn.model_copy(update={"end": video_seconds})  # its speech is made to end with the video
        raise OptionError(f"{name}.end: the video ends at {video_seconds:g} s, before {turn.end:g} s.")
    return turn


def _available(name: str, turn: PlannedTurn, audio_seconds: Mapping[str, float]) -> float:
    """Return how much there is of a turn's speech."""
    if turn.audio not in audio_seconds:
        known = ", ".join(sorted(audio_seconds)) or "none"
        raise OptionError(f"{name}.audio: there is no file {turn.audio!r}. Files that were sent: {known}.")
    available = audio_seconds[turn.audio] - turn.audio_start
    if available <= 0:
        raise OptionError(
            f"{name}.audio_start: {turn.audio} ends at {audio_seconds[turn.audio]:g} s, before {turn.audio_start:g} s."
        )
    return available


def _until_its_end(turn: PlannedTurn, available: float, video_seconds: float | None) -> PlannedTurn:
    """Return a turn that lasts as long as its speech, or until the video ends."""
    end = turn.start + available
    if video_seconds is None or end <= video_seconds:
        return turn.model_copy(update={"end": end})
    return turn.model_copy(update={"end": video_seconds, "cut_seconds": round(end - video_seconds, 3) or None})


def _check_reading(turns: Sequence[PlannedTurn], audio_seconds: Mapping[str, float]) -> None:
    """Refuse turns that would have a long file read from its start again and again."""
    read: dict[str, float] = dict.fromkeys(audio_seconds, 0.0)
    for face in _speakers(turns):
        position: dict[str, float] = {}
        for turn in face.turns:
            assert turn.end is not None
            stop = turn.audio_start + turn.end - turn.start
            before = position.get(turn.audio, 0.0)
            read[turn.audio] += stop - before if turn.audio_start >= before else stop
            position[turn.audio] = stop
    for name, seconds in read.items():
        if seconds > _MAX_READS * len(_speakers(turns)) * max(audio_seconds[name], 60.0):
            raise OptionError(f"turns: the turns use {name} out of order too often. Send the parts as separate files.")
