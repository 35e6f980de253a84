"""Signs the C2PA 2 manifest of a result: what was done to it, by which program, bound to its bytes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import c2pa

from errors import LabelError
from media.labels.credentials import Credentials

_SOURCE_TYPES: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"  # IPTC's list, which C2PA takes over
CREATED_TYPE: Final = _SOURCE_TYPES + "trainedAlgorithmicMedia"
"""Made entirely by a trained algorithm: a video from a portrait."""
EDITED_TYPE: Final = _SOURCE_TYPES + "compositeWithTrainedAlgorithmicMedia"
"""Made partly by one: the face in a recorded video."""
_FORMAT: Final = "video/mp4"
_SOURCE_LABEL: Final = "source"
PURPOSES: Final = {
    "1.3.6.1.5.5.7.3.4": "e-mail protection",
    "1.3.6.1.5.5.7.3.36": "document signing (RFC 9336)",
    "1.3.6.1.4.1.62558.2.1": "C2PA claim signing",
}
"""Extended key usages of certificates that may sign a manifest (C2PA 2.2, 14.5.1, and the C2PA certificate policy)."""
TRUST_CONFIG: Final = "\n".join(PURPOSES)
"""The same as the library's setting `trust.trust_config`."""
# Nothing is fetched: no trust list, no revocation status, no remote manifests. Thumbnails are not needed.
_SETTINGS: Final = {
    "builder": {"thumbnail": {"enabled": False}},
    "trust": {"trust_config": TRUST_CONFIG},
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_after_sign": True},
}


class ManifestSigner:
    """Signs results with one certificate. Thread-safe, one file per call.

    Args:
        credentials: The signer's certificate and key.
    """

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials

    @cached_property
    def _context(self) -> c2pa.Context:
        return c2pa.Context.from_dict(_SETTINGS)

    def sign(self, video: Path, out: Path, *, from_still: bool) -> None:
        """Writes `video` to `out` with a manifest. Identifiers are derived from the content.

        Args:
            video: A finished MP4 file.
            out: Output file; replaced.
            from_still: Whether the face came from a portrait, so that no part of the video was recorded.

        Raises:
            LabelError: Signing failed.
            OSError: The file cannot be written; ENOSPC if the disk is full.
        """
        with video.open("rb") as source:
            names = _Names(hashlib.file_digest(source, "sha256").digest())
        manifest = created(names) if from_still else edited(names)
        try:
            who = self.credentials
            info = c2pa.C2paSignerInfo(who.algorithm, who.chain, who.private_key, None)
            with (
                c2pa.Signer.from_info(info) as signer,
                c2pa.Builder(json.dumps(manifest), self._context) as builder,
                video.open("rb") as source,
                open(out, "w+b", opener=_private) as target,
            ):
                builder.sign(signer, _FORMAT, source, target)
        except c2pa.C2paError as error:
            if (
                shutil.disk_usage(out.parent).free < video.stat().st_size
            ):  # the library does not report the cause of write errors
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out)) from error
            raise LabelError(f"The result could not be signed by {self.credentials.signer!r}: {error}.") from error


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


class _Names:
    """Identifiers of a manifest, derived from the content."""

    def __init__(self, digest: bytes) -> None:
        self.instance = str(UUID(bytes=digest[:16], version=4))
        self.source = str(UUID(bytes=digest[16:], version=4))


def created(names: _Names) -> dict[str, Any]:
    """Returns the manifest of a video made from a portrait."""
    return _manifest(names, [{"action": "c2pa.created", "digitalSourceType": CREATED_TYPE}], [])


def edited(names: _Names) -> dict[str, Any]:
    """Returns the manifest of a video whose face was animated; it reveals nothing about the source."""
    source = {
        "title": "Source video",
        "format": _FORMAT,
        "relationship": "parentOf",
        "instance_id": f"xmp:iid:{names.source}",
        "label": _SOURCE_LABEL,
    }
    actions: list[dict[str, Any]] = [
        {"action": "c2pa.opened", "parameters": {"ingredientIds": [_SOURCE_LABEL]}},
        {"action": "c2pa.edited", "digitalSourceType": EDITED_TYPE},
    ]
    return _manifest(names, actions, [source])


def _manifest(names: _Names, actions: list[dict[str, Any]], ingredients: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "claim_generator_info": [{"name": "Lipwright", "version": version("lipwright")}],
        "title": "Lipwright video",
        "format": _FORMAT,
        "label": f"urn:c2pa:{names.instance}",
        "instance_id": f"xmp:iid:{names.instance}",
        "ingredients": ingredients,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": actions, "allActionsIncluded": True}, "created": True}
        ],
    }
