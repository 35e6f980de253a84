"""Fields of forms in which several people may speak, each in turns."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from api.forms.form_parts import FilePart
from api.forms.speech_form import SpeechForm
from api.forms.turn_sources import SpeakerChoice
from jobs.turns import MAX_TURNS
from media.output.formats import FORMATS
from storage.records import SubtitlePlace, Turn, UploadedFile

_MAX_MORE_AUDIO: Final = 64
_MAX_SPEAKERS: Final = 64


def parsed_json(expected: str) -> Callable[[object], object]:
    """Return a validator that parses text as JSON; errors say what was `expected`. Limits the length of lists."""

    def parse(value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError(f"expected {expected}") from None
        if isinstance(found, list) and len(found) > MAX_TURNS:
            raise ValueError(f"expected at most {MAX_TURNS}, found {len(found)}")
        return found

    return parse


class TurnForm(SpeechForm):
    """In place of one speech, `turns` say who says what when, or what they are made of: a diarization or subtitles."""

    speech_fields = (*SpeechForm.speech_fields, "turns", "subtitles", "subtitles_url")

    avatar_id: str | None = Field(
        default=None, max_length=64, description="ID of an existing avatar. Mutually exclusive with a video."
    )
    turns: Annotated[tuple[Turn, ...] | None, BeforeValidator(parsed_json("a JSON list of turns"))] = Field(
        None,
        min_length=1,
        description="Several speeches in one video, each with `start` and `end` in seconds of the video, a `face`, and"
        " a `text` or an `audio` file (`audio`, or the name of a field `audio_NAME`). JSON.",
    )
    more_audio: dict[str, FilePart] = Field(
        {}, max_length=_MAX_MORE_AUDIO, description="Further audio files, to which `turns` refer by field name."
    )
    diarization: FilePart | None = Field(
        None,
        description="Who speaks when in `audio`, which is then the sound of the whole video: RTTM, or a JSON list of"
        " objects with `start`, `end` and `speaker`. `speakers` says whose faces they are.",
    )
    subtitles: FilePart | None = Field(
        None,
        description="SRT or WebVTT file: each cue is spoken in its time slot, by the face and voice of its speaker"
        " (`<v Anna>`, or `ANNA:` at the start of a line).",
    )
    speakers: Annotated[
        dict[str, SpeakerChoice],
        BeforeValidator(parsed_json("a JSON object of speakers")),
        Field(max_length=_MAX_SPEAKERS),
    ] = Field(
        {},
        description="Faces and voices of the speakers of `diarization` or `subtitles`, by name:"
        ' `{"Anna": {"face": "person:0", "voice": "heart"}}`. Speakers without a face are those who speak at the same'
        " times in the video of `avatar_id`, or, with `video`, the person who speaks most in it. JSON.",
    )
    idle_mouths: Literal["source", "closed"] | None = Field(
        None,
        description="Mouths of the people in `turns` while they are silent: as in the `source` (default), or `closed`.",
    )
    subtitles_output: SubtitlePlace | None = Field(
        None,
        description="Where the result shows the texts of its turns: in a text `track` of the file, or `burnt` into the"
        " picture. They can also be downloaded: `GET /v1/jobs/{id}/subtitles.srt`.",
    )

    @property
    def audio_files(self) -> dict[str, UploadedFile]:
        """Audio files by field name."""
        return {**({} if self.audio is None else {"audio": self.audio}), **self.more_audio}

    @property
    def has_turns(self) -> bool:
        """Whether there is more than one speech."""
        return any(field is not None for field in (self.turns, self.diarization, self.subtitles))

    @model_validator(mode="after")
    def _one_speech(self) -> Self:
        named = {"text": self.speech_text, "turns": self.turns, "subtitles": self.subtitles}
        sent = [name for name, value in {**named, "diarization": self.diarization}.items() if value is not None]
        if len(sent) > 1:
            raise ValueError(f"send {' or '.join(sent)}, not both")
        self._check_turn_fields()
        if self.subtitles is not None and self.audio is not None:
            raise ValueError("send audio or subtitles, not both: subtitles are spoken by voices")
        if self.diarization is not None and self.audio is None:
            raise ValueError("diarization needs audio, the sound of the whole video")
        if not self.has_turns and self.audio is not None and self.speech_text is not None:
            raise ValueError("send audio or text, not both")
        if not sent and self.audio is None:
            raise ValueError("audio or text is required, or turns or subtitles")
        return self

    def _check_turn_fields(self) -> None:
        """Refuse fields that would have no effect."""
        if self.has_turns and "loop" in self.model_fields_set:
            raise ValueError("loop: a result with turns has the length of its video; leave loop out")
        if self.speakers and self.diarization is None and self.subtitles is None:
            raise ValueError("speakers needs diarization or subtitles")
        if self.more_audio and self.turns is None:
            raise ValueError(f"{next(iter(self.more_audio))} needs turns that refer to it")
        if self.idle_mouths is not None and not self.has_turns:
            raise ValueError("idle_mouths needs turns, a diarization or subtitles")
        has_text = self.subtitles is not None or any(turn.text is not None for turn in self.turns or ())
        if self.subtitles_output is not None and not has_text:
            raise ValueError("subtitles_output needs turns with texts, or subtitles")
        if self.subtitles_output == "track" and not FORMATS[self.format].has_text_track:
            raise ValueError(
                f"subtitles_output=track is not possible in {self.format}: choose burnt, or another format"
            )
        for number, turn in enumerate(self.turns or ()):
            if turn.text is not None and {"audio", "audio_start"} & turn.model_fields_set:
                raise ValueError(f"turns[{number}]: send text or audio, not both")
            if turn.speed is not None or turn.cut_seconds is not None:
                raise ValueError(f"turns[{number}]: speed and cut_seconds are set by the service")
