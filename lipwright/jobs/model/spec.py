"""What a caller asks for. Its fields are the only definition of the options of a job."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from lipwright.jobs.model.avatar_settings import AvatarOverrides
from lipwright.jobs.model.base import FilePart, UploadedFile, example, without_default
from lipwright.jobs.model.face_points import FACE_POINTS, FacePoints
from lipwright.jobs.model.job_settings import JobSettings, LanguageName
from lipwright.jobs.model.plan import MUSIC
from lipwright.jobs.model.turns import MAX_TURNS, MAX_VOICE_CHARS, SpeakerChoice, SubtitlePlace, Turn
from lipwright.media.output.formats import FORMATS
from lipwright.media.playback import MAX_SPEED

MAX_TEXT_CHARS: Final = 32_768
"""Maximum length of a text field; `tts.max_chars` limits what is spoken."""
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


_NO_NUL = r"^[^\x00]*$"  # PostgreSQL has none in JSON
MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=_NO_NUL)]
MetadataText = Annotated[str, StringConstraints(max_length=512, pattern=_NO_NUL)]
Metadata = Annotated[
    dict[MetadataKey, MetadataText], BeforeValidator(parsed_json("a JSON object of strings")), Field(max_length=16)
]

FacePointsField = Annotated[FacePoints, BeforeValidator(parsed_json("a JSON object of five points"))]


class SpeechSpec(AvatarOverrides, JobSettings):
    """Exactly one of `audio` and the last of `speech_fields`, and options: what the forms of all dialects share."""

    speech_fields: ClassVar[tuple[str, ...]] = ("audio", "audio_url", "text")
    """Fields of which one is required; the last one holds the text."""

    audio: FilePart | None = Field(None, description="The speech: an audio file, or a video whose audio track is used.")
    voice: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_VOICE_CHARS,
        description="Voice for the text. Defaults to the service's voice; see `GET /v1/voices`.",
    )

    @property
    def speech_text(self) -> str | None:
        """Text to synthesize; None if the speech is a file."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _one_speech(self) -> Self:
        if (self.audio is None) == (self.speech_text is None):
            raise ValueError(one_of("audio", self.speech_fields[-1], self.audio is not None))
        return self


class JobSpec(SpeechSpec):
    """Create a job. Send it as multipart form data or as JSON."""

    model_config = example(video_url="https://example.com/face.mp4", audio_url="https://example.com/speech.wav")
    speech_fields = (*SpeechSpec.speech_fields, "turns", "subtitles", "subtitles_url", "translate_to")

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
    translate_to: LanguageName | None = Field(
        None,
        description="Dub the video into this language, such as `de` or `German`: what is said in it is transcribed,"
        " translated and spoken like `subtitles`, by the servers and voices that the operator has configured.",
    )
    speakers: Annotated[
        dict[str, SpeakerChoice],
        BeforeValidator(parsed_json("a JSON object of speakers")),
        Field(max_length=_MAX_SPEAKERS),
    ] = Field(
        {},
        description="Faces and voices of the speakers of `diarization`, `subtitles` or the transcript, by name:"
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
    review: bool = Field(
        False,
        description="Stop once the texts of turns are spoken, with status `review`: listen to them and"
        " change them with `GET` and `PATCH /v1/jobs/{id}/turns`, then render with `POST /v1/jobs/{id}/approve`.",
    )
    text: str | None = Field(
        None,
        max_length=MAX_TEXT_CHARS,
        description="Text to speak instead of `audio`. Requires a voice: see `GET /v1/voices`.",
    )
    video: FilePart | None = Field(
        None, description="The face: a video or a still portrait. Mutually exclusive with `avatar_id`."
    )
    engine: str | None = Field(
        None,
        max_length=64,
        description="Engine that generates the mouth; see `GET /v1/engines`. Defaults to the service's engine.",
    )
    face_image: FilePart | None = Field(
        None, description="A portrait of the person in `video` to animate, instead of `face`."
    )
    face_points: FacePointsField | None = Field(None, description=FACE_POINTS)
    max_audio_stretch: float | None = Field(
        None,
        ge=1,
        le=MAX_SPEED,
        description="With `loop=retime`: play the speech up to so many times faster or slower, with its pitch "
        "unchanged; the video is retimed for the rest.",
    )
    music: FilePart | None = Field(
        None, description="Music under the speech: an audio file. It repeats, and is lowered while somebody speaks."
    )
    music_gain_db: float = Field(-12, ge=-60, le=12, description="Gain of `music` in dB.")
    priority: int = Field(
        0,
        ge=-1,
        le=1,
        description="Queue priority: 1 (high), 0 (normal), -1 (low); at most the API key's maximum. Default: 0, or the "
        "key's maximum if that is lower.",
        json_schema_extra=without_default,
    )
    callback_url: str | None = Field(
        None, max_length=4096, description="URL that receives a signed webhook (Standard Webhooks) when the job ends."
    )
    metadata: Metadata = Field({}, description="Arbitrary key-value pairs (max 16 strings), returned with the job.")

    @property
    def speech_text(self) -> str | None:
        """Text to synthesize, if any."""
        return self.text

    @property
    def has_turns(self) -> bool:
        """Whether there is more than one speech."""
        return any(field is not None for field in (self.turns, self.diarization, self.subtitles, self.translate_to))

    @property
    def spoken_language(self) -> str | None:
        """Language of the result's speech, in which voices are chosen; not that of the name of a subtitle file."""
        return self.language or self.translate_to

    @property
    def has_texts(self) -> bool:
        """Whether anything is to be spoken by a voice."""
        return (
            self.text is not None
            or self.subtitles is not None
            or self.translate_to is not None
            or any(turn.text is not None for turn in self.turns or ())
        )

    @property
    def audio_files(self) -> dict[str, UploadedFile]:
        """The audio that was sent, by the name of its form field."""
        named = {"audio": self.audio, **self.more_audio, MUSIC: self.music}
        return {field: file for field, file in named.items() if file is not None}

    @property
    def job_files(self) -> dict[str, UploadedFile]:
        """All files but those of the face, by the name of their form field."""
        named = {"background": self.background_file, "subtitles": self.subtitles, "diarization": self.diarization}
        return {**self.audio_files, **{field: file for field, file in named.items() if file is not None}}

    @property
    def files(self) -> list[UploadedFile]:
        """All files that were sent."""
        return [*self.job_files.values(), *(file for file in (self.video, self.face_image) if file is not None)]

    @model_validator(mode="after")
    def _one_avatar(self) -> Self:
        if (self.video is None) == (self.avatar_id is None):
            raise ValueError(one_of("video", "avatar_id", self.video is not None))
        if self.max_audio_stretch is not None and self.loop != "retime":
            raise ValueError("max_audio_stretch needs loop=retime")
        for name in ("face_image", "face_points"):
            if getattr(self, name) is not None and self.avatar_id is not None:
                raise ValueError(f"{name} works only with video: the face of an avatar is already chosen")
        return self

    @model_validator(mode="after")
    def _one_speech(self) -> Self:
        named = {name: getattr(self, name) for name in ("text", "turns", "subtitles", "diarization", "translate_to")}
        sent = [name for name, value in named.items() if value is not None]
        if len(sent) > 1:
            raise ValueError(f"send {' or '.join(sent)}, not both")
        self._check_turn_fields()
        if self.subtitles is not None and self.audio is not None:
            raise ValueError("send audio or subtitles, not both: subtitles are spoken by voices")
        if self.translate_to is not None and self.audio is not None:
            raise ValueError("send audio or translate_to, not both: translate_to uses the video's own sound")
        if self.diarization is not None and self.audio is None:
            raise ValueError("diarization needs audio, the sound of the whole video")
        if not self.has_turns and self.audio is not None and self.text is not None:
            raise ValueError("send audio or text, not both")
        if not sent and self.audio is None:
            raise ValueError("audio or text is required, or turns, subtitles or translate_to")
        return self

    def _check_turn_fields(self) -> None:
        """Refuse fields that would have no effect."""
        if self.has_turns and "loop" in self.model_fields_set:
            raise ValueError("loop: a result with turns has the length of its video; leave loop out")
        if self.speakers and self.diarization is None and self.subtitles is None and self.translate_to is None:
            raise ValueError("speakers needs diarization, subtitles or translate_to")
        if self.more_audio and self.turns is None:
            raise ValueError(f"{next(iter(self.more_audio))} needs turns that refer to it")
        if self.idle_mouths is not None and not self.has_turns:
            raise ValueError("idle_mouths needs turns, a diarization, subtitles or translate_to")
        has_cues = self.text is None and self.has_texts
        if self.subtitles_output is not None and not has_cues:
            raise ValueError("subtitles_output needs turns with texts, subtitles or translate_to")
        if self.review and not has_cues:
            raise ValueError("review needs turns with texts, subtitles or translate_to")
        if self.subtitles_output == "track" and not FORMATS[self.format].has_text_track:
            raise ValueError(
                f"subtitles_output=track is not possible in {self.format}: choose burnt, or another format"
            )


def one_of(first: str, second: str, has_both: bool) -> str:
    """Return the error message for two mutually exclusive fields of which both or neither were sent."""
    return f"send {first} or {second}, not both" if has_both else f"{first} or {second} is required"
