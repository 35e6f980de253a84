"""Datagrams with file descriptors between two processes of this machine.

Requests to the decoder are pickled. Replies are encoded by `media.decoding.reply_codec`, and the asking process reads
nothing else: unpickling a hostile reply would execute code.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import select
import socket
import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Self

from media.decoding import reply_codec

_MAX_INLINE_BYTES: Final = 64 * 1024
"""A datagram holds less than the socket's buffer, 208 KiB by default; longer messages travel as a memory file."""
_INLINE: Final = b"i"
_IN_FILE: Final = b"f"
_MAX_FILES: Final = 2
_MAX_ANSWER_BYTES: Final = 64 * 1024**2


class Message(NamedTuple):
    """What arrived."""

    value: Any
    """As it was sent."""
    file: int | None
    """The file descriptor that came with it; whoever receives it closes it."""


class Channel:
    """One end of a Unix socket that keeps messages apart. Sends and receives from one thread; `close` from any."""

    def __init__(
        self, connected: socket.socket, encode: Callable[[Any], bytes], decode: Callable[[bytes], Any]
    ) -> None:
        self._socket = connected
        self._encode, self._decode = encode, decode
        self._lock = threading.Lock()

    @classmethod
    def pair(cls) -> tuple[Self, socket.socket]:
        """The end of a process that asks, and the socket that is its other end."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours, pickle.dumps, reply_codec.decode), theirs

    @classmethod
    def of_decoder(cls, theirs: socket.socket) -> Self:
        """The end of a decoder, which receives requests and sends answers."""
        return cls(theirs, reply_codec.encode, pickle.loads)

    def send(self, value: object, file: int | None = None) -> None:
        """Send a value, and a copy of `file`.

        Raises:
            OSError: The other end is gone.
        """
        data = self._encode(value)
        files = [] if file is None else [file]
        if len(data) <= _MAX_INLINE_BYTES:
            self._send(_INLINE + data, files)
            return
        in_file = memory_file()
        try:
            write_whole(in_file, data)
            self._send(_IN_FILE, [*files, in_file])
        finally:
            os.close(in_file)

    def receive(self, timeout_s: float) -> Message:
        """Wait for one message.

        Raises:
            TimeoutError: None came in time.
            EOFError: The other end is gone, or `close` was called.
            media.decoding.reply_codec.InvalidReplyError: It is no message.
        """
        with self._lock:
            if self._socket.fileno() < 0 or not _is_readable(self._socket, timeout_s):
                raise EOFError
            try:
                data, files, _, _ = socket.recv_fds(self._socket, 1 + _MAX_INLINE_BYTES, _MAX_FILES)
            except ConnectionError as error:
                raise EOFError from error
        if not data:
            raise EOFError
        try:
            if data[:1] == _IN_FILE:
                data = data[:1] + _read_whole(files.pop() if files else -1)
            value = self._decode(data[1:])
            return Message(value, files.pop() if files else None)
        finally:
            for number in files:  # what nobody asked for
                os.close(number)

    def close(self) -> None:
        """End the connection; a `receive` that waits in another thread ends at once."""
        with contextlib.suppress(OSError):  # the other end is gone, or this one is closed
            self._socket.shutdown(socket.SHUT_RDWR)
        # Not before the waiting thread is out: the number could be another file's by then.
        with self._lock:
            self._socket.close()

    def _send(self, data: bytes, files: list[int]) -> None:
        if files:
            socket.send_fds(self._socket, [data], files)
        else:
            self._socket.send(data)


def memory_file() -> int:
    """An empty file in memory, of no file system, that lives as long as a process has it open or mapped."""
    return os.memfd_create("lipwright", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def write_whole(file: int, *parts: Any) -> None:
    """Write C-contiguous buffers one behind the other.

    Raises:
        MemoryError: A memory file could not hold them.
    """
    views = [memoryview(part).cast("B") for part in parts]
    if os.writev(file, views) != sum(view.nbytes for view in views):
        raise MemoryError


def _read_whole(file: int) -> bytes:
    """What a memory file holds; closes it.

    Raises:
        media.decoding.reply_codec.InvalidReplyError: It is none, or larger than any message.
    """
    try:
        with open(file, "rb") as in_file:
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)  # fails for all but memory files
            in_file.seek(0)
            data = in_file.read(_MAX_ANSWER_BYTES + 1)
    except (OSError, ValueError) as error:
        raise reply_codec.InvalidReplyError("expected a memory file beside the message, found none") from error
    if len(data) > _MAX_ANSWER_BYTES:
        raise reply_codec.InvalidReplyError(f"expected at most {_MAX_ANSWER_BYTES} bytes, found more")
    return data


def _is_readable(connected: socket.socket, timeout_s: float) -> bool:
    """Wait; False if the socket is closed.

    Raises:
        TimeoutError: Nothing came.
    """
    poll = select.poll()
    poll.register(connected, select.POLLIN)
    events = poll.poll(timeout_s * 1000)
    if not events:
        raise TimeoutError
    return not events[0][1] & select.POLLNVAL
