"""Completes the turns of a received form: reads subtitles and diarizations, and speaks texts."""

from __future__ import annotations

import asyncio
from typing import Final, TypeVar

from api.forms.turn_form import TurnForm
from api.forms.turn_sources import speech_slots, turns_of_diarization, turns_of_subtitles
from api.tts.dub_recorder import DubRecorder, OnBytes
from api.tts.service import Speaker
from errors import OptionError
from jobs.turns import MAX_TURNS
from media.subtitles import diarization
from storage.file_keys import upload_key
from storage.file_store import FileStore
from storage.records import Turn, UploadedFile

SPOKEN_AUDIO: Final = "audio_synthesized"
"""Name of the file with the spoken texts, where turns use audio files too."""

_Form = TypeVar("_Form", bound=TurnForm)


class TurnReceiver:
    """Turns what a form says about its speakers into turns that refer to audio files only."""

    def __init__(self, files: FileStore, recorder: DubRecorder) -> None:
        self._files, self._recorder = files, recorder

    async def complete(
        self, form: _Form, speaker: Speaker, uploads: dict[str, UploadedFile], on_bytes: OnBytes
    ) -> _Form:
        """Return the form with its turns and their audio files; `audio` is one of them.

        Args:
            form: A form with turns, a diarization or subtitles.
            speaker: The voices of the caller.
            uploads: The uploads of the form. A file with spoken texts is added; files that are not needed any more are
                removed.
            on_bytes: Called as synthesized audio arrives.

        Raises:
            LipwrightError: A turn is invalid, or as for `DubRecorder.record`.
        """
        turns = await self._turns(form, uploads)
        if len(turns) > MAX_TURNS:
            raise OptionError(f"turns: expected at most {MAX_TURNS}, found {len(turns)}.")
        slots = speech_slots(turns)
        files = form.audio_files
        if slots:
            self._recorder.check(turns, speaker)
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
        return form.model_copy(update={"audio": audio, "more_audio": files, "turns": tuple(turns)})

    async def _turns(self, form: TurnForm, uploads: dict[str, UploadedFile]) -> list[Turn]:
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
        return turns

    async def _read(self, upload: UploadedFile) -> bytes:
        """Return the content of a small file, or its start."""

        def read() -> bytes:
            with self._files.stored.fetched(upload_key(upload.key)) as path, path.open("rb") as file:
                return file.read(diarization.MAX_BYTES + 1)

        return await asyncio.to_thread(read)
