"""A web server on loopback that sends given bytes and counts its clients."""

from __future__ import annotations

import contextlib
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

Send = Callable[[bytes], None]
Script = Callable[[str, Send], None]
"""Answers one request: gets its path and a function that sends bytes."""


@dataclass
class Web:
    host: str
    port: int = 0
    num_connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    closed: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str, host: str = "", scheme: str = "http") -> str:
        return f"{scheme}://{host or self.host}:{self.port}{path}"


@contextmanager
def serving(script: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[Web]:
    web = Web(host)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            web.num_connections += 1
            with contextlib.suppress(OSError):
                line = self.request if tls is None else tls.wrap_socket(self.request, server_side=True)
                web.requests.append(read_request(line.recv))
                script(web.requests[-1].split(b" ")[1].decode(), line.sendall)
                line.close()
            web.closed.set()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server((host, 0), Handler) as server:
        web.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield web
        finally:
            server.shutdown()


def read_request(recv: Callable[[int], bytes]) -> bytes:
    """One request with its body; what came of it, if the line ends early."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (piece := recv(65536)):
            return data
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(at.split(b":")[1]) for at in head.split(b"\r\n") if at.lower().startswith(b"content-length")), 0)
    while len(body) < length and (piece := recv(65536)):
        body += piece
    return head + b"\r\n\r\n" + body


def answer(body: bytes, status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@contextmanager
def canary(host: str = "127.0.0.1") -> Iterator[Web]:
    """A server that nobody may come to; the test fails if somebody does."""
    with serving(lambda path, send: send(answer(b"secret of the inside")), host=host) as web:
        yield web
        if web.num_connections:
            pytest.fail(f"somebody came to the canary: {web.requests}")


def tls_pair(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate of its own for `name`, and a client's that trusts it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cadata=certificate.public_bytes(serialization.Encoding.PEM).decode())
