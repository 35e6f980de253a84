"""Builds avatars: tracks the face of a source, and writes the avatar's folder and the files of engines in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

from lipwright.config import MediaLimits
from lipwright.jobs.messages import AvatarRef, SourceVideo
from lipwright.media.cancel_token import CancelToken
from lipwright.media.decoding.decoder import Decoders
from lipwright.media.kept_squares import KeptSquares, SquareReader
from lipwright.media.preview import frame_thumbnail
from lipwright.media.probe import probe_video
from lipwright.rendering.lru_pool import LruPool
from lipwright.rendering.source_readers import SourceReaders
from lipwright.storage.file_keys import AVATAR_PICTURE
from lipwright.storage.files import StoredFiles, load_together
from models.avatar.avatar import Avatar
from models.avatar.face_region import keep_face
from models.avatar.folder import AVATAR_FILES, COMPLETE_FILE, INFO_FILE, analysis_part, is_analysed, mark_analysed
from models.engines.protocol import Engine
from models.face.choice import FaceChoice
from models.matting.generator import MatteGenerator
from models.track.marked_face import marked_landmarks
from models.track.raw_landmarks import RawLandmarks
from models.track.square_pixels import pixel_aspect
from models.track.tracker import FaceTracker, TrackState

# Squares around the face that tracking keeps for the analysis, which then need not decode the source again: for each of
# a few sources, those of 30 s at 1080p with a large face, and of more than a minute with a usual one.
_MAX_KEPT_BYTES, _MAX_KEPT_SOURCES = 512 * 1024**2, 2


class AvatarBuilder:
    """Holds the networks that find and track faces. All its methods block; files are written atomically."""

    def __init__(
        self,
        limits: MediaLimits,
        files: StoredFiles,
        decoders: Decoders,
        tracker: FaceTracker,
        matting: MatteGenerator,
        readers: SourceReaders,
    ) -> None:
        self._limits, self._files, self._decoders = limits, files, decoders
        self._tracker, self._matting, self._readers = tracker, matting, readers
        # by source, and the next frame to track
        self._squares: LruPool[tuple[str, int], KeptSquares] = LruPool(_MAX_KEPT_SOURCES, KeptSquares.close)

    def track(
        self,
        source: SourceVideo,
        choice: FaceChoice,
        frames: range,
        state: TrackState | None,
        out: str,
        token: CancelToken,
    ) -> TrackState:
        """Write the landmarks of consecutive source frames to the key `out`; see `LandmarkGenerator.track`."""
        if choice.kind == "points":
            raw, new_state = marked_landmarks(choice.numbers), TrackState(None, None, None)
        else:
            with self._readers.frames(source, frames, token) as images, self._kept_squares(source, frames) as kept:
                aspect, colour = pixel_aspect(source.info), source.info.colour
                keep = partial(keep_face, kept, frames.start)
                raw, new_state = self._tracker.track_chunk(images, colour, choice, state, aspect, keep)
        with self._files.written(out) as part:
            raw.save(part)
        return new_state

    def reference(self, picture: str, token: CancelToken) -> FaceChoice:
        """Return the choice of the person in the picture of a key; see `LandmarkGenerator.reference`."""
        timeout_s = self._readers.timeout_s(1)
        with self._files.fetched(picture) as path:
            probe = partial(probe_video, path, self._limits)
            info = self._decoders.run(probe, file=path, timeout_s=timeout_s, token=token)
            with self._readers.open(path, info, timeout_s) as reader, token.on_cancel(reader.close):
                (frame,) = reader.read([0])
        return self._tracker.reference(frame, info.colour)

    def build(self, avatar: AvatarRef, tracks: Sequence[str], token: CancelToken, cuts: Sequence[int] = ()) -> bool:
        """Smooth the whole track and write the avatar's folder; return whether the person in the source speaks."""
        source = avatar.source
        raw = RawLandmarks.concatenate(load_together(self._files, tracks, RawLandmarks.load))
        with (
            self._files.written_folder(avatar.folder, "", INFO_FILE) as made,
            self._readers.whole(source, token) as reader,
        ):
            (frame,) = reader.read([0])
            picture = frame_thumbnail(frame, source.info.colour, pixel_aspect(source.info))
            (made / AVATAR_PICTURE).write_bytes(picture)
            is_marked = raw.presence is None  # in a drawing, which the segmentation of people does not know
            cut_out = None if is_marked else self._matting.cut_out
            return Avatar.build(made, source.info, raw, reader, cut_out, cuts).talks

    def is_analysed(self, avatar: AvatarRef, engine: Engine) -> bool:
        """Return whether all files of the engine for an avatar are stored."""
        with self._files.fetched_folder(avatar.folder, (analysis_part(engine),)) as folder:
            return is_analysed(folder, engine)

    def analyse(self, avatar: AvatarRef, engine: Engine, source_audio_features: Any | None, token: CancelToken) -> None:
        """Have the engine analyse an avatar and write its files; see `LandmarkGenerator.analyse`."""
        part = analysis_part(engine)
        with (
            self._files.written_folder(avatar.folder, part, COMPLETE_FILE, AVATAR_FILES) as folder,
            self._readers.whole(avatar.source, token, is_last=True) as reader,
        ):
            loaded = Avatar.load(folder)
            kept = self._squares.take((avatar.source.key, avatar.source.info.num_frames), partial(KeptSquares, 0))
            with closing(kept):
                frames = SquareReader(loaded.frames(reader), kept)
                engine.analyse(loaded, frames, source_audio_features, token.is_cancelled)
            mark_analysed(folder, engine)

    @contextmanager
    def _kept_squares(self, source: SourceVideo, frames: range) -> Iterator[KeptSquares]:
        """Lend the squares kept of the frames before these; keep them for the call that continues after these."""
        if self._readers.holds_all(source.info) or pixel_aspect(source.info) != 1:
            yield KeptSquares(0)
            return
        kept = self._squares.take((source.key, frames.start), partial(KeptSquares, _MAX_KEPT_BYTES))
        try:
            yield kept
        except BaseException:
            kept.close()
            raise
        self._squares.put((source.key, frames.stop), kept)
