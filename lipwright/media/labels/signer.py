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
from typing import Any, Final, NamedTuple
from uuid import UUID

import c2pa

from lipwright.errors import LabelError
from lipwright.media.headers import media_type_of_file
from lipwright.media.labels.credentials import Credentials
from lipwright.media.output.formats import MP4

_SOURCE_TYPES: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"  # IPTC's list, which C2PA takes over
CREATED_TYPE: Final = _SOURCE_TYPES + "trainedAlgorithmicMedia"
"""Made entirely by a trained algorithm: a video from a portrait."""
EDITED_TYPE: Final = _SOURCE_TYPES + "compositeWithTrainedAlgorithmicMedia"
"""Made partly by one: the face in a recorded video."""
_SOURCE_LABEL: Final = "source"
WATERMARK_ALGORITHM: Final = "lipwright.watermark.1"
"""Name of the invisible watermark in the assertion `c2pa.soft-binding`."""
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


class Provenance(NamedTuple):
    """What a manifest states about one result.

    Attributes:
        from_still: Whether the face came from a portrait, so that no part of the video was recorded.
        watermark_id: Identifier in the invisible watermark; None without one.
        source: The video or portrait, if it has a manifest (`has_manifest`), which becomes part of the new one.
    """

    from_still: bool
    watermark_id: str | None = None
    source: Path | None = None


class ManifestSigner:
    """Signs results with one certificate. Thread-safe, one file per call.

    Args:
        credentials: The signer's certificate and key.
        timestamp_url: URL of a time-stamping authority (RFC 3161); None for no time stamp.
    """

    def __init__(self, credentials: Credentials, timestamp_url: str | None = None) -> None:
        self.credentials = credentials
        self._timestamp_url = timestamp_url

    @cached_property
    def _context(self) -> c2pa.Context:
        return c2pa.Context.from_dict(_SETTINGS)

    def sign(self, video: Path, out: Path, provenance: Provenance, media_type: str = MP4.media_type) -> None:
        """Write `video` to `out` with a manifest. Identifiers are derived from the content.

        Args:
            video: A finished MP4 or QuickTime file.
            out: Output file; replaced.
            provenance: What the manifest states.
            media_type: Media type of the file.

        Raises:
            LabelError: Signing failed.
            OSError: The file cannot be written; ENOSPC if the disk is full.
        """
        with video.open("rb") as source:
            names = _Names(hashlib.file_digest(source, "sha256").digest())
        manifest = _manifest(names, provenance, media_type)
        who = self.credentials
        try:
            info = c2pa.C2paSignerInfo(who.algorithm, who.chain, who.private_key, self._timestamp_url)
            with (
                c2pa.Signer.from_info(info) as signer,
                c2pa.Builder(json.dumps(manifest), self._context) as builder,
                video.open("rb") as file,
                open(out, "w+b", opener=_private) as target,
            ):
                if provenance.source is not None:
                    with provenance.source.open("rb") as kept:
                        builder.add_ingredient(json.dumps(_source(names, provenance)), media_type_of_file(kept), kept)
                builder.sign(signer, media_type, file, target)
        except c2pa.C2paError as error:
            # The library does not report the cause of write errors.
            if shutil.disk_usage(out.parent).free < video.stat().st_size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out)) from error
            advice = "Ask the operator to run `lipwright doctor`."
            raise LabelError(f"The result could not be signed by {who.signer!r}: {error}. {advice}") from error


def has_manifest(path: Path) -> bool:
    """Return whether a file has a C2PA manifest that can be read. Call it in a decoder process: it parses the file."""
    try:
        with (
            path.open("rb") as file,
            c2pa.Reader(media_type_of_file(file), file, context=c2pa.Context.from_dict(_SETTINGS)),
        ):
            return True
    except c2pa.C2paError:
        return False


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


class _Names:
    """Identifiers of a manifest, derived from the content."""

    def __init__(self, digest: bytes) -> None:
        self.instance = str(UUID(bytes=digest[:16], version=4))
        self.source = str(UUID(bytes=digest[16:], version=4))


def _source(names: _Names, provenance: Provenance) -> dict[str, Any]:
    """Return the ingredient that the face comes from."""
    return {
        "title": "Source picture" if provenance.from_still else "Source video",
        "relationship": "inputTo" if provenance.from_still else "parentOf",
        "instance_id": f"xmp:iid:{names.source}",
        "label": _SOURCE_LABEL,
    }


def _actions(provenance: Provenance) -> list[dict[str, Any]]:
    source: dict[str, Any] = {"parameters": {"ingredientIds": [_SOURCE_LABEL]}}
    created: dict[str, Any] = {"action": "c2pa.created", "digitalSourceType": CREATED_TYPE}
    if provenance.from_still:
        actions = [created if provenance.source is None else created | source]
    else:
        actions = [{"action": "c2pa.opened", **source}, {"action": "c2pa.edited", "digitalSourceType": EDITED_TYPE}]
    if provenance.watermark_id is not None:
        actions.append({"action": "c2pa.watermarked.bound"})
    return actions


def _manifest(names: _Names, provenance: Provenance, media_type: str) -> dict[str, Any]:
    """Return the manifest of a result; all that it reveals about the source is the source's own manifest."""
    is_bare = provenance.source is None and not provenance.from_still  # an ingredient without a file
    assertions: list[dict[str, Any]] = [
        {
            "label": "c2pa.actions.v2",
            "data": {"actions": _actions(provenance), "allActionsIncluded": True},
            "created": True,
        }
    ]
    if provenance.watermark_id is not None:
        binding = {"alg": WATERMARK_ALGORITHM, "blocks": [{"scope": {}, "value": provenance.watermark_id}], "pad": ""}
        assertions.append({"label": "c2pa.soft-binding", "data": binding, "created": True})
    return {
        "claim_generator_info": [{"name": "Lipwright", "version": version("lipwright")}],
        "title": "Lipwright video",
        "format": media_type,
        "label": f"urn:c2pa:{names.instance}",
        "instance_id": f"xmp:iid:{names.instance}",
        "ingredients": [{**_source(names, provenance), "format": MP4.media_type}] if is_bare else [],
        "assertions": assertions,
    }
