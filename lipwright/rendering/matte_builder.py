"""Builds mattes: finds screens, makes the matte of a source piece by piece, and joins the pieces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lipwright.jobs.messages import AvatarRef, SourceVideo
from lipwright.media.cancel_token import CancelToken
from lipwright.media.matte import MatteWriter, ScreenColour, join_mattes
from lipwright.rendering.source_readers import SourceReaders
from lipwright.storage.file_keys import MATTE_REPORT, MATTE_VIDEO
from lipwright.storage.files import StoredFiles, load_together
from models.avatar.folder import AVATAR_FILES, TRACK_FILE, file_hashes, write_whole
from models.matting.generator import MatteGenerator, MattePiece, shares_of
from models.matting.person import Heads
from models.matting.report import PRESENCE_SIDE, MatteReport, person_box, presence, uncertain_ranges

_NUM_LOOKED_AT = 5  # frames in which a screen is looked for


class MatteBuilder:
    """Holds the network that segments people. All its methods block; files are written atomically."""

    def __init__(self, files: StoredFiles, generator: MatteGenerator, readers: SourceReaders, num_threads: int) -> None:
        self._files, self._generator, self._readers, self._num_threads = files, generator, readers, num_threads

    def find_screen(self, source: SourceVideo, is_expected: bool, token: CancelToken) -> ScreenColour | None:
        """Return the screen behind the person; see `LandmarkGenerator.find_screen`."""
        info = source.info
        looked_at = np.unique(np.linspace(0, info.num_frames - 1, _NUM_LOOKED_AT).astype(int)).tolist()
        with (
            self._files.fetched(source.key) as path,
            self._readers.open(path, info, self._readers.timeout_s(info.num_frames)) as reader,
            token.on_cancel(reader.close),
        ):
            frames = list(reader.read(looked_at))
        return self._generator.find_screen(frames, info.colour, is_expected=is_expected)

    def matte(
        self,
        avatar: AvatarRef,
        screen: ScreenColour | None,
        frames: range,
        before: str | None,
        out: str,
        token: CancelToken,
    ) -> None:
        """Write the matte of consecutive source frames to the key `out`; see `LandmarkGenerator.matte`."""
        source = avatar.source
        info, history = source.info, None
        if before is not None:
            with self._files.fetched(before) as path:
                history = MattePiece.load(path).history
        with self._files.fetched_folder(avatar.folder, AVATAR_FILES) as folder:
            heads = Heads.load(folder / TRACK_FILE)
        writer, shares = MatteWriter(info, self._num_threads), []
        seen = np.zeros((PRESENCE_SIDE, PRESENCE_SIDE), np.float32)
        with self._readers.frames(source, frames, token) as images:
            for made in self._generator.mattes(images, info.colour, screen, map(heads.at, frames), history):
                writer.write(made.alpha)
                shares.append(shares_of(made, screen))
                seen += presence(made.alpha)
                history = made.history
        assert history is not None, "there is at least one frame"
        with self._files.written(out) as part:
            MattePiece.of(writer.finish(), shares, seen, history).save(part)

    def join(self, avatar: AvatarRef, part: str, screen: ScreenColour | None, pieces: Sequence[str]) -> None:
        """Write the matte and its report to a part of the avatar's folder; see `LandmarkGenerator.join_matte`."""
        loaded = load_together(self._files, pieces, MattePiece.load)
        info = avatar.source.info
        shares = np.concatenate([piece.shares for piece in loaded])
        people, uncertain = shares.T.astype(float)
        with self._files.written_folder(avatar.folder, part, MATTE_REPORT) as made:
            target = made / part
            target.mkdir(parents=True, exist_ok=True)
            video = target / MATTE_VIDEO
            join_mattes([piece.video.tobytes() for piece in loaded], video, info.fps, info.num_frames)
            report = MatteReport(
                mode="person" if screen is None else "chroma",
                screen=screen,
                sha256=file_hashes(target, [MATTE_VIDEO])[MATTE_VIDEO],
                uncertain_share=round(float(uncertain.sum() / max(people.sum(), 1e-6)), 4),
                uncertain=tuple(uncertain_ranges(shares, info.fps)),
                person_box=person_box(np.sum([piece.presence for piece in loaded], axis=0) / len(shares)),
            )
            write_whole(target / MATTE_REPORT, report.model_dump(mode="json"))
