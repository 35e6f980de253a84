"""Creates cloned voices from recordings of speakers."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from lipwright.config import PipelineConfig
from lipwright.errors import OptionError
from lipwright.jobs.fair_queue import NICENESS, FairQueue, run_in_thread
from lipwright.jobs.model.base import UploadedFile, utc_now
from lipwright.jobs.sources.client_names import client_names
from lipwright.media.audio import convert_to_wav
from lipwright.media.cancel_token import CancelToken
from lipwright.media.decoding.decoder import Decoders
from lipwright.storage.file_keys import upload_key
from lipwright.storage.file_store import FileStore
from lipwright.storage.voices import VoiceRecord, VoiceStore
from lipwright.telemetry import metrics

_SAMPLE_RATE: Final = 24000  # speech models work at 16 or 24 kHz


class VoiceRecorder:
    """Checks recordings and stores them as voices, one at a time; API keys take turns.

    A recording is decoded in a sandboxed process, which exists only for that time, because new voices are rare.
    """

    def __init__(self, config: PipelineConfig, files: FileStore) -> None:
        self._config, self._files = config, files
        self._voices = VoiceStore(files.stored)
        self._queue = FairQueue("a new voice")

    async def record(
        self, owner: str | None, name: str, upload: UploadedFile, transcript: str = "", *, replaces: bool = False
    ) -> VoiceRecord:
        """Store an uploaded recording as voice `name`. The upload is removed, also on failure.

        Args:
            owner: The caller.
            name: Name of the voice.
            upload: The recording: any file with audio.
            transcript: What it says, if known.
            replaces: Whether it replaces a voice of that name, which stays as it is if this fails.

        Raises:
            StateError: There is a voice of that name.
            OptionError: The owner has too many voices, or cloning is not configured.
            MediaError: The recording cannot be decoded.
            MediaLimitError: It is too long.
            StageTimeoutError: Decoding it took too long.
            BusyError: Too many recordings wait.
        """
        try:
            work = partial(self._record, owner, name, upload, transcript, replaces)
            with client_names(upload):
                async with self._queue.turn(owner):
                    return await run_in_thread(work)
        finally:
            await asyncio.shield(asyncio.to_thread(self._files.drop_uploads, upload))

    def _record(
        self,
        owner: str | None,
        name: str,
        upload: UploadedFile,
        transcript: str,
        replaces: bool,
        token: CancelToken,
    ) -> VoiceRecord:
        cloning = self._config.tts.cloning
        if cloning is None:
            raise OptionError("tts.cloning is not configured.")
        if self._voices.count(owner) >= cloning.max_voices and not self._voices.has(owner, name):
            raise OptionError(f"There are already {cloning.max_voices} voices (tts.cloning.max_voices). Delete some.")
        limits = self._config.limits.model_copy(update={"max_audio_seconds": cloning.max_seconds})
        with (
            self._files.stored.fetched(upload_key(upload.key)) as path,
            self._voices.written_sample(owner, name, replaces) as sample,
            Decoders(self._config.decoder, partial(metrics.DECODER_DEATHS.add, 1), niceness=NICENESS) as decoders,
        ):
            decoders.warm()
            work = partial(convert_to_wav, path, sample, _SAMPLE_RATE, limits)
            timeout_s = self._config.jobs.sound_timeout_s(cloning.max_seconds)
            info = decoders.run(work, file=path, timeout_s=timeout_s, token=token, writes=sample.parent)
        seconds = info.duration_seconds
        record = VoiceRecord(name=name, transcript=transcript, duration_seconds=seconds, created_at=utc_now())
        self._voices.add(owner, record)
        return record
