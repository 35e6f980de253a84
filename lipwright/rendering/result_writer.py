"""Joins the segments of a job into its result: packet copy, the sound, and the labels."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

from lipwright.config import PipelineConfig
from lipwright.errors import InputError, StageTimeoutError, StoredFileError
from lipwright.jobs.messages import OutputInfo, OutputPicture, SourceVideo
from lipwright.jobs.model.job_settings import JobSettings
from lipwright.media.audio_parts import AudioPart
from lipwright.media.cancel_token import CancelToken
from lipwright.media.decoding.decoder import Decoders
from lipwright.media.labels.labeller import Labeller, result_tags
from lipwright.media.labels.signer import Provenance, has_manifest
from lipwright.media.result.concat import concat_segments
from lipwright.media.result.sound_mix import ResultSound
from lipwright.media.result.sound_pieces import PieceFiles
from lipwright.storage.file_keys import split
from lipwright.storage.files import StoredFiles
from lipwright.storage.local.folder import disk_errors

logger = logging.getLogger(__name__)

_PIECES = "sound"  # name of the file while it is written


class ResultWriter:
    """Writes results; all its work blocks.

    Attributes:
        MODULES: What its decoder processes import; see `Decoders`.
    """

    MODULES: Final = concat_segments.__module__, has_manifest.__module__

    def __init__(self, config: PipelineConfig, files: StoredFiles, decoders: Decoders) -> None:
        self._config, self._files, self._decoders = config, files, decoders
        self._labeller = Labeller(config.labels, config.data_dir)

    def write(
        self,
        segments: Sequence[str],
        speech: Sequence[AudioPart[str]],
        out: str,
        source: SourceVideo,
        output: OutputInfo,
        token: CancelToken,
    ) -> None:
        """Write a result completely or not at all, from segments in one folder and in order and the caller's audio.

        Raises:
            LabelError: The result cannot be signed. No file is written, because results need their label.
        """
        folder, names = split(segments[0])[0], [split(segment)[1] for segment in segments]
        timeout_s = self._config.jobs.call_timeout_s(output.num_frames)
        tags, limits = result_tags(self._config.labels, output.produce_id), self._config.limits
        with (
            ExitStack() as fetched,
            self._files.fetched_folder(folder, names) as rendered,
            self._files.written(out) as part,
            self._kept_pieces(output, part.parent) as pieces,
        ):
            paths, reads, background = [rendered / name for name in names], [rendered], None
            if pieces is not None and pieces.earlier is not None:
                reads.append(pieces.earlier)
            files = {part.file: fetched.enter_context(self._files.fetched(part.file)) for part in speech}
            parts = [part.of_file(files[part.file]) for part in speech]
            if output.sound.has_background and source.info.has_audio:
                background = fetched.enter_context(self._files.fetched(source.key))
                reads.append(background)
            music = None if output.music is None else fetched.enter_context(self._files.fetched(output.music))
            if music is not None:
                reads.append(music)
            sound = ResultSound(parts, output.sound, background, music, limits, output.language, pieces)
            picture = output.picture or OutputPicture.of(JobSettings(), source.info)
            made, num_frames = picture.file_format, output.num_frames
            join = partial(concat_segments, paths, sound, part, picture.info, num_frames, tags, output.texts, made)
            first, *others = files.values()
            self._decoders.run(
                join, file=first, timeout_s=timeout_s, token=token, reads=[*reads, *others], writes=part.parent
            )
            if self._config.labels.c2pa and made.is_signed:
                with disk_errors(), self._files.fetched(source.key) as face:
                    signed_source = face if self._has_manifest(face, timeout_s, token) else None
                    provenance = Provenance(source.info.is_still, output.watermark_id, signed_source)
                    self._labeller.sign(part, provenance, made.media_type)

    @contextmanager
    def _kept_pieces(self, output: OutputInfo, folder: Path) -> Iterator[PieceFiles | None]:
        """Provide a file in `folder` for the pieces of the sound; it is stored when the block succeeds."""
        if output.pieces is None:
            yield None
            return
        with ExitStack() as fetched:
            earlier = None
            if output.earlier_pieces is not None:
                with suppress(StoredFileError):  # deleted in the meantime
                    earlier = fetched.enter_context(self._files.fetched(output.earlier_pieces))
            pieces = PieceFiles(folder / _PIECES, earlier)
            yield pieces
            if pieces.out.exists():  # the sound is AAC
                with self._files.written(output.pieces) as kept:
                    pieces.out.replace(kept)

    def _has_manifest(self, face: Path, timeout_s: float, token: CancelToken) -> bool:
        """Return whether the source has a manifest. Signing parses only sources that a decoder process could parse."""
        try:
            found: bool = self._decoders.run(partial(has_manifest, face), file=face, timeout_s=timeout_s, token=token)
            return found
        except (InputError, StageTimeoutError) as error:
            logger.warning("the C2PA manifest of the source is not kept: %s", error)
            return False
