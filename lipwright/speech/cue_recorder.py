"""Joins spoken texts to one audio file, each fitted into its time slot."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Final

from lipwright.config import PipelineConfig
from lipwright.errors import LipwrightError, MediaLimitError, StoredFileError, VoiceError, with_name
from lipwright.jobs.speech_messages import PlacedCue, RecordedCue, RecordedSpeech
from lipwright.media.cancel_token import CancelToken
from lipwright.media.decoding.decoder import Decoders
from lipwright.media.dubbing.slots import MAX_SLOT_SECONDS, DubWriter, FittedSpeech, fit_speech
from lipwright.media.phones import Closures
from lipwright.storage.cues import CueStore
from lipwright.storage.files import StoredFiles
from lipwright.storage.local.folder import has_content

_PROCESS_S: Final = 1.0  # takes .2 s at a load average of 20 on two cores


class CueRecorder:
    """Decodes the cues of a job in sandboxed processes, and writes them one after the other.

    Args:
        config: The settings.
        files: Where cues and recordings are stored.
        cues: The same, with the records of cues.
        decoders: Decode cues.
    """

    def __init__(self, config: PipelineConfig, files: StoredFiles, cues: CueStore, decoders: Decoders) -> None:
        self._config, self._files, self._cues, self._decoders = config, files, cues, decoders

    def record(self, cues: Sequence[PlacedCue], out: str, token: CancelToken) -> RecordedSpeech:
        """Write the FLAC file `out` with the cues in the order of their slots. Blocks.

        Raises:
            StoredFileError: A cue is missing or damaged. `CueSpeaker.speak` makes it again.
            VoiceError: A cue cannot be decoded.
            MediaLimitError: All together take too long.
            StageTimeoutError: Decoding one timed out.
        """
        recorded: dict[int, RecordedCue] = {}
        limit = self._config.limits.max_audio_seconds
        with self._files.written(out) as path:
            with DubWriter(path) as writer:
                for number, cue in sorted(enumerate(cues), key=lambda each: each[1].slot.start):
                    try:
                        fitted, closures = self._fitted(cue, token)
                    except LipwrightError as error:
                        raise with_name(error, cue.name) from error
                    placed = fitted.placed(closures, writer.seconds)
                    recorded[number] = RecordedCue(
                        writer.seconds, fitted.seconds, fitted.speed, fitted.cut_seconds, placed
                    )
                    writer.write(fitted.samples)
                    if writer.seconds > limit:
                        raise MediaLimitError(f"turns: expected texts of at most {limit:g} s in all, found more.")
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            num_bytes = path.stat().st_size
        return RecordedSpeech(sha256, num_bytes, tuple(recorded[number] for number in range(len(cues))))

    def _fitted(self, cue: PlacedCue, token: CancelToken) -> tuple[FittedSpeech, Closures]:
        """Return a cue in its slot, and the closures of the lips in its file."""
        limits = self._config.limits.model_copy(update={"max_audio_seconds": MAX_SLOT_SECONDS})
        timeout_s = self._config.jobs.sound_timeout_s(MAX_SLOT_SECONDS)
        stored = self._cues.record(cue.key)
        with self._files.fetched(cue.key) as path:
            if stored is None or not has_content(path, stored.sha256):
                raise StoredFileError("the stored speech is missing or damaged.")
            work = partial(fit_speech, path, cue.slot, limits)
            try:
                answer = self._decoders.run(work, file=path, timeout_s=timeout_s, token=token)
                return FittedSpeech.from_bytes(answer), stored.closures
            except ValueError as error:  # an InputError is one
                raise VoiceError("The voice returned audio that cannot be used.") from error


def record_timeout_s(config: PipelineConfig, cues: Sequence[PlacedCue]) -> float:
    """Return the timeout of `CueRecorder.record` in seconds: it starts a process per cue."""
    seconds = sum(min(cue.slot.latest - cue.slot.start, MAX_SLOT_SECONDS) for cue in cues)
    return config.jobs.sound_timeout_s(seconds) + _PROCESS_S * len(cues)
