"""Sends to an SRT listener with libsrt (Haivision, MPL-2.0), which the system provides (Debian: libsrt1.5-gnutls).

Through ctypes: the FFmpeg inside PyAV's wheels has no SRT, and no package on PyPI contains libsrt for Python.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
from contextlib import suppress
from ctypes.util import find_library
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Address
from typing import Final, Self
from urllib.parse import unquote

from lipwright.net.push.destination import Destination, PushError, PushRefusedError
from lipwright.net.ssrf_guard import Address

MESSAGE_BYTES: Final = 1316
"""Payload of one packet in live mode: seven packets of a transport stream."""

_LIBRARIES: Final = ("srt-gnutls", "srt-openssl", "srt")
_FATAL_LOGS: Final = 2  # LOG_CRIT
# SRT_SOCKOPT in srt.h of libsrt 1.5.
_SNDSYN, _RCVSYN, _LATENCY, _PASSPHRASE, _PBKEYLEN, _CONNTIMEO, _STREAMID = 1, 2, 23, 26, 27, 36, 46
_WOULD_BLOCK: Final = 6001  # SRT_EASYNCSND
_CONNECTED: Final = 5  # SRTS_CONNECTED
_NO_REASON, _TIMEOUT = 0, 16  # SRT_REJ_UNKNOWN, SRT_REJ_TIMEOUT: the listener did not answer
_POLL_S: Final = 0.005
_PASSPHRASE_CHARS: Final = range(10, 80)
_KEY_BYTES: Final = ("16", "24", "32")
_MAX_STREAM_ID_BYTES: Final = 512
_MAX_LATENCY_MS: Final = 30_000


@dataclass(frozen=True)
class SrtOptions:
    """Options of a connection, from the query of its URL."""

    stream_id: str = ""
    passphrase: str = field(default="", repr=False)
    key_bytes: int = 0
    latency_ms: int = 0

    @classmethod
    def parse(cls, destination: Destination) -> Self:
        """Reads `streamid`, `passphrase`, `pbkeylen` and `latency`.

        Raises:
            PushRefusedError: An option is unknown or invalid.
        """
        query = destination.target.path.decode("ascii").partition("?")[2]
        options = {key: unquote(value) for key, _, value in (part.partition("=") for part in query.split("&") if part)}
        if options.pop("mode", "caller") != "caller":
            raise PushRefusedError(f"{destination}: expected mode=caller; the service does not listen.")
        stream_id, passphrase = options.pop("streamid", ""), options.pop("passphrase", "")
        key_bytes, latency = options.pop("pbkeylen", ""), options.pop("latency", "0")
        if options:
            raise PushRefusedError(f"{destination}: expected streamid, passphrase, pbkeylen or latency in the query.")
        if len(stream_id.encode()) > _MAX_STREAM_ID_BYTES:
            raise PushRefusedError(f"{destination}: expected a streamid of at most {_MAX_STREAM_ID_BYTES} bytes.")
        if passphrase and len(passphrase.encode()) not in _PASSPHRASE_CHARS:
            raise PushRefusedError(f"{destination}: expected a passphrase of 10 to 79 characters.")
        if key_bytes not in ("", *_KEY_BYTES):
            raise PushRefusedError(f"{destination}: expected pbkeylen 16, 24 or 32.")
        if not latency.isdecimal() or int(latency) > _MAX_LATENCY_MS:
            raise PushRefusedError(f"{destination}: expected latency in milliseconds, at most {_MAX_LATENCY_MS}.")
        return cls(stream_id, passphrase, int(key_bytes or 0), int(latency))


class SrtCaller:
    """A connection; made by `connect`."""

    def __init__(self, destination: Destination, number: int) -> None:
        self._destination, self._socket = destination, number

    @classmethod
    async def connect(cls, destination: Destination, timeout_s: float) -> SrtCaller:
        """Connects to a checked address.

        Raises:
            PushError: The listener cannot be reached.
            PushRefusedError: It does not accept the stream, an option is invalid, or libsrt is not installed.
            UrlRefusedError: The addresses of the host are not allowed.
        """
        options = SrtOptions.parse(destination)
        addresses = await destination.addresses()
        if _library() is None:
            raise PushRefusedError("SRT needs the library libsrt (Debian: apt install libsrt1.5-gnutls).")
        for number, address in enumerate(addresses):
            caller = cls(destination, _lib().srt_create_socket())
            try:
                caller._set(options, timeout_s / len(addresses))
                await asyncio.shield(asyncio.to_thread(caller._connect, address, destination.target.port))
            except BaseException as error:
                await asyncio.shield(caller.close())
                is_last = number == len(addresses) - 1
                if is_last or not isinstance(error, PushError):
                    raise
            else:
                return caller
        raise PushError(f"{destination}: the host has no address.")

    async def send(self, data: bytes) -> None:
        """Sends a part of a transport stream. Waits while the network is slow.

        Raises:
            PushError: The connection broke.
        """
        lib = _lib()
        for start in range(0, len(data), MESSAGE_BYTES):
            piece = data[start : start + MESSAGE_BYTES]
            while lib.srt_sendmsg2(self._socket, piece, len(piece), None) < 0:
                if lib.srt_getlasterror(None) != _WOULD_BLOCK or lib.srt_getsockstate(self._socket) != _CONNECTED:
                    raise PushError(f"{self._destination}: the connection was cut off.")
                await asyncio.sleep(_POLL_S)

    async def close(self) -> None:
        """Closes the connection."""
        await asyncio.to_thread(_lib().srt_close, self._socket)

    def _set(self, options: SrtOptions, timeout_s: float) -> None:
        # `srt_sendmsg2` does not wait, `srt_connect` does.
        numbers = {_SNDSYN: 0, _RCVSYN: 1, _CONNTIMEO: round(1000 * timeout_s)}
        if options.key_bytes:
            numbers[_PBKEYLEN] = options.key_bytes
        if options.latency_ms:
            numbers[_LATENCY] = options.latency_ms
        texts = {_STREAMID: options.stream_id.encode(), _PASSPHRASE: options.passphrase.encode()}
        values = {option: value.to_bytes(4, "little") for option, value in numbers.items()}
        for option, value in (values | {option: text for option, text in texts.items() if text}).items():
            if _lib().srt_setsockflag(self._socket, option, value, len(value)) < 0:
                raise PushRefusedError(f"{self._destination}: libsrt does not accept an option of the URL.")

    def _connect(self, address: Address, port: int) -> None:
        """Blocks until connected, at most as long as `_set` said."""
        place = _socket_address(address, port)
        if _lib().srt_connect(self._socket, place, len(place)) >= 0:
            return
        reason = _lib().srt_getrejectreason(self._socket)
        if reason in (_NO_REASON, _TIMEOUT):
            raise PushError(f"{self._destination}: connection failed.")
        text = (_lib().srt_rejectreason_str(reason) or b"").decode("ascii", "replace")
        raise PushRefusedError(f"{self._destination}: the listener does not accept the stream ({reason}: {text}).")


def _socket_address(address: Address, port: int) -> bytes:
    """Returns a `sockaddr_in` or `sockaddr_in6`."""
    family = (socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6).to_bytes(2, "little")
    place = port.to_bytes(2, "big")
    if isinstance(address, IPv4Address):
        return family + place + address.packed + bytes(8)
    return family + place + bytes(4) + address.packed + bytes(4)


@cache
def _library() -> ctypes.CDLL | None:
    """Loads and starts libsrt, once per process; None if it is not installed."""
    for name in _LIBRARIES:
        with suppress(OSError):
            if (path := find_library(name)) is not None:
                lib = ctypes.CDLL(path)
                lib.srt_rejectreason_str.restype = ctypes.c_char_p
                lib.srt_setloglevel(_FATAL_LOGS)  # its messages may quote stream IDs
                lib.srt_startup()
                return lib
    return None


def _lib() -> ctypes.CDLL:
    lib = _library()
    assert lib is not None, "`connect` checks it"
    return lib
