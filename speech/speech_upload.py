"""Stores synthesized speech like an uploaded file."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Final

from api.tts.service import Speaker
from jobs.model.files import UploadedFile
from speech.service import Speaker
from storage.file_store import FileStore

_MAX_TITLE_CHARS: Final = 48


async def speech_upload(
    speaker: Speaker,
    files: FileStore,
    text: str,
    voice: str | None,
    count: Callable[[int], Awaitable[object]] | None = None,
) -> UploadedFile:
    """Synthesize a text and store the audio as an upload, named after the first words of the text.

    Args:
        speaker: The TTS service for one caller.
        files: Where it is stored.
        text: What to speak.
        voice: Name of a voice; the default voice if None.
        count: Is given the size of each piece in bytes before it is stored, and may raise.

    Raises:
        LipwrightError: As for `Speaker.synthesize` and `storage.uploads.UploadWriter`. Nothing is left of the file.
    """
    speaker.check(text)
    writer = files.new_upload(f"{speech_title(text)}.{speaker.audio_format}")
    try:
        async with aclosing(speaker.synthesize(text, voice)) as pieces:
            async for piece in pieces:
                if count is not None:
                    await count(len(piece))
                await asyncio.to_thread(writer.write, piece)
        return await asyncio.to_thread(writer.finish)
    except BaseException:
        writer.discard()
        raise


def speech_title(text: str) -> str:
    """Return a file name for synthesized speech: the first words of the text."""
    words = " ".join(re.findall(r"\w+", text))
    if len(words) <= _MAX_TITLE_CHARS:
        return words or "speech"
    head, space, _ = words[:_MAX_TITLE_CHARS].rpartition(" ")
    return f"{head if space else words[:_MAX_TITLE_CHARS]}..."
