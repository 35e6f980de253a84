"""Completes the speech of a received form: speaks texts, and reads subtitles and diarizations."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

from pydantic import BaseModel

from api.forms.speech_form import SpeechForm
from api.forms.turn_form import TurnForm
from api.forms.turn_sources import speech_slots, turns_of_diarization, turns_of_subtitles, with_faces
from api.tts.dub_recorder import DubRecorder
from api.tts.turn_voices import with_voices
from config import PipelineConfig
from errors import InProgressError, OptionError
from jobs.job_request import TurnsRequest
from jobs.ports import JobService
from jobs.turn_faces import with_faces_of
from jobs.turns import MAX_TURNS
from media.dubbing.slots import SpeechSlot
from media.language import language_of_file
from media.subtitles import diarization
from media.subtitles.fonts import check_fonts
from models.face.choice import recorded_face
from models.people.report import PeopleReport
from speech.service import Speaker, tts_service
from speech.speech_upload import speech_upload
from speech.voice_choice import choose_voice, spoken_language
from storage.file_keys import upload_key
from storage.file_store import FileStore
from storage.records import Turn, UploadedFile

SPOKEN_AUDIO: Final = "audio_synthesized"
"""Name of the file with the spoken texts, where turns use audio files too."""

_Form = TypeVar("_Form", bound=BaseModel)
_TurnForm = TypeVar("_TurnForm", bound=TurnForm)
_OnBytes = Callable[[int], Awaitable[None]]


class SpeechReceiver:
    """Makes audio files, and turns that refer to them, of what a form says about its speech."""

    def __init__(self, service: JobService, files: FileStore, config: PipelineConfig) -> None:
        self._service, self._files = service, files
        self._tts = tts_service(config.tts, files)
        self._recorder = DubRecorder(config, files)

    async def complete(
        self, form: _Form, uploads: dict[str, UploadedFile], owner: str | None, on_bytes: _OnBytes
    ) -> _Form:
        """Return the form with the audio of its texts; without changes if it has none.

        Args:
            form: Any form.
            uploads: The uploads of the form. Synthesized audio is added; files that are read here are removed.
            owner: The caller.
            on_bytes: Called as audio is synthesized; may raise to stop.

        Raises:
            InProgressError: The faces of speakers depend on the people of an avatar, who are still being searched.
            LipwrightError: A turn is invalid, or as for `TtsService.synthesize`.
        """
        if isinstance(form, TurnForm) and form.has_turns:
            return await self._with_turns(form, uploads, owner, on_bytes)
        if not isinstance(form, SpeechForm) or form.speech_text is None:
            return form
        speaker, voice = Speaker(self._tts, owner), form.voice
        if voice is None and form.language is not None:
            voice = await choose_voice(self._tts, form.language)
        uploads["audio"] = await speech_upload(speaker, self._files, form.speech_text, voice, on_bytes)
        language = form.language or spoken_language(self._tts, [voice])
        return form.model_copy(update={"audio": uploads["audio"], "language": language})

    async def _with_turns(
        self, form: _TurnForm, uploads: dict[str, UploadedFile], owner: str | None, on_bytes: _OnBytes
    ) -> _TurnForm:
        turns = await self._turns(form, uploads, owner)
        if len(turns) > MAX_TURNS:
            raise OptionError(f"turns: expected at most {MAX_TURNS}, found {len(turns)}.")
        if form.subtitles_output == "burnt":
            await asyncio.to_thread(check_fonts, [turn.text for turn in turns if turn.text is not None])
        files, language = form.audio_files, form.language
        if language is not None:
            turns = await with_voices(self._tts, turns, language)
        elif form.subtitles is not None:
            language = language_of_file(form.subtitles.label)
        language = language or spoken_language(self._tts, (turn.voice for turn in turns if turn.text is not None))
        if slots := speech_slots(turns):
            speaker = Speaker(self._tts, owner)
            self._recorder.check(turns, speaker)
            turns, slots = await self._checked(form, turns, uploads, owner)
            field = SPOKEN_AUDIO if "audio" in files else "audio"
            if field in files:
                raise OptionError(f"{field}: the name is reserved for texts. Choose another one.")
            files[field], turns = await self._recorder.record(turns, slots, field, speaker, on_bytes)
            uploads[field] = files[field]
        if not files:
            raise OptionError("turns: send the audio files to which the turns refer, or texts.")
        if "audio" not in files:
            first = next(iter(files))
            files["audio"] = files.pop(first)
            turns = [turn.model_copy(update={"audio": "audio"}) if turn.audio == first else turn for turn in turns]
        audio = files.pop("audio")
        changes = {"audio": audio, "more_audio": files, "turns": tuple(turns), "language": language}
        return form.model_copy(update=changes)

    async def _checked(
        self, form: TurnForm, turns: Sequence[Turn], uploads: Mapping[str, UploadedFile], owner: str | None
    ) -> tuple[list[Turn], dict[int, SpeechSlot]]:
        """Check the turns against their files and the video, and return them with the times of their texts.

        Turns whose faces are the same person get the same face.
        """
        picture = uploads.get("face_image")
        request = TurnsRequest(
            turns=tuple(turns),
            audio_files=form.audio_files,
            video=uploads.get("video"),
            avatar_id=form.avatar_id,
            face=recorded_face(form.face, None if picture is None else picture.sha256),
            owner=owner,
        )
        facts = await self._service.check_turns(request)
        same = list(with_faces_of(turns, facts.faces))
        return same, speech_slots(same, facts.video_seconds)

    async def _turns(self, form: TurnForm, uploads: dict[str, UploadedFile], owner: str | None) -> list[Turn]:
        if form.subtitles is not None:
            content = await self._read(form.subtitles)
            turns = await asyncio.to_thread(turns_of_subtitles, content, form.speakers, form.voice)
        elif form.diarization is not None:
            content = await self._read(form.diarization)
            turns = await asyncio.to_thread(turns_of_diarization, content, form.speakers)
        else:
            return [
                turn.model_copy(update={"voice": turn.voice or form.voice}) if turn.text is not None else turn
                for turn in form.turns or ()
            ]
        read = [uploads.pop(name) for name in ("subtitles", "diarization") if name in uploads]
        await asyncio.to_thread(self._files.drop_uploads, *read)
        report = None
        if form.avatar_id is not None and any(turn.face is None for turn in turns):
            report = await self._people(form.avatar_id, owner)
        return await asyncio.to_thread(with_faces, turns, report)

    async def _people(self, avatar_id: str, owner: str | None) -> PeopleReport:
        scan = await self._service.people(avatar_id, owner)
        if scan.report is None:
            raise InProgressError(
                f"The people of avatar {avatar_id} are being searched. Try again when "
                f"GET /v1/avatars/{avatar_id}/people returns status 200, or give every speaker a face in `speakers`."
            )
        return scan.report

    async def _read(self, upload: UploadedFile) -> bytes:
        """Return the content of a small file, or its start."""

        def read() -> bytes:
            with self._files.stored.fetched(upload_key(upload.key)) as path, path.open("rb") as file:
                return file.read(diarization.MAX_BYTES + 1)

        return await asyncio.to_thread(read)
