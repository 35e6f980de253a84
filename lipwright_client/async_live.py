"""Live sessions: an avatar speaks audio while it is sent."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing, contextmanager, suppress
from typing import Any, Final, Self

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from lipwright_client.errors import (
    ClientError,
    ConnectionFailedError,
    NotFoundError,
    Problem,
    ProblemError,
    StateError,
    problem_error,
)
from lipwright_client.live_protocol import RECONNECTING, LiveEvent, LiveProtocol, PacedAudio, encode_message, live_url
from lipwright_client.retry import reconnect_delay
from lipwright_client.settings import Settings
from lipwright_client.transport import AsyncIO, BlockingIO, Socket
from lipwright_client.unspoken import Unspoken

DEFAULT_RATE: Final = 24000
RECONNECT_S: Final = 60.0
AHEAD_SECONDS: Final = 5.0
"""Audio buffered at the service by `say`."""

_MAX_MESSAGE_BYTES: Final = 2**24
_AUTH_STATUSES: Final = (401, 403)
_REJECTED: Final = "The service rejected the live session. Check the API key."
# RFC 6455 close codes of regular ends; the service sent the reason before.
_CLEAN_CLOSE_CODES: Final = (1000, 1001, 1008, 1013)
_LOST_CLOSE_CODES: Final = (1011, 1012, 1014)  # the service or a proxy failed
_STABLE_S: Final = 10.0  # a session that lasted as long may be reconnected for `reconnect_s` again
_MAX_UNKNOWN: Final = 3  # attempts to continue a session, which another replica may hold
_BUFFER_MARGIN_SECONDS: Final = 5.0  # left free of what the service buffers, when audio is sent again


class AsyncLiveSession:
    """A live session: an asynchronous context manager and an iterator over its events.

    If the connection breaks, the iterator opens another one and sends again what was not spoken: see "Reconnecting" in
    the service's `docs/live.md`.

    Args:
        settings: Connection settings.
        get_subject: Returns the option that names the avatar, or the session to continue.
        sample_rate: Sample rate of the sent audio, in Hz.
        shows: Whether received video counts as played immediately.
        io: Asynchronous or blocking I/O.
        receives_video: Whether the service sends the video to this client, and not only to the outputs.
        options: Further options of the session; None stands for the default.
        reconnect_s: How long to try to reconnect; 0 raises at once.
    """

    _socket: Socket
    _opened: AsyncExitStack
    _subject: Mapping[str, str]

    def __init__(
        self,
        settings: Settings,
        get_subject: Callable[[], Awaitable[Mapping[str, str]]],
        sample_rate: int,
        shows: bool,
        io: AsyncIO | BlockingIO,
        receives_video: bool = True,
        options: Mapping[str, object] | None = None,
        reconnect_s: float = RECONNECT_S,
    ) -> None:
        self.sample_rate, self._more_options = sample_rate, options or {}
        self._receives_video = receives_video
        self._settings, self._get_subject, self._io = settings, get_subject, io
        self._shows = shows and receives_video
        self._protocol = LiveProtocol(receives_video)
        self._first: list[LiveEvent] = []
        self._unspoken = Unspoken(sample_rate)
        self._reconnect_s, self._opened_at, self._give_up_at = reconnect_s, 0.0, 0.0
        self._failure: ClientError | None = None

    @property
    def connected(self) -> Mapping[str, Any]:
        """The session's properties: `session_id`, `width`, `height`, `fps` and limits."""
        assert self._protocol.connected is not None
        return self._protocol.connected

    async def __aenter__(self) -> Self:
        """Start the session.

        Raises:
            BusyError: All sessions are in use.
            NotFoundError: The avatar does not exist.
            FaceNotFoundError: The given video has no face.
            OptionError: The service does not accept an option.
            ConnectionFailedError: The service cannot be reached.
        """
        self._subject = await self._get_subject()
        await self._open(self._subject)
        buffered = float(self.connected.get("max_buffered_seconds", 2 * _BUFFER_MARGIN_SECONDS))
        self._unspoken.max_seconds = max(buffered / 2, buffered - _BUFFER_MARGIN_SECONDS)
        self._unspoken.resume(self.connected)
        return self

    async def __aexit__(self, *error: object) -> None:
        """End the session."""
        self._reconnect_s = 0.0
        await self._opened.aclose()

    async def __aiter__(self) -> AsyncGenerator[LiveEvent, None]:
        """Yield the events of the session.

        Raises:
            ProblemError: The service failed to render the avatar.
            ConnectionFailedError: The connection broke, and could not be restored within `reconnect_s`.
        """
        while True:
            try:
                async with aclosing(self._receive()) as events:
                    async for event in events:
                        yield event
                return
            except (ConnectionFailedError, ProblemError) as error:
                if not self._may_reconnect(error):
                    raise
                lost = error
            self._unspoken.pause()
            yield RECONNECTING
            try:
                ended = await self._reconnect(lost)
            except ClientError as error:
                self._failure = error
                raise
            for event_id in ended:
                kind = "agent.speak_ended"
                yield LiveEvent(kind, {"type": kind, "event_id": event_id})

    async def say(self, pcm: Iterable[bytes], ahead_seconds: float = AHEAD_SECONDS) -> AsyncGenerator[LiveEvent, None]:
        """Send audio in real time, and yield events until all of it is spoken.

        Args:
            pcm: Chunks of 16-bit little-endian mono PCM at the session's rate.
            ahead_seconds: How much audio to buffer at the service.
        """
        paced = PacedAudio(iter(pcm), self.sample_rate, ahead_seconds)
        async for event in self:
            for message in paced.after(event):
                await self._send(message)
            yield event
            if paced.is_over:
                return

    async def speak(self, pcm: bytes) -> None:
        """Send 16-bit little-endian mono PCM."""
        await self._send(pcm)

    async def speak_text(self, text: str, voice: str | None = None) -> None:
        """Send a text to be spoken by the service's voice."""
        await self._send(encode_message("agent.speak_text", text=text, voice=voice))

    async def action(self, name: str, after_audio: bool = False) -> None:
        """Show an action of an avatar with clips; `connected["actions"]` names them.

        An `agent.action_started` event reports its start. It is not sent again after a reconnection.

        Args:
            name: The action.
            after_audio: Start when the audio that was sent before is spoken, not at once.
        """
        await self._send(encode_message("agent.action", name=name, after_audio=after_audio))

    async def speak_end(self) -> None:
        """Mark the end of the utterance."""
        await self._send(encode_message("agent.speak_end"))

    async def interrupt(self) -> None:
        """Stop speaking at once."""
        await self._send(encode_message("agent.interrupt"))

    async def update_avatar(
        self,
        *,
        expression: str | None = None,
        gaze: str | None = None,
        head: str | None = None,
        motion: float | None = None,
    ) -> None:
        """Change how a still picture behaves, within .3 s; see `AvatarSettings`. None leaves an option as it is.

        A new connection begins with the changes that the service has not refused.
        """
        sent = {"expression": expression, "gaze": gaze, "head": head, "motion": motion}
        sent = {name: value for name, value in sent.items() if value is not None}
        await self._send(encode_message("avatar.update", **sent))

    async def keep_alive(self) -> None:
        """Prevent the idle timeout."""
        await self._send(encode_message("session.keep_alive"))

    async def start_output(self, url: str, token: str | None = None) -> None:
        """Push the session to a destination that the operator of the service allows.

        `output.state_updated` events report its ID and state, `error` that the destination is not allowed.

        Args:
            url: `rtmp://` or `rtmps://host/app/key`, `srt://host:port?streamid=...`, or `https://` for WHIP.
            token: Bearer token, for WHIP.
        """
        await self._send(encode_message("output.start", url=url, token=token))

    async def stop_output(self, output_id: str) -> None:
        """Stop pushing to a destination."""
        await self._send(encode_message("output.stop", output_id=output_id))

    async def list_outputs(self) -> None:
        """Ask for an `output.list` event with the state of all outputs."""
        await self._send(encode_message("output.list"))

    async def report_playback(self, position_seconds: float) -> None:
        """Report the playback position; needed only with `auto_report=False`."""
        await self._send(encode_message("session.playback", position_seconds=position_seconds))

    async def _open(self, subject: Mapping[str, str]) -> None:
        address = live_url(
            self._settings,
            **subject,
            sample_rate=self.sample_rate,
            receive_video=self._receives_video,
            **self._more_options,
        )
        protocol, first = LiveProtocol(self._receives_video), []
        with _client_errors(f"The service at {self._settings.base_url} cannot be reached"):
            async with AsyncExitStack() as opened:
                socket = await opened.enter_async_context(self._io.connect(address, **self._options()))
                while protocol.connected is None:
                    event = protocol.receive(await socket.recv())
                    if event is not None:
                        first.append(event)
                self._socket, self._protocol, self._first, self._opened = socket, protocol, first, opened.pop_all()
        self._opened_at = time.monotonic()

    async def _receive(self) -> AsyncGenerator[LiveEvent, None]:
        """Yield the events of one connection until the service closes it."""
        while self._first:
            yield self._first.pop(0)
        while True:
            with _client_errors():
                try:
                    event = self._protocol.receive(await self._socket.recv())
                except ConnectionClosed as closed:
                    if closed.rcvd is not None and closed.rcvd.code in _CLEAN_CLOSE_CODES:
                        return
                    raise
            if event is None:
                continue
            self._unspoken.handle(event)
            if event.type == "session.fragment" and self._shows:
                with suppress(ConnectionFailedError):  # what is received next says why
                    await self.report_playback(event.raw["start_seconds"])
            yield event

    def _may_reconnect(self, error: ConnectionFailedError | ProblemError) -> bool:
        if isinstance(error, ProblemError):
            return error.retryable and self._reconnect_s > 0
        return self._reconnect_s > 0 and error.close_code in (None, *_LOST_CLOSE_CODES)

    async def _reconnect(self, lost: ClientError) -> list[str]:
        """Open another connection. Return the IDs of speech that ended meanwhile.

        Raises:
            ProblemError: The service rejects the session.
            ConnectionFailedError: The time is up.
        """
        now = time.monotonic()
        if now - self._opened_at > _STABLE_S or not self._give_up_at:
            self._give_up_at = now + self._reconnect_s
        session_id = str(self.connected["session_id"])
        may_go_on = self._unspoken.has_outputs or "session_id" in self._subject
        ended: list[str] = []
        num_unknown = num_tries = 0
        while True:
            num_tries += 1
            pause_s = reconnect_delay(num_tries)
            if time.monotonic() + pause_s > self._give_up_at:
                waited = f"and could not be restored within {self._reconnect_s:g} s"
                raise ConnectionFailedError(f"{str(lost).rstrip('.')}, {waited}.") from None
            await self._opened.aclose()
            await self._io.sleep(pause_s)
            continues = may_go_on and num_unknown < _MAX_UNKNOWN
            try:
                await self._open({"session_id": session_id} if continues else self._subject)
                ended += await self._send_again()
                return ended
            except ConnectionFailedError:
                continue
            except NotFoundError:
                num_unknown, num_tries = num_unknown + 1, 0  # the service is there
                if not continues or (num_unknown >= _MAX_UNKNOWN and "session_id" in self._subject):
                    raise
            except ProblemError as error:
                # A session has a client until the service notices that it is lost.
                if not (error.retryable or (continues and isinstance(error, StateError))):
                    raise

    async def _send_again(self) -> list[str]:
        """Send what the service does not have. Return the IDs of speech that ended meanwhile."""
        connected = self._protocol.connected
        assert connected is not None
        ended = self._unspoken.resume(connected)
        with _client_errors():
            while (message := self._unspoken.next_unsent()) is not None:
                await self._socket.send(message)
        if self._unspoken.dropped_seconds:
            connected["dropped_seconds"] = round(self._unspoken.dropped_seconds, 3)
            self._unspoken.dropped_seconds = 0.0
        return [] if ended is None else [ended]

    async def _send(self, message: str | bytes) -> None:
        if self._failure is not None:
            raise self._failure
        content = self._unspoken.add(message)
        if content is None:
            return  # it is sent when the connection is restored
        try:
            with _client_errors():
                await self._socket.send(content)
        except ConnectionFailedError as error:
            if not self._may_reconnect(error):
                raise

    def _options(self) -> dict[str, Any]:
        options = self._settings.httpx_options()
        return {
            "additional_headers": options["headers"],
            "proxy": True if options["trust_env"] else None,
            "open_timeout": self._settings.timeout_s,
            "max_size": _MAX_MESSAGE_BYTES,
            "compression": None,
        }


@contextmanager
def _client_errors(lost: str = "The live session was disconnected") -> Iterator[None]:
    """Translate exceptions of websockets into the client's errors; `lost` begins those of lost connections."""
    try:
        yield
    except InvalidStatus as error:
        status = error.response.status_code
        if status in _AUTH_STATUSES:
            raise problem_error(Problem("unauthorized", "Unauthorized", _REJECTED, status)) from None
        raise ConnectionFailedError(f"The service rejected the live session with status {status}.") from None
    except (OSError, InvalidHandshake, ConnectionClosed) as error:
        failed = ConnectionFailedError(f"{lost}: {str(error) or type(error).__name__}")
        if isinstance(error, ConnectionClosed) and error.rcvd is not None:
            failed.close_code = error.rcvd.code
        raise failed from None
