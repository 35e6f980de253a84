"""Speaks the texts of jobs, each once: what was spoken is found again in this job and in later ones."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from functools import partial
from typing import Final, Protocol, TypeVar

from lipwright.config import PipelineConfig
from lipwright.errors import StageTimeoutError, StoredFileError, VoiceError
from lipwright.jobs.model.base import UploadedFile
from lipwright.jobs.single_flight import SingleFlight
from lipwright.media.cancel_token import CancelToken
from lipwright.media.decoding.decoder import Decoders
from lipwright.media.dubbing.slots import MAX_SLOT_SECONDS, RATE, count_samples
from lipwright.media.phones import Closures, read_closures
from lipwright.speech.service import FoundVoice, TtsService
from lipwright.storage.cues import SpokenCue, open_cues
from lipwright.storage.file_keys import cue_key, upload_key
from lipwright.storage.file_store import FileStore

T = TypeVar("T")

logger = logging.getLogger(__name__)

_FORMAT: Final = "2"
"""Part of every digest; a change makes all cached texts spoken again."""
RETRY_PAUSES_S: Final = (1.0, 5.0, 15.0, 30.0)
"""Pauses before an unreachable voice server is asked again: long enough for it to restart."""


class RunInThread(Protocol):
    """Runs blocking work in a thread."""

    async def __call__(self, work: Callable[[CancelToken], T], timeout_s: float, /) -> T:
        """Return the result of the work; StageTimeoutError if it takes too long."""


class CueSpeaker:
    """Speaks the texts of jobs.

    Args:
        config: The settings.
        files: Where cues are stored.
        tts: What speaks.
        decoders: Decode what the voices return.
        run: Runs what blocks.
    """

    def __init__(
        self, config: PipelineConfig, files: FileStore, tts: TtsService, decoders: Decoders, run: RunInThread
    ) -> None:
        self._config, self._files, self._tts, self._decoders, self._run = config, files, tts, decoders, run
        self._cues = open_cues(config, files.stored)
        self._flights: SingleFlight[str, SpokenCue] = SingleFlight()

    async def speak(self, text: str, voice: str | None, owner: str | None, folder: str) -> SpokenCue:
        """Return the cue with a text, whose file is then in `folder`, which exists.

        It comes from there, from the cache, or from the voice. Calls for the same cue at the same time speak it once.

        Raises:
            OptionError: The text or voice cannot be used.
            CapacityError: Too many texts wait.
            VoiceError: The voice failed, cannot be reached, or returned no usable audio.
            StageTimeoutError: The voice, or decoding its audio, timed out.
        """
        found = await self._tts.find_voice(voice, owner)
        digest = cue_digest(text, owner, await found.identity())
        key = cue_key(folder, digest)
        make = partial(self._make, text, found, owner, digest, folder)
        made = await self._flights.run(digest, lambda report: make())
        if made.key == key:
            return made
        try:
            return await self._blocking(partial(self._cues.copy, made, key))
        except StoredFileError:  # the job that had it spoken was deleted
            return await make()

    async def _make(self, text: str, voice: FoundVoice, owner: str | None, digest: str, folder: str) -> SpokenCue:
        """Return the cue from `folder` or the cache, else from the voice."""
        if (known := await self._blocking(partial(self._cues.take, owner, digest, folder))) is not None:
            return known
        upload = await when_reachable(partial(self._upload, text, voice, owner))
        try:
            seconds = await self._seconds(upload)
            upload = upload.model_copy(update={"closures": await self._blocking(partial(self._closures, upload))})
            return await self._blocking(partial(self._cues.add, upload, seconds, owner, digest, folder))
        except BaseException:
            await asyncio.shield(self._blocking(partial(self._files.drop_uploads, upload)))
            raise

    async def _upload(self, text: str, voice: FoundVoice, owner: str | None) -> UploadedFile:
        writer = await self._blocking(partial(self._files.new_upload, "cue"))
        try:
            async with aclosing(self._tts.synthesize_with(voice, text, owner, "jobs")) as pieces:
                async for piece in pieces:
                    await self._blocking(partial(writer.write, piece))
            return await self._blocking(writer.finish)
        except BaseException:
            writer.discard()
            raise

    async def _seconds(self, upload: UploadedFile) -> float:
        limits = self._config.limits.model_copy(update={"max_audio_seconds": MAX_SLOT_SECONDS})
        timeout_s = self._config.jobs.sound_timeout_s(MAX_SLOT_SECONDS)

        def decode(token: CancelToken) -> int:
            with self._files.stored.fetched(upload_key(upload.key)) as path:
                work = partial(count_samples, path, limits)
                return self._decoders.run(work, file=path, timeout_s=timeout_s, token=token)

        try:
            return await self._run(decode, timeout_s) / RATE
        except ValueError as error:  # an InputError is one
            raise VoiceError("The voice returned audio that cannot be used.") from error

    def _closures(self, upload: UploadedFile) -> Closures:
        with self._files.stored.fetched(upload_key(upload.key)) as path:
            return read_closures(path)

    async def _blocking(self, work: Callable[[], T]) -> T:
        return await self._run(lambda token: work(), self._config.jobs.min_call_timeout_s)


async def when_reachable(work: Callable[[], Coroutine[object, object, T]]) -> T:
    """Return the result of `work()`, repeated for a minute while a server cannot be reached."""
    for pause_s in (*RETRY_PAUSES_S, None):
        try:
            return await work()
        except StageTimeoutError as error:
            # Another attempt would make others wait for a server that hangs.
            raise StageTimeoutError(str(error), was_retried=True) from error
        except VoiceError as error:
            if not error.is_unreachable or pause_s is None:
                raise
            logger.warning("%s Next attempt in %g s.", error, pause_s)
        await asyncio.sleep(pause_s)
    raise AssertionError("the last attempt returns or raises")


def cue_digest(text: str, owner: str | None, identity: str) -> str:
    """Return the name of a cue: it depends on all that decides its audio, and on the caller.

    Args:
        text: What is spoken.
        owner: The caller.
        identity: See `lipwright.speech.service.FoundVoice`.
    """
    return hashlib.sha256(json.dumps([_FORMAT, owner, identity, text]).encode()).hexdigest()[:32]


def speak_timeout_s(config: PipelineConfig) -> float:
    """Return the longest time that a call of `CueSpeaker.speak` takes, in seconds."""
    tts, jobs = config.tts, config.jobs
    attempts_s = (1 + len(RETRY_PAUSES_S)) * (tts.max_wait_s + tts.timeout_s) + sum(RETRY_PAUSES_S)
    return attempts_s + jobs.sound_timeout_s(MAX_SLOT_SECONDS) + jobs.min_call_timeout_s
