"""Makes the plan of a job of what was asked for and of what is known of its files. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import inf
from typing import Final, NamedTuple

from lipwright.errors import OptionError
from lipwright.jobs.forecast import result_bytes
from lipwright.jobs.messages import OutputPicture
from lipwright.jobs.model.avatar_settings import AvatarSettings
from lipwright.jobs.model.base import UploadedFile
from lipwright.jobs.model.clip import AvatarClip, action_names
from lipwright.jobs.model.plan import MUSIC, JobOptions, JobPlan, PlannedAction
from lipwright.jobs.model.spec import JobSpec
from lipwright.jobs.model.turns import PlannedTurn
from lipwright.jobs.segments.plan import fit_to_speech
from lipwright.jobs.turn_sources import turns_of_diarization, turns_of_subtitles
from lipwright.jobs.turns import checked_turns
from lipwright.media.language import language_name, language_of_file
from lipwright.media.playback import fit_audio
from lipwright.media.probe import VideoInfo
from lipwright.media.subtitles.actions import checked_action, read_actions
from models.face.choice import OFF_SCREEN

SPEECH_FIELD: Final = "audio"
"""Name of the speech; every complete plan has it, unless all texts of its draft were removed."""
TEXT_FIELD: Final = "audio_synthesized"
"""Name of the spoken texts, where turns use audio files too."""
_MAX_TITLE_CHARS: Final = 48
_ACTION: Final = re.compile(r"(?<!\\)\[[^\[\]\n]*\]")
_CHARS_PER_SECOND: Final = 12.0
"""Of speech; for the forecast of a text that is not yet spoken."""


class JobLength(NamedTuple):
    """How long a job is, as far as it is known: seconds of speech and of the result, and bytes on the disk."""

    audio_seconds: float
    result_seconds: float
    disk_bytes: int


def sent_turns(
    spec: JobSpec, content: bytes | None, plan: JobPlan, parts: Mapping[str, AvatarClip]
) -> tuple[list[PlannedTurn], tuple[PlannedAction, ...]]:
    """Return the turns that a spec names, and the actions of cues without words.

    Those of subtitles and diarizations may lack a face.

    Args:
        spec: What was asked for.
        content: The subtitles or the diarization, if there are any.
        plan: The plan, with the clips that the job plays.
        parts: The clips of the avatar.

    Raises:
        OptionError: The file cannot be used, or a text names an action that the job cannot show.
    """
    if spec.subtitles is not None:
        cues = turns_of_subtitles(content or b"", spec.speakers, spec.voice, plan.action_names)
        return _without_words(cues)
    if spec.diarization is not None:
        return turns_of_diarization(content or b"", spec.speakers), ()
    turns = [PlannedTurn.of(turn) for turn in spec.turns or ()]
    turns = [
        turn.model_copy(update={"voice": turn.voice or spec.voice}) if turn.text is not None else turn for turn in turns
    ]
    return with_actions(turns, plan, parts), ()


def _without_words(cues: Sequence[PlannedTurn]) -> tuple[list[PlannedTurn], tuple[PlannedAction, ...]]:
    """Return the cues that are spoken, and the actions of the other ones, which start with their cues."""
    spoken = [any(map(str.isalnum, cue.text or "")) for cue in cues]
    if not any(spoken):
        raise OptionError("subtitles: the file has no cue with words.")
    silent = [cue for cue, speaks in zip(cues, spoken, strict=True) if not speaks]
    actions = [PlannedAction(seconds=cue.start, name=action.name) for cue in silent for action in cue.actions or ()]
    return [cue for cue, speaks in zip(cues, spoken, strict=True) if speaks], tuple(actions)


def acted_text(text: str, plan: JobPlan, parts: Mapping[str, AvatarClip]) -> str:
    """Return what is spoken of a text; OptionError for an action that the avatar lacks, or the job cannot show."""
    check_shown_actions(text, plan, parts)
    return read_actions(text, plan.action_names).text


def check_one_face(plan: JobPlan, turns: Sequence[PlannedTurn]) -> None:
    """Refuse turns of another face in a job that plays clips, which show one person."""
    for number, turn in enumerate(turns):
        if plan.clips and turn.face not in (None, OFF_SCREEN):
            raise OptionError(f"turns[{number}].face: a job that plays the clips of an avatar has only one face.")


def with_actions(turns: Sequence[PlannedTurn], plan: JobPlan, parts: Mapping[str, AvatarClip]) -> list[PlannedTurn]:
    """Return turns with the actions in their texts; OptionError as for `acted_text`, with the number of the turn."""
    found = []
    for number, turn in enumerate(turns):
        try:
            check_shown_actions(turn.text or "", plan, parts)
            found.append(turn.with_actions(plan.action_names))
        except OptionError as error:
            raise OptionError(f"turns[{number}].{error}") from error
    return found


def check_shown_actions(text: str, plan: JobPlan, parts: Mapping[str, AvatarClip]) -> None:
    """Refuse a text with actions of an avatar whose clips the job does not play, rather than speak their names."""
    if not plan.clips:
        for action in read_actions(text, action_names(parts), skips_unknown=True).actions:
            checked_action(action.name, None)


def first_plan(spec: JobSpec, settings: AvatarSettings, engine: str, face: str) -> JobPlan:
    """Return the plan of a job before its turns and files are known.

    Args:
        spec: What was asked for.
        settings: The movement and background that apply.
        engine: The engine.
        face: The face as it is recorded.
    """
    options = spec.shared() | settings.model_dump() | {"face": face}
    if spec.has_turns:
        options["loop"] = "source"
    if spec.language is None:
        options["language"] = spec.translate_to or (spec.subtitles and language_of_file(spec.subtitles.label))
    return JobPlan(
        options=JobOptions(
            **options,
            engine=engine,
            idle_mouths=(spec.idle_mouths or "source") if spec.has_turns else None,
            subtitles=spec.subtitles_output,
            music_gain_db=None if spec.music is None else spec.music_gain_db,
        ),
        is_complete=not spec.has_texts,
        needs_review=spec.review,
        needs_transcript=spec.translate_to is not None,
    )


def stored_fields(spec: JobSpec) -> dict[str, str]:
    """Return the name under which the plan has each audio file: one of them is `audio` unless a text will be."""
    fields = {field: field for field in spec.audio_files}
    if SPEECH_FIELD not in fields and not spec.has_texts:
        first = next((field for field in fields if field != MUSIC), None)
        if first is None:
            raise OptionError("turns: send the audio files to which the turns refer, or texts.")
        fields[first] = SPEECH_FIELD
    if TEXT_FIELD in fields and spec.has_texts:
        raise OptionError(f"{TEXT_FIELD}: the name is reserved for texts. Choose another one.")
    return fields


def with_stored_fields(turns: Sequence[PlannedTurn], fields: Mapping[str, str]) -> list[PlannedTurn]:
    """Return turns that name their files as the plan does."""
    return [
        turn.model_copy(update={"audio": fields[turn.audio]})
        if fields.get(turn.audio, turn.audio) != turn.audio
        else turn
        for turn in turns
    ]


def checked_plan(
    plan: JobPlan,
    turns: Sequence[PlannedTurn],
    audio: Mapping[str, UploadedFile],
    audio_seconds: Mapping[str, float],
    video_seconds: float | None,
    needs_faces: bool = False,
    max_seconds: float = inf,
) -> JobPlan:
    """Return the plan with its files and checked turns; see `lipwright.jobs.turns.checked_turns` for what is checked.

    Raises:
        OptionError: A turn cannot be spoken.
    """
    of_speech = {field: seconds for field, seconds in audio_seconds.items() if field != MUSIC}
    plan = plan.model_copy(update={"audio": dict(audio), "audio_seconds": of_speech, "needs_faces": needs_faces})
    if not turns:
        return plan
    checked = checked_turns(turns, of_speech, video_seconds, not needs_faces, max_seconds)
    return plan.with_turns(checked, is_complete=plan.is_complete and not needs_faces)


def with_changed_turns(
    plan: JobPlan, turns: Sequence[PlannedTurn], video_seconds: float | None, max_seconds: float
) -> JobPlan:
    """Return the plan with other turns and without sent files that none of them uses; see `checked_turns`.

    Raises:
        OptionError: A turn cannot be spoken.
    """
    used = {turn.audio for turn in turns if turn.text is None}
    seconds = {field: length for field, length in plan.audio_seconds.items() if field in used}
    checked = checked_turns(turns, seconds, video_seconds, max_seconds=max_seconds)
    kept = used | {SPEECH_FIELD, MUSIC} | (plan.audio.keys() - plan.audio_seconds.keys())
    audio = {field: file for field, file in plan.audio.items() if field in kept}
    return plan.with_turns(checked, audio=audio, audio_seconds=seconds)


def with_audio_speed(
    plan: JobPlan, max_stretch: float | None, seconds: float, video_seconds: float | None
) -> tuple[JobPlan, float]:
    """Return the plan with the speed of its single speech of `seconds`, and how long that then takes."""
    if max_stretch is None or video_seconds is None:
        return plan, seconds
    speed = fit_audio(seconds, video_seconds, max_stretch)
    return plan.with_options(audio_speed=speed), seconds / speed


def with_clips(plan: JobPlan, spec: JobSpec, parts: Mapping[str, AvatarClip], source: VideoInfo) -> JobPlan:
    """Return a plan that plays the composite of its avatar, if the job can: all clips, or the own video if it has none.

    Jobs with the length or the sound of the avatar's own video, or with several of its faces, play that. With turns of
    one face, the result lasts as long as these, and its mouth is closed between them.
    """
    options, faces = plan.options, None
    if spec.turns is not None:
        faces = [turn.face for turn in spec.turns]
    elif spec.subtitles is not None:
        faces = [speaker.face for speaker in spec.speakers.values()]
    has_one_face = faces is not None and {None, OFF_SCREEN}.issuperset(faces)
    has_clips = options.loop == "natural" or (len(parts) > 1 and (options.loop == "pingpong" or has_one_face))
    if not has_clips or source.is_still or options.background_gain_db is not None:
        return plan
    idle_mouths = None if options.idle_mouths is None else "closed"
    return plan.with_options(loop="natural", idle_mouths=idle_mouths).model_copy(update={"clips": dict(parts)})


def length_of(plan: JobPlan, seconds: float, source: VideoInfo) -> JobLength:
    """Return the length of a job whose speech takes `seconds`; without turns, that is at its own speed.

    With turns, the result is as long as the video, or as the turns if the source is a still.
    """
    if plan.turns:
        ends = [turn.end or turn.start + expected_seconds(turn.text or "") for turn in plan.turns]
        seconds = video_seconds(source, plan) or max(ends)
    picture = OutputPicture.of(plan.options, source)
    num_frames, _ = fit_to_speech(plan.options.loop, seconds, source, picture.info.fps)
    result_seconds = float(num_frames / picture.info.fps)
    return JobLength(seconds, result_seconds, result_bytes(picture, result_seconds))


def speech_label(spec: JobSpec) -> str:
    """Return the name of the speech: that of its file or language, or the first words of its text."""
    if spec.text is not None:
        return speech_title(spec.text)
    if spec.translate_to is not None:
        return language_name(spec.translate_to)
    file = spec.audio or spec.subtitles or next(iter(spec.more_audio.values()), None)
    return speech_title(next(turn.text or "" for turn in spec.turns or ())) if file is None else file.label


def speech_title(text: str) -> str:
    """Return the first words of a text without its actions, as a name for its speech, of which files can be named."""
    found = re.findall(r"[\w,'’!-]+", _ACTION.sub(" ", text))
    words = " ".join(word for word in found if re.search(r"\w", word)).rstrip(",!-")
    if len(words) <= _MAX_TITLE_CHARS:
        return words or "speech"
    head, space, _ = words[:_MAX_TITLE_CHARS].rpartition(" ")
    return f"{head if space else words[:_MAX_TITLE_CHARS]}..."


def expected_seconds(text: str) -> float:
    """Return about how long a text takes to speak."""
    return 0.5 + len(text) / _CHARS_PER_SECOND


def video_seconds(source: VideoInfo, plan: JobPlan) -> float | None:
    """Return the length of a video; None for a still and `loop=natural`, which last as long as what is spoken."""
    return None if source.is_still or plan.options.loop == "natural" else float(source.num_frames / source.fps)
