"""Speaks the texts of a job's turns: one audio file, with each text in its time slot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from config import PipelineConfig
from errors import MediaError, MediaLimitError, OptionError, VoiceError
from jobs.model.files import UploadedFile, new_id
from jobs.model.turns import Turn
from media.decoding.decoder import Decoders
from media.dubbing.slots import MAX_SLOT_SECONDS, DubWriter, FittedSpeech, SpeechSlot, fit_speech
from speech.service import Speaker
from storage.file_keys import upload_key
from storage.file_store import FileStore
from storage.local.disk import disk_errors, open_private
from telemetry import metrics

_PIECE_BYTES: Final = 1 << 20

OnBytes = Callable[[int], Awaitable[None]]
"""Called with the number of synthesized bytes; may raise to stop."""


class DubRecorder:
    """Synthesizes texts one after the other, and decodes what the voice returns in a sandboxed process."""

    def __init__(self, config: PipelineConfig, files: FileStore) -> None:
        self._config, self._files = config, files

    def check(self, turns: Sequence[Turn], speaker: Speaker) -> None:
        """Check the texts of turns before anything is done for them.

        Raises:
            OptionError: There is no voice, a text is too long, or all together are.
        """
        texts = [turn.text for turn in turns if turn.text is not None]
        for text in texts:
            speaker.check(text)
        num_chars = sum(map(len, texts))
        if num_chars > (limit := self._config.tts.max_total_chars):
            raise OptionError(f"turns: expected texts of at most {limit} characters in all, found {num_chars}.")

    async def record(
        self, turns: Sequence[Turn], slots: Mapping[int, SpeechSlot], field: str, speaker: Speaker, on_bytes: OnBytes
    ) -> tuple[UploadedFile, list[Turn]]:
        """Return the file with the speech of all texts, and the turns, which now refer to it.

        Args:
            turns: Turns, of which at least one has a text.
            slots: When each text is spoken, by the index of its turn.
            field: Name by which turns refer to the file.
            speaker: The voices of the caller.
            on_bytes: Called as audio arrives.

        Raises:
            OptionError: A text or voice cannot be used.
            VoiceError: The voice failed, or returned no usable audio.
            MediaLimitError: All texts together take too long to speak.
            StageTimeoutError: The voice, or decoding its audio, timed out.
            CapacityError: Too many texts wait for a voice.
        """
        spoken = list(turns)
        with self._staged() as (voice_path, dub_path):
            with (
                Decoders(self._config.decoder, partial(metrics.DECODER_DEATHS.add, 1)) as decoders,
                DubWriter(dub_path) as writer,
            ):
                for number, slot in sorted(slots.items(), key=lambda item: item[1].start):
                    turn = turns[number]
                    with _named(f"turns[{number}], at {turn.start:g} s"):
                        async with aclosing(speaker.synthesize(turn.text or "", turn.voice)) as pieces:
                            await _write(pieces, voice_path, on_bytes)
                        fitted = await asyncio.to_thread(self._fitted, decoders, voice_path, slot)
                    spoken[number] = _placed(turn, field, writer.seconds, fitted)
                    await asyncio.to_thread(writer.write, fitted.samples)
                    if writer.seconds > (limit := self._config.limits.max_audio_seconds):
                        raise MediaLimitError(f"turns: expected texts of at most {limit:g} s in all, found more.")
            return await asyncio.to_thread(self._stored, dub_path), spoken

    @contextmanager
    def _staged(self) -> Iterator[tuple[Path, Path]]:
        """Provide two local paths; a crash leaves them to be swept like uploads that no job took."""
        paths = [self._files.stored.staging_path(upload_key(new_id())) for _ in range(2)]
        for path in paths:
            with disk_errors(), open(path, "xb", opener=open_private):
                pass
        try:
            yield paths[0], paths[1]
        finally:
            for path in paths:
                path.unlink(missing_ok=True)

    def _fitted(self, decoders: Decoders, path: Path, slot: SpeechSlot) -> FittedSpeech:
        limits = self._config.limits.model_copy(update={"max_audio_seconds": MAX_SLOT_SECONDS})
        work = partial(fit_speech, path, slot, limits)
        try:
            answer = decoders.run(work, file=path, timeout_s=self._config.jobs.sound_timeout_s(MAX_SLOT_SECONDS))
            return FittedSpeech.from_bytes(answer)
        except (MediaError, ValueError) as error:
            raise VoiceError("The voice returned audio that cannot be used.") from error

    def _stored(self, path: Path) -> UploadedFile:
        writer = self._files.new_upload("dub.flac")
        try:
            with path.open("rb") as file:
                while piece := file.read(_PIECE_BYTES):
                    writer.write(piece)
            return writer.finish()
        except BaseException:
            writer.discard()
            raise


def _placed(turn: Turn, field: str, audio_start: float, fitted: FittedSpeech) -> Turn:
    """Return a turn that plays its fitted text."""
    return turn.model_copy(
        update={
            "audio": field,
            "audio_start": audio_start,
            "end": turn.start + fitted.seconds,
            "speed": round(fitted.speed, 3) if fitted.speed > 1 else None,
            "cut_seconds": round(fitted.cut_seconds, 3) or None,
        }
    )


async def _write(pieces: AsyncIterator[bytes], path: Path, on_bytes: OnBytes) -> None:
    with disk_errors(), open(path, "wb") as file:  # noqa: ASYNC230  # opening an existing local file
        async for piece in pieces:
            await on_bytes(len(piece))
            await asyncio.to_thread(file.write, piece)


@contextmanager
def _named(turn: str) -> Iterator[None]:
    """Prefix errors about a text with its turn."""
    try:
        yield
    except OptionError as error:
        raise OptionError(f"{turn}: {error}") from error
