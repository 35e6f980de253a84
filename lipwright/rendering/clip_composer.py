"""Makes the sources of composites from the clips of an avatar, and recognises its person in them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lipwright.config import MediaLimits
from lipwright.errors import FaceNotFoundError
from lipwright.jobs.messages import AvatarRef, ClipPart, Composite, num_frames_of
from lipwright.media.cancel_token import CancelToken
from lipwright.media.decoding.decoder import Decoders
from lipwright.media.probe import probe_video
from lipwright.rendering.source_readers import SourceReaders
from lipwright.storage.files import StoredFiles
from models.avatar.folder import AVATAR_FILES, TRACK_FILE
from models.clips.compose import ClipSource, compose_clips
from models.clips.fitting import fit_clip
from models.face.appearance import appearance_of, is_same_person
from models.face.choice import FaceChoice
from models.track.face_track import FaceTrack
from models.track.raw_landmarks import SkipReason
from models.track.square_pixels import SquarePixels, pixel_aspect
from models.track.tracker import is_turned

_NUM_APPEARANCES: Final = 6


class ClipComposer:
    """Joins clips. All its methods block; files are written atomically."""

    def __init__(self, limits: MediaLimits, files: StoredFiles, decoders: Decoders, readers: SourceReaders) -> None:
        self._limits, self._files, self._decoders, self._readers = limits, files, decoders, readers

    def appearance(self, avatar: AvatarRef, token: CancelToken) -> FaceChoice:
        """Return the choice of the person of an avatar; see `LandmarkGenerator.appearance`."""
        return FaceChoice.like(self._appearances(avatar, token))

    def check_fit(self, clip: ClipPart, own: AvatarRef, token: CancelToken) -> None:
        """Refuse a clip that does not fit; see `LandmarkGenerator.check_fit`."""
        avatar = clip.avatar
        if not is_same_person(self._appearances(avatar, token), self._appearances(own, token)):
            raise FaceNotFoundError(f"Clip {clip.name!r}: expected the person of the avatar, found somebody else.")
        fit_clip(clip.name, avatar.source.info, self._track(avatar), own.source.info, self._track(own))

    def _appearances(self, avatar: AvatarRef, token: CancelToken) -> NDArray[np.float32]:
        """Return (K, 240) appearances of the person of an avatar, in frames from all over its video."""
        track, info = self._track(avatar), avatar.source.info
        square = SquarePixels(pixel_aspect(info))
        points = square.points(track.points, info.width)
        seen = np.flatnonzero(track.skip_reason == SkipReason.NONE)
        if not len(seen):
            raise FaceNotFoundError("The video does not show the face clearly enough to recognise it.")
        usable = np.array([frame for frame in seen if not is_turned(points[frame])] or seen)
        frames = np.unique(usable[np.linspace(0, len(usable) - 1, _NUM_APPEARANCES).astype(int)])
        with self._readers.whole(avatar.source, token) as reader:
            seen_at = zip(frames, reader.read(frames.tolist()), strict=True)
            return np.array([appearance_of(square.frame(image), points[frame]) for frame, image in seen_at])

    def compose(self, parts: Sequence[ClipPart], out: str, token: CancelToken) -> Composite:
        """Write the source of a composite to the key `out`; see `LandmarkGenerator.compose`."""
        with ExitStack() as opened, self._files.written(out) as path:
            sources = [self._open(part, opened, token) for part in parts]
            made = path.with_name("composite.mp4")
            graph = compose_clips(sources, made, token.is_cancelled)
            timeout_s = self._readers.timeout_s(num_frames_of(parts))
            probe = partial(probe_video, made, self._limits)
            info = self._decoders.run(probe, file=made, timeout_s=timeout_s, token=token)
            with made.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            made.replace(path)
        return Composite(graph, info, sha256)

    def _open(self, part: ClipPart, opened: ExitStack, token: CancelToken) -> ClipSource:
        source = part.avatar.source
        path = opened.enter_context(self._files.fetched(source.key))
        timeout_s = self._readers.timeout_s(source.info.num_frames)
        reader = opened.enter_context(self._readers.open(path, source.info, timeout_s))
        opened.enter_context(token.on_cancel(reader.close))
        return ClipSource(part.name, part.kind, reader, source.info, self._track(part.avatar))

    def _track(self, avatar: AvatarRef) -> FaceTrack:
        with self._files.fetched_folder(avatar.folder, AVATAR_FILES) as folder:
            return FaceTrack.load(folder / TRACK_FILE)
