"""The asynchronous client, for asyncio and trio. `client` runs the same code over blocking I/O."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar, Unpack
from urllib.parse import quote

import httpx

from lipwright_client.async_jobs import AsyncJobs
from lipwright_client.async_live import DEFAULT_RATE, RECONNECT_S, AsyncLiveSession
from lipwright_client.calls import (
    AvatarFields,
    AvatarSettings,
    Call,
    JobFields,
    delete,
    format_of,
    path_of,
    reads,
    text_of,
    upload,
)
from lipwright_client.errors import ClientError, ConnectionFailedError, UnavailableError, UploadError, WaitTimeoutError
from lipwright_client.files import Source, Target, check_folder, suffix_of
from lipwright_client.records import (
    Avatar,
    AvatarList,
    Background,
    Clip,
    ClipList,
    ClonedVoice,
    Engine,
    EngineList,
    Job,
    People,
    ServiceStatus,
    Voices,
)
from lipwright_client.retry import DEFAULT_RETRY, RetryPolicy
from lipwright_client.settings import Settings
from lipwright_client.transport import AsyncIO, Transport

T = TypeVar("T")

_ENGINES = Call("GET", "/v1/engines", reads(EngineList))
_MIN_LOOK_S, _MAX_LOOK_S = 0.1, 1.0  # between looks at an avatar that is being analysed


class AsyncAvatars:
    """The avatars of the service."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(self, **fields: Unpack[AvatarFields]) -> Avatar:
        """Create an avatar. It can be used at once; its first job waits for the analysis."""
        return await self._transport.run(upload("/v1/avatars", reads(Avatar), fields))

    async def get(self, avatar_id: str) -> Avatar:
        """Return the current state of an avatar."""
        return await self._transport.run(Call("GET", _avatar(avatar_id), reads(Avatar)))

    async def wait(self, avatar_id: str, timeout_s: float = 600.0) -> Avatar:
        """Wait until an avatar is analysed, and return it.

        Raises:
            WaitTimeoutError: The analysis has not ended; it continues.
        """
        call, missing = Call("GET", _avatar(avatar_id), reads(Avatar)), f"Avatar {avatar_id} was not analysed"
        return await self._poll(call, lambda avatar: avatar.status != "analysing", timeout_s, missing)

    async def people(self, avatar_id: str, timeout_s: float = 600.0) -> People:
        """Find the people in the video of an avatar, and who speaks when. Their numbers work as `face="person:N"`.

        Raises:
            WaitTimeoutError: The search has not ended; it continues.
        """
        call = Call("GET", f"{_avatar(avatar_id)}/people", reads(People))
        missing = f"The people of avatar {avatar_id} were not found"
        return await self._poll(call, lambda found: found.status != "searching", timeout_s, missing)

    async def update(self, avatar_id: str, **fields: Unpack[AvatarSettings]) -> Avatar:
        """Change the movement or background of an avatar, for later jobs and live sessions.

        Fields that are not passed stay as they are.

        Raises:
            UploadError: A file does not exist, or nothing is passed.
            InputError: A value is invalid.
            NotFoundError: There is no such avatar or background.
        """
        return await self._transport.run(upload(_avatar(avatar_id), reads(Avatar), fields, "PATCH"))

    async def add_clip(self, avatar_id: str, name: str, kind: str, video: Source) -> Avatar:
        """Add a further video of the avatar's person, 1 to 60 seconds long. Returns when the service has received it.

        Args:
            avatar_id: ID of the avatar, which was made from a video.
            name: Name by which actions are called: `a-z`, `0-9`, `_` and `-`.
            kind: When it is shown: while nobody speaks (`idle`), while somebody speaks (`talk`), or when it is named
                (`action`).
            video: The video.

        Raises:
            UploadError: The file does not exist.
            InputError: The video does not fit, or the avatar is a still.
            StateError: The avatar has a clip of that name, or too many.
        """
        fields = {"name": name, "kind": kind, "video": video}
        return await self._transport.run(upload(f"{_avatar(avatar_id)}/clips", reads(Avatar), fields))

    async def list_clips(self, avatar_id: str) -> tuple[Clip, ...]:
        """List the clips of an avatar, the oldest first."""
        return (await self._transport.run(Call("GET", f"{_avatar(avatar_id)}/clips", reads(ClipList)))).clips

    async def delete_clip(self, avatar_id: str, name: str) -> None:
        """Delete a clip. Jobs and live sessions that use it continue."""
        await self._transport.run(delete(f"{_avatar(avatar_id)}/clips/{quote(name, safe='')}"))

    async def list(self) -> tuple[Avatar, ...]:
        """List kept avatars, newest first."""
        return (await self._transport.run(Call("GET", "/v1/avatars", reads(AvatarList)))).avatars

    async def delete(self, avatar_id: str) -> None:
        """Delete an avatar. Fails while an unfinished job uses it."""
        await self._transport.run(delete(_avatar(avatar_id)))

    async def _poll(self, call: Call[T], is_over: Callable[[T], bool], timeout_s: float, missing: str) -> T:
        """Repeat a call until its result is complete, and return it."""
        deadline, pause_s = time.monotonic() + timeout_s, _MIN_LOOK_S
        while not is_over(found := await self._transport.run(call, max(0.0, deadline - time.monotonic()))):
            if time.monotonic() + pause_s > deadline:
                raise WaitTimeoutError(f"{missing} within {timeout_s:.1f} s.")
            pause_s = min(_MAX_LOOK_S, 2 * pause_s)
            await self._transport.io.sleep(pause_s)
        return found


class AsyncEngines:
    """The engines of the service."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(self) -> tuple[Engine, ...]:
        """List all engines, including those without weights."""
        return (await self._transport.run(_ENGINES)).engines

    async def steps(self) -> tuple[Engine, ...]:
        """List the post-processors that can be added to an engine (`wav2lip+restoration`)."""
        return (await self._transport.run(_ENGINES)).steps


class Service:
    """What both clients have in common."""

    def __init__(self, transport: Transport, settings: Settings) -> None:
        self.base_url = settings.base_url
        self._transport, self._settings = transport, settings
        self.jobs = AsyncJobs(transport)
        self.avatars = AsyncAvatars(transport)
        self.engines = AsyncEngines(transport)

    async def speak(
        self,
        out: Target | None = None,
        timeout_s: float | None = None,
        on_change: Callable[[Job], object] | None = None,
        **fields: Unpack[JobFields],
    ) -> Job:
        """Submit a job, wait for it, and save its video. If the wait is interrupted, the job is cancelled.

        With `review`, returns the job once it is in review, without a video: `jobs.approve` renders it.

        Args:
            out: Where to save the video; None to leave it on the service. The suffix of a path is the format: `.mp4`,
                `.webm` or `.mov`.
            timeout_s: Maximum wait for the job.
            on_change: As for `jobs.wait`.
            **fields: As for `jobs.create`.

        Raises:
            ProblemError: The request was rejected or the job failed; the subclass depends on the code.
            UploadError: A file or the folder of `out` does not exist, or `out` has the suffix of another format.
            WaitTimeoutError: It took longer than `timeout_s`.
        """
        check_folder(out)
        if (suffix := suffix_of(out)) is not None:
            fields["format"] = format_of(suffix, fields.get("format"))
        job = await self.jobs.create(**fields)
        try:
            job = await self.jobs.wait(job.id, timeout_s, on_change)
        except (ConnectionFailedError, UnavailableError):
            raise  # the service cannot be reached, and finishes the job once it runs again
        except BaseException:
            with contextlib.suppress(ClientError), self._transport.io.shielded():
                await self.jobs.cancel(job.id)
            raise
        job.check()
        if out is not None and not job.is_waiting_for_review:
            await self.jobs.download(job.id, out)
        return job

    def live(
        self,
        avatar_id: str | None = None,
        sample_rate: int = DEFAULT_RATE,
        auto_report: bool = True,
        video: Source | None = None,
        receives_video: bool = True,
        session_id: str | None = None,
        reconnect_s: float = RECONNECT_S,
        **settings: Unpack[AvatarSettings],
    ) -> AsyncLiveSession:
        """Return a live session: enter it with `with` or `async with`, and iterate over its events.

        Args:
            avatar_id: ID of the avatar.
            sample_rate: Sample rate of the sent audio: 8000, 16000, 22050, 24000, 44100 or 48000 Hz.
            auto_report: Whether received video counts as played immediately. Otherwise report the position with
                `report_playback`; the service stays a few seconds ahead of it.
            video: Video or portrait to use instead of `avatar_id`; uploaded and analysed when the session starts, and
                not kept.
            receives_video: Whether the service sends the video to this client. Without it, `session.fragment` events
                have no media: for sessions that are only pushed to outputs (`start_output`).
            session_id: A session with outputs whose client lost its connection, to continue instead of starting one.
            reconnect_s: How long to try to reconnect when the connection breaks; 0 raises at once.
            **settings: Movement and background, by default those of the avatar. A `background_file` is sent when the
                session starts.

        Raises:
            UploadError: Not exactly one of `avatar_id`, `video` and `session_id` is given, more than one background, or
                a file does not exist.
        """
        options: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
        if sum(value is not None for value in (avatar_id, video, session_id)) != 1:
            raise UploadError("Pass either avatar_id, video or session_id.")
        if len(options.keys() & {"background", "background_file", "background_id"}) > 1:
            raise UploadError("Pass either background, background_file or background_id.")
        new_avatar = None if video is None else upload("/v1/avatars", reads(Avatar), {"video": video, "keep": False})
        file = options.pop("background_file", None)
        new_background = None if file is None or session_id is not None else _new_background(file)
        given = {"avatar_id": avatar_id, "session_id": session_id}
        known = {name: value for name, value in given.items() if value is not None}
        return AsyncLiveSession(
            self._settings,
            partial(self._live_subject, known, new_avatar, new_background),
            sample_rate,
            auto_report,
            self._transport.io,
            receives_video,
            options,
            reconnect_s,
        )

    async def _live_subject(
        self, known: Mapping[str, str], new_avatar: Call[Avatar] | None, new_background: Call[Background] | None
    ) -> Mapping[str, str]:
        """Return the options of a session that name its avatar and its background, or a session to continue."""
        subject = dict(known)
        if new_background is not None:
            subject["background_id"] = (await self._transport.run(new_background)).id
        if new_avatar is not None:
            avatar = await self._transport.run(new_avatar)
            subject["avatar_id"] = (await self.avatars.wait(avatar.id)).check().id
        return subject

    async def voices(self) -> Voices:
        """Return the voices for `text`."""
        return await self._transport.run(Call("GET", "/v1/voices", reads(Voices)))

    async def create_subtitles(
        self, audio: Source, language: str | None = None, translate_to: str | None = None, kind: str = "srt"
    ) -> str:
        """Transcribe a recording, if the service is configured for that, and return a subtitle file.

        Args:
            audio: An audio file, or a video with sound.
            language: Language of the speech, such as `en`, if known.
            translate_to: Language of the subtitles; None for that of the speech.
            kind: `srt` or `vtt`.
        """
        fields = {"audio": audio, "language": language, "translate_to": translate_to, "format": kind}
        return await self._transport.run(upload("/v1/subtitles", text_of, fields))

    async def create_background(self, file: Source) -> Background:
        """Store a picture or video; its `id` is the `background_id` of jobs, avatars and `live`."""
        return await self._transport.run(_new_background(file))

    async def delete_background(self, background_id: str) -> None:
        """Delete a background. Fails while an avatar uses it."""
        await self._transport.run(delete(path_of("backgrounds", background_id)))

    async def clone_voice(self, name: str, audio: Source, transcript: str = "") -> ClonedVoice:
        """Clone the voice of a recording, to be used by its `name` as `voice`. You need the speaker's consent.

        Args:
            name: Name of the new voice.
            audio: The speaker alone, 30 s at most unless the service is configured otherwise.
            transcript: What the recording says, word for word; some speech servers require it.
        """
        fields = {"name": name, "audio": audio, "transcript": transcript}
        return await self._transport.run(upload("/v1/voices", reads(ClonedVoice), fields))

    async def delete_voice(self, name: str) -> None:
        """Delete a cloned voice and its recording."""
        await self._transport.run(delete(path_of("voices", name)))

    async def status(self) -> ServiceStatus:
        """Return the queue status of the service."""
        return await self._transport.run(Call("GET", "/v1/status", reads(ServiceStatus)))

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.io.close()


class AsyncLipwright(Service):
    """An asynchronous client of a Lipwright service.

    Args:
        base_url: URL of the service. Default: LIPWRIGHT_URL, or http://127.0.0.1:8000.
        api_key: API key. Default: LIPWRIGHT_API_KEY.
        timeout_s: Timeout for connecting and for short responses, in seconds.
        retry: When and how long failed requests are retried.
        transport: httpx transport, for proxies, certificates and tests.
        headers: Extra header fields of every request.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        retry: RetryPolicy = DEFAULT_RETRY,
        transport: httpx.AsyncBaseTransport | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        settings = Settings.of(base_url, api_key, timeout_s, headers)
        io = AsyncIO(httpx.AsyncClient(transport=transport, **settings.httpx_options()))
        super().__init__(Transport(io, retry), settings)

    async def __aenter__(self) -> AsyncLipwright:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


def _avatar(avatar_id: str) -> str:
    return path_of("avatars", avatar_id)


def _new_background(file: Source) -> Call[Background]:
    return upload("/v1/backgrounds", reads(Background), {"background_file": file})
