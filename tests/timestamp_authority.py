"""A time-stamping authority (RFC 3161) on loopback: HTTP in Python, stamps by `openssl ts`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.threads import QuietHandler, http_server

_CONFIG = """
[tsa]
serial = {folder}/serial
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
accuracy = secs:1
ess_cert_id_alg = sha256
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[stamper]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@contextmanager
def timestamp_authority(folder: Path) -> Iterator[str]:
    """Yields the URL of an authority with a certificate of its own; needs the command `openssl`."""
    config = folder / "tsa.cnf"
    config.write_text(_CONFIG.format(folder=folder), encoding="ascii")
    (folder / "serial").write_text("01\n", encoding="ascii")
    _make_certificates(folder)

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            (folder / "query").write_bytes(self.body())
            _openssl(
                *("ts", "-reply", "-queryfile", "query", "-config", "tsa.cnf", "-section", "tsa"),
                *("-signer", "tsa.pem", "-inkey", "tsa.key", "-chain", "ca.pem", "-out", "reply"),
                folder=folder,
            )
            self.answer((folder / "reply").read_bytes(), Content_Type="application/timestamp-reply")

    with http_server(Handler) as port:
        yield f"http://127.0.0.1:{port}/"


def _make_certificates(folder: Path) -> None:
    """Writes a root and the stamper's certificate below it: C2PA rejects self-signed ones."""
    new = ("-newkey", "rsa:2048", "-nodes", "-config", "tsa.cnf")
    root = ("-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=Test root/O=Test")
    _openssl("req", "-x509", *new, *root, "-extensions", "authority", folder=folder)
    _openssl("req", *new, "-keyout", "tsa.key", "-out", "tsa.csr", "-subj", "/CN=Test TSA/O=Test", folder=folder)
    _openssl(
        *("x509", "-req", "-in", "tsa.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"),
        *("-out", "tsa.pem", "-extfile", "tsa.cnf", "-extensions", "stamper"),
        folder=folder,
    )


def _openssl(*arguments: str, folder: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)
