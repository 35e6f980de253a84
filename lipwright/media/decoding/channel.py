"""Datagrams with file descriptors, and frames in shared memory files, between two processes of this machine.

Requests to the decoder are pickled. Replies are encoded by `lipwright.media.decoding.reply_codec`, and the asking
process reads nothing else: unpickling a hostile reply would execute code.

A file is reused once its frames are no longer referenced. With a new file, the kernel would have to allocate, clear and
map its pages, which costs five times as much as the copy.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import pickle
import select
import socket
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, Self

import numpy as np

from lipwright.media.decoding import reply_codec
from lipwright.media.yuv_frame import YuvFrame

_MAX_INLINE_BYTES: Final = 64 * 1024
"""A datagram must fit the socket's buffer, 208 KiB by default; longer messages travel in a memory file."""
_INLINE: Final = b"i"
_IN_FILE: Final = b"f"
"""A long request, in a memory file that is sent with the datagram."""
_IN_REPLY_FILE: Final = b"r"
"""A long reply, in `Channel.reply_file`; the datagram holds its length."""
_MAX_FILES: Final = 2
_MAX_REPLY_BYTES: Final = 64 * 1024**2
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Message(NamedTuple):
    """A received message.

    Attributes:
        value: The value that was sent.
        file: The file descriptor that came with it; the receiver closes it.
    """

    value: Any
    file: int | None


class Channel:
    """One end of a Unix socket that preserves message boundaries.

    Use `send` and `receive` from one thread at a time, `close` from any.

    Attributes:
        reply_file: Descriptor of a memory file of fixed size for replies that do not fit a datagram. The asking process
            makes it, so that a decoder needs no right to allocate memory files, which its memory bounds do not cover.
            It holds one reply.
    """

    reply_file: int | None = None

    def __init__(
        self, connected: socket.socket, encode: Callable[[Any], bytes], decode: Callable[[bytes], Any], *, replies: bool
    ) -> None:
        self._socket = connected
        self._encode, self._decode = encode, decode
        self._replies = replies
        self._close_reply_file: Callable[[], object] = lambda: None
        self._lock = threading.Lock()

    @classmethod
    def pair(cls) -> tuple[Self, socket.socket]:
        """The end of the asking process, and the socket for the decoder."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        channel = cls(ours, pickle.dumps, reply_codec.decode, replies=False)
        channel.reply_file = memory_file("reply", _MAX_REPLY_BYTES)
        channel._close_reply_file = weakref.finalize(channel, os.close, channel.reply_file)
        return channel, theirs

    @classmethod
    def of_decoder(cls, theirs: socket.socket) -> Self:
        """The end of a decoder, which receives requests and sends replies."""
        return cls(theirs, reply_codec.encode, pickle.loads, replies=True)

    def send(self, value: object, file: int | None = None) -> None:
        """Send a value, and a copy of the file descriptor `file`; OSError if the peer is gone."""
        data = self._encode(value)
        files = [] if file is None else [file]
        if len(data) <= _MAX_INLINE_BYTES:
            self._send(_INLINE + data, files)
        elif self._replies:
            self._send(_IN_REPLY_FILE + self._write_reply(data), files)
        else:
            in_file = memory_file("request")
            try:
                write_whole(in_file, data)
                self._send(_IN_FILE, [*files, in_file])
            finally:
                os.close(in_file)

    def receive(self, timeout_s: float) -> Message:
        """Wait for one message.

        Raises:
            TimeoutError: No message arrived in time.
            EOFError: The peer is gone, or `close` was called.
            lipwright.media.decoding.reply_codec.InvalidReplyError: The message is invalid.
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
                value = self._decode(self._content(data[:1], data[1:], files))
                return Message(value, files.pop() if files else None)
            finally:
                for number in files:  # unexpected ones
                    os.close(number)

    def close(self) -> None:
        """Close the connection; a `receive` that waits in another thread ends at once."""
        with contextlib.suppress(OSError):  # the peer is gone, or this end is closed
            self._socket.shutdown(socket.SHUT_RDWR)
        # Wait for the other thread first: the descriptors could be reused for other files.
        with self._lock:
            self._socket.close()
            self.reply_file = None
            self._close_reply_file()

    def _content(self, kind: bytes, data: bytes, files: list[int]) -> bytes:
        """The encoded message; takes the file that holds it from `files`."""
        if kind == _INLINE:
            return data
        if kind == _IN_FILE and self._replies:
            with open(files.pop(), "rb") as file:
                file.seek(0)
                return file.read()
        if kind == _IN_REPLY_FILE and not self._replies:
            return self._read_reply(int.from_bytes(data, "big"))
        raise reply_codec.InvalidReplyError(f"expected a reply, found a message of kind {kind!r}")

    def _write_reply(self, data: bytes) -> bytes:
        if self.reply_file is None or len(data) > _MAX_REPLY_BYTES:
            raise ValueError(f"Expected a reply of at most {_MAX_REPLY_BYTES} bytes, got {len(data)}.")
        os.lseek(self.reply_file, 0, os.SEEK_SET)
        write_whole(self.reply_file, data)
        return len(data).to_bytes(8, "big")

    def _read_reply(self, num_bytes: int) -> bytes:
        if self.reply_file is None or num_bytes > _MAX_REPLY_BYTES:
            raise reply_codec.InvalidReplyError(f"expected at most {_MAX_REPLY_BYTES} bytes, found {num_bytes}")
        return os.pread(self.reply_file, num_bytes, 0)

    def _send(self, data: bytes, files: list[int]) -> None:
        if files:
            socket.send_fds(self._socket, [data], files)
        else:
            self._socket.send(data)


def memory_file(name: str, num_bytes: int | None = None) -> int:
    """Return the descriptor of a new file in memory, which lives as long as a process has it open or mapped.

    With `num_bytes`, its length is fixed: a process that could shorten it could crash those that have mapped it.
    """
    number = os.memfd_create(f"lipwright-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    if num_bytes is not None:
        os.ftruncate(number, num_bytes)
        fcntl.fcntl(number, fcntl.F_ADD_SEALS, _SEALS)
    return number


def write_whole(file: int, *parts: Any) -> None:
    """Write C-contiguous buffers from the file's position on; MemoryError if a memory file could not hold them."""
    views = [memoryview(part).cast("B") for part in parts]
    if os.writev(file, views) != sum(view.nbytes for view in views):
        raise MemoryError


def _is_readable(connected: socket.socket, timeout_s: float) -> bool:
    """Wait for a message; return False if the socket is closed, and raise TimeoutError if none arrives."""
    poll = select.poll()
    poll.register(connected, select.POLLIN)
    events = poll.poll(timeout_s * 1000)
    if not events:
        raise TimeoutError
    return not events[0][1] & select.POLLNVAL


_MAX_FREE_BYTES: Final = 96 * 1024**2  # of one reader: the batches of a chunk (64 MiB), which are released together


def frame_bytes(width: int, height: int) -> int:
    """Bytes of one frame of even size: its planes (H, W), (H/2, W/2), (H/2, W/2), one after the other."""
    return width * height * 3 // 2


def write_frame(file: int, planes: YuvFrame) -> None:
    """Append a frame to a memory file, at half the cost of filling mapped pages."""
    write_whole(file, *(np.ascontiguousarray(plane) for plane in planes))


class FrameBufferPool:
    """The memory files of one reader. Use from one thread; frames may be released in any.

    Readers share no files: a decoder that was taken over could keep one and read what is written to it later.
    """

    def __init__(self, num_frames: int, width: int, height: int) -> None:
        self._num_frames, self._width, self._height = num_frames, width, height
        file_bytes = num_frames * frame_bytes(width, height)
        self._free: deque[FrameBuffer] = deque(maxlen=max(_MAX_FREE_BYTES // file_bytes, 1))

    def take(self) -> FrameBuffer:
        """Return a file that is not in use."""
        try:
            return self._free.pop()
        except IndexError:
            return self.new()

    def new(self) -> FrameBuffer:
        """Return a new file, which no decoder has had."""
        return FrameBuffer(self._num_frames * frame_bytes(self._width, self._height))

    def frames(self, file: FrameBuffer, num_frames: int) -> Iterator[YuvFrame]:
        """Yield read-only views of the first frames in `file`, which is reused once all of them are released."""
        size, half = frame_bytes(self._width, self._height), (self._height // 2, self._width // 2)
        whole = np.frombuffer(file.mapped, np.uint8)
        # NumPy makes this array the base of every view, also of views of views: it lives as long as the last of them.
        weakref.finalize(whole, self._free.append, file).atexit = False
        for frame in whole[: num_frames * size].reshape(num_frames, size):
            y, u, v = np.split(frame, (self._width * self._height, self._width * self._height * 5 // 4))
            yield YuvFrame(y.reshape(self._height, self._width), u.reshape(half), v.reshape(half))


class FrameBuffer:
    """A memory file, mapped into this process; closed with the last reference to it."""

    def __init__(self, num_bytes: int) -> None:
        self.number = memory_file("frames", num_bytes)
        """Its file descriptor."""
        weakref.finalize(self, os.close, self.number)
        self.mapped = mmap.mmap(self.number, num_bytes, mmap.MAP_SHARED, mmap.PROT_READ)
        """All of it."""
