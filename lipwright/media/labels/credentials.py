"""Signing credentials: the operator's certificate and key, or a generated test chain."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lipwright.config import LabelsConfig
from lipwright.errors import ConfigError

TEST_ORGANISATION: Final = "Lipwright TEST, not trusted"
"""Organisation in the subject of every test certificate, shown as the signer."""
_TEST_FILE: Final = "labels/TEST-not-trusted.pem"
_TEST_DAYS: Final = 3650
_EC_ALGORITHMS: Final = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


@dataclass(frozen=True)
class Credentials:
    """Certificate chain and key.

    Attributes:
        algorithm: C2PA name of the algorithm.
        chain: PEM: the signer's certificate first, then its issuers.
        private_key: PEM, PKCS 8.
        expires_at: When the first certificate of the chain expires.
        signer: Common name of the signer.
        is_test: Whether this is the untrusted test chain.
    """

    algorithm: str
    chain: bytes
    private_key: bytes
    expires_at: datetime
    signer: str
    is_test: bool

    def __repr__(self) -> str:
        """Omit the key, which must not appear in logs."""
        return f"Credentials({self.signer!r}, {self.algorithm}, until {self.expires_at:%Y-%m-%d})"


def load_credentials(settings: LabelsConfig, data_dir: Path) -> Credentials:
    """Read the operator's certificate and key, or the test chain of the data folder, which is created if missing.

    Raises:
        ConfigError: One of them cannot be read, they do not match, or the certificate is not valid now.
    """
    if settings.certificate is None or settings.private_key is None:
        path = data_dir / _TEST_FILE
        if not path.is_file():
            _make_test_file(path)
        pem = _read(path, "test certificate")
        return _check(pem, pem, is_test=True)
    chain = _read(settings.certificate, "labels.certificate")
    return _check(chain, _read(settings.private_key, "labels.private_key"), is_test=False)


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{what}: {path} cannot be read: {error.strerror}.") from error


def _check(chain_pem: bytes, key_pem: bytes, *, is_test: bool) -> Credentials:
    try:
        chain = x509.load_pem_x509_certificates(chain_pem)
    except ValueError as error:
        raise ConfigError(
            "labels.certificate: expected PEM certificates, the signer's first; none could be read."
        ) from error
    try:
        key = load_pem_private_key(key_pem, None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"labels.private_key: expected a PEM key without a password: {error}.") from error
    if key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != chain[
        0
    ].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
        raise ConfigError("labels.private_key: the key does not match the first certificate.")
    expires_at = min(certificate.not_valid_after_utc for certificate in chain)
    begins_at = max(certificate.not_valid_before_utc for certificate in chain)
    if not begins_at <= datetime.now(UTC) <= expires_at:
        raise ConfigError(
            f"labels.certificate: not valid now, only from {begins_at:%Y-%m-%d} to {expires_at:%Y-%m-%d}."
        )
    return Credentials(
        algorithm=_algorithm(key),
        chain=b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain),
        private_key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        expires_at=expires_at,
        signer=_common_name(chain[0]),
        is_test=is_test,
    )


def _algorithm(key: PrivateKeyTypes) -> str:
    """Return the C2PA name of a key's signature algorithm (C2PA 2.2, 13.2)."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _EC_ALGORITHMS:
        return _EC_ALGORITHMS[key.curve.name]
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048:
        return "ps256"
    raise ConfigError(
        "labels.private_key: expected Ed25519, an elliptic curve (P-256, P-384 or P-521), or RSA with at least 2048 "
        f"bits, found {type(key).__name__}."
    )


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()


def _make_test_file(path: Path) -> None:
    """Write key, signer and root to one file. If several processes do so at the same time, the first one wins."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    with open(draft, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(_test_chain(datetime.now(UTC)))
        file.flush()
        os.fsync(file.fileno())
    try:
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()


def _test_chain(now: datetime) -> bytes:
    """Create a root whose key is discarded, and a signer below it: C2PA rejects self-signed signers."""
    root_key, key = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()
    root_name = _test_name("TEST root of a Lipwright service (not trusted)")
    root = (
        _certificate(root_name, root_name, root_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(root_key, None)
    )
    signer_name = _test_name("TEST signer of a Lipwright service (not trusted)")
    signer = (
        _certificate(signer_name, root_name, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        # C2PA 2.2, 14.5.1: a signer without a dedicated purpose needs e-mail protection.
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
        .sign(root_key, None)
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + signer.public_bytes(Encoding.PEM) + root.public_bytes(Encoding.PEM)


def _test_name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, TEST_ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _certificate(
    subject: x509.Name, issuer: x509.Name, public_key: ed25519.Ed25519PublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=_TEST_DAYS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
