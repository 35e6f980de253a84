"""Renders chunks of live sessions: audio features, plan, faces and encoding in one process, without queues."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lipwright.config import PipelineConfig
from lipwright.errors import ConfigError
from lipwright.jobs.messages import Background
from lipwright.media.cancel_token import CancelToken
from lipwright.media.frame_source import FrameSource
from lipwright.media.live.encoder import EncodedPictures, LiveEncoder
from lipwright.media.output.backdrop import Cutout, MattedFrames, VideoBackdrop
from lipwright.media.output.framing import OutputSize
from lipwright.media.output.picture import DrawPicture, PictureMaker
from lipwright.media.playback import Playback
from lipwright.media.yuv_frame import Patch, YuvFrame
from lipwright.rendering.avatar_cache import AvatarCache
from lipwright.rendering.background_opener import BackgroundOpener, OpenSource, cutout
from lipwright.rendering.frame_marks import live_marks
from lipwright.rendering.frame_pipeline import BlockingWork, PlannedFace
from lipwright.rendering.live_chunk import LiveChunk, LiveChunkRequest
from lipwright.rendering.lru_pool import LruPool
from lipwright.storage.files import StoredFiles
from models.avatar.avatar import Avatar
from models.engines.protocol import ComputeResources, Engine, FrameSpan, LiveEngine, Plan
from models.speech.prosody import Prosody, window_prosody


class SessionEncoder:
    """Encodes the chunks of one session, each after the one before it.

    Args:
        request: The first chunk.
        config: Encoder settings and watermarks.

    Attributes:
        reference: Names the last picture, see `LiveChunk.reference`.
    """

    def __init__(self, request: LiveChunkRequest, config: PipelineConfig) -> None:
        info, live = request.avatar.source.info, config.live
        marks = live_marks(info, request.session_id, request.first_frame, config.labels)
        self._encoder = LiveEncoder(info, live.crf, live.preset, marks)
        self._next_frame = request.first_frame
        self.reference = uuid.uuid4().hex

    def fits(self, request: LiveChunkRequest) -> bool:
        """Return whether the requested chunk follows the last one, and may refer to it or begin with a keyframe."""
        return request.first_frame == self._next_frame and request.reference in (None, self.reference)

    def encode(
        self,
        request: LiveChunkRequest,
        frames: Sequence[tuple[YuvFrame, Patch | None]],
        draw: DrawPicture,
    ) -> EncodedPictures:
        """Encode the pictures that `draw` makes of frames and their faces."""
        if request.reference is None:
            self._encoder.begin_with_key()
        for frame, patch in frames:
            self._encoder.write(frame, () if patch is None else (patch,), draw)
        self._next_frame += len(frames)
        self.reference = uuid.uuid4().hex
        return self._encoder.finish()


_MAX_ENCODERS = 32  # of sessions that did not leave: one takes 7 MB at 512x512 and 39 MB at 1920x1080
_NUM_ENDED = 256
_MAX_READERS = 32  # more than a replica has sessions; the decoder of a reader that is not used exits


class _Readers(NamedTuple):
    """The open files of one session."""

    frames: FrameSource  # the source, with mattes if the session has another background
    behind: FrameSource | None  # the picture or video behind the person

    def close(self) -> None:
        self.frames.close()
        if self.behind is not None:
            self.behind.close()


class LiveRenderer:
    """Renders live chunks with one engine; state that continues between chunks is passed in and returned.

    All sessions share its networks. A chunk is rendered in one thread from beginning to end: with its steps in
    different threads, those of several sessions would only wait for each other's interpreter lock.

    Raises:
        ConfigError: The engine cannot speak live.
    """

    def __init__(
        self,
        config: PipelineConfig,
        engine: Engine,
        resources: ComputeResources,
        run: BlockingWork,
        open_source: OpenSource,
        files: StoredFiles,
    ) -> None:
        if not isinstance(engine, LiveEngine):
            raise ConfigError(f"live.engine: expected an engine that can speak live, found {config.live.engine!r}.")
        self._config, self._run = config, run
        self._engine, self._live = engine, engine
        is_one_thread = resources.device == "cpu" and resources.num_threads == 1
        self._clock = time.thread_time if is_one_thread else time.monotonic
        self._audio_encoder = engine.live_audio_encoder(resources)
        self._face_generator = engine.face_generator(resources)
        self._open_source = open_source
        self._files, self._avatars = files, AvatarCache(files)
        self._backgrounds = BackgroundOpener(open_source, files)
        self._readers: LruPool[tuple[str, ...], _Readers] = LruPool(_MAX_READERS, _Readers.close)
        self._encoders: LruPool[str, SessionEncoder] = LruPool(_MAX_ENCODERS)
        self._ended: deque[str] = deque(maxlen=_NUM_ENDED)  # a chunk may be finished after the end of its session

    async def render(self, request: LiveChunkRequest) -> LiveChunk:
        """Render one chunk.

        Raises:
            MediaError: The avatar's source cannot be decoded.
            StageTimeoutError: Rendering took too long.
        """
        return await self._run(partial(self._render, request), request.num_frames)

    def forget(self, session_id: str) -> None:
        """Free the encoder of a session that has ended, and close its files, also those of chunks in progress."""
        self._ended.append(session_id)
        self._drop(session_id)

    def _drop(self, session_id: str) -> None:
        self._encoders.drop(lambda key: key == session_id)
        self._readers.drop(lambda key: key[0] == session_id)

    def _render(self, request: LiveChunkRequest, token: CancelToken) -> LiveChunk:
        began = self._clock()
        with ExitStack() as files:
            avatar, path = self._fetch(request, files)
            shown = self._shown_frames(avatar, request)
            avatar = avatar.speaking(request.expressiveness, shown, request.window.closures)
            plan, state = self._plan(avatar, request, avatar.rows(shown))
            of_session = request.session_id, request.avatar.source.key, *_files_of(request.background)
            readers = self._readers.take(of_session, lambda: self._open(path, avatar, request))
            try:
                encoder = self._encoder(request)
                pictures = self._pictures(avatar, plan, shown[: len(plan)], readers, request, token, encoder)
            except BaseException:
                readers.close()
                raise
        if token.is_cancelled():
            readers.close()
        else:
            self._readers.put(of_session, readers)
        self._encoders.put(request.session_id, encoder)
        if request.session_id in self._ended:
            self._drop(request.session_id)
        return LiveChunk(pictures, state, self._clock() - began, encoder.reference)

    def _fetch(self, request: LiveChunkRequest, files: ExitStack) -> tuple[Avatar, Path]:
        """Return the avatar, which sessions share, and the path of its source.

        All files, which decoders may open again at any time, are on this machine until `files` closes.
        """
        path = files.enter_context(self._files.fetched(request.avatar.source.key))
        for key in _files_of(request.background):
            files.enter_context(self._files.fetched(key))
        cached = self._avatars.take(request.avatar.folder, self._engine)
        self._avatars.put(cached)
        return cached.avatar, path

    def _open(self, path: Path, avatar: Avatar, request: LiveChunkRequest) -> _Readers:
        """Open the files of a session."""
        frames, background = self._open_source(path, request.avatar.source.info, avatar), request.background
        if background is None:
            return _Readers(frames, None)
        with ExitStack() as on_error, ExitStack() as files:
            on_error.callback(frames.close)
            mattes = self._backgrounds.open_mattes(background.matte, avatar, files)
            on_error.callback(mattes.close)
            file = background.file
            behind = None if file is None else self._backgrounds.open_video(file.key, file.info, files)
            on_error.pop_all()
            return _Readers(MattedFrames(frames, mattes), behind)

    def _plan(self, avatar: Avatar, request: LiveChunkRequest, index: NDArray[np.int32]) -> tuple[Plan, object]:
        features = self._audio_encoder.encode_live(request.window)
        total = request.first_frame + len(index)
        span = FrameSpan(avatar.info.fps, request.first_frame, len(index), total)
        return self._live.plan_live(avatar, features, span, index, request.state)

    def _shown_frames(self, avatar: Avatar, request: LiveChunkRequest) -> NDArray[np.int64]:
        # Without a path, the source is played forward and backward: no jumps. Speech moves the head of a still only;
        # frames after this chunk, which only serve as context, use as much of the speech as has arrived.
        frames = range(request.first_frame, request.first_frame + request.num_frames + self._live.look_ahead_frames)
        fps = float(avatar.info.fps)
        prosody = Prosody.silence(len(frames))
        if avatar.motion is not None:
            prosody = window_prosody(request.window, np.array(frames) / fps)
        return avatar.shown_frames(frames, fps, request.playback, prosody, request.behaviours)

    def _encoder(self, request: LiveChunkRequest) -> SessionEncoder:
        """Return the encoder of a session, or a new one if it cannot continue with this chunk."""
        encoder = self._encoders.take(request.session_id, lambda: SessionEncoder(request, self._config))
        return encoder if encoder.fits(request) else SessionEncoder(request, self._config)

    def _pictures(
        self,
        avatar: Avatar,
        plan: Plan,
        shown: NDArray[np.int64],
        readers: _Readers,
        request: LiveChunkRequest,
        token: CancelToken,
        encoder: SessionEncoder,
    ) -> EncodedPictures:
        with token.on_cancel(readers.close):
            frames = list(readers.frames.read(shown.tolist()))
        face = PlannedFace(self._engine.name, partial(self._engine.crop, avatar), plan, occluders=avatar.occluders)
        patches = self._face_generator.generate(face.chunk(frames), token.is_cancelled)
        framing = OutputSize().framing(request.avatar.source.info)
        maker = PictureMaker(framing, composite=_cutout(request, readers))
        with token.on_cancel(readers.close):
            return encoder.encode(
                request, [(frame, face.shown_patch(frame, k, patches)) for k, frame in enumerate(frames)], maker.draw
            )


def _files_of(background: Background | None) -> tuple[str, ...]:
    """Return the keys of the files that a background needs."""
    if background is None:
        return ()
    matte, file = background.matte, background.file
    return (matte.key,) if file is None else (matte.key, file.key)


def _cutout(request: LiveChunkRequest, readers: _Readers) -> Cutout | None:
    """Return what draws the people of a chunk on the background; None without another background."""
    background, colour = request.background, request.avatar.source.info.colour
    if background is None:
        return None
    if background.file is None or readers.behind is None:
        return cutout(background, colour)
    frames = range(request.first_frame, request.first_frame + request.num_frames)
    playback = Playback(background.after_end)
    return cutout(background, colour, VideoBackdrop(readers.behind, background.file.info, colour, playback, frames))
