"""What a file says of itself: tags and manifests, ours or anybody's, read back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Final

import c2pa

from config import MediaLimits
from media.container import open_container
from media.file_type import HEAD_BYTES, media_type_of
from media.labels.credentials import TEST_ORGANISATION
from media.labels.signer import TRUST_CONFIG
from media.labels.tags import AIGC_KEY, COMMENT, COMMENT_KEY

_SYNTHETIC_TYPES: Final = ("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "algorithmicMedia")
_LABELS: Final = {"1": "certainly", "2": "perhaps", "3": "suspected to be"}  # GB 45438-2025
_UNTRUSTED: Final = "signingCredential.untrusted"


class Verdict(StrEnum):
    """What the labels of a file come to."""

    SYNTHETIC = "synthetic"  # at least one label says so, and none is broken
    UNLABELLED = "unlabelled"
    BROKEN = "broken"  # a label is there, and it was changed or cannot be read


@dataclass(frozen=True)
class Manifest:
    """A C2PA manifest as it was found.

    Attributes:
        state: `Valid`, `Trusted` (valid, and signed by one of the certificates that are trusted) or `Invalid`.
        signer: Common name of the signer's certificate.
        issuer: Organisation of it.
        is_test: Whether it is a test certificate of a Lipwright service.
        generator: The program that says it made the file.
        source_types: Ends of the IPTC digital source types of all actions.
        problems: Codes of what is wrong beside a signer whom nobody here trusts.
    """

    state: str
    signer: str
    issuer: str
    is_test: bool
    generator: str
    source_types: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def is_synthetic(self) -> bool:
        """Whether it says that an algorithm made the content, or part of it."""
        return any(name in _SYNTHETIC_TYPES for name in self.source_types)


@dataclass(frozen=True)
class FileLabels:
    """All labels of one file.

    Attributes:
        aigc: The object of the `AIGC` tag; None without one.
        is_aigc_broken: Whether that tag is there and is no such object.
        comment: The comment, whoever wrote it.
        manifest: None without one.
        manifest_error: Why a manifest that is there could not be read.
    """

    aigc: dict[str, Any] | None = None
    is_aigc_broken: bool = False
    comment: str = ""
    manifest: Manifest | None = None
    manifest_error: str = ""

    @property
    def verdict(self) -> Verdict:
        """What they come to."""
        if (
            self.is_aigc_broken
            or self.manifest_error
            or (self.manifest is not None and self.manifest.state == "Invalid")
        ):
            return Verdict.BROKEN
        is_signed = self.manifest is not None and self.manifest.is_synthetic
        is_tagged = self.aigc is not None or self.comment == COMMENT
        return Verdict.SYNTHETIC if is_signed or is_tagged else Verdict.UNLABELLED

    def describe(self) -> list[str]:
        """What the file is, in sentences."""
        return [_VERDICTS[self.verdict], *self._aigc_in_words(), *self._manifest_in_words(), *self._comment_in_words()]

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON knows it."""
        manifest = None
        if self.manifest is not None:
            manifest = {**vars(self.manifest), "is_synthetic": self.manifest.is_synthetic}
        return {
            "verdict": self.verdict.value,
            "aigc": self.aigc,
            "is_aigc_broken": self.is_aigc_broken,
            "comment": self.comment,
            "c2pa": manifest,
            "c2pa_error": self.manifest_error,
        }

    def _aigc_in_words(self) -> Iterator[str]:
        if self.is_aigc_broken:
            yield "AIGC tag: there is one, but it is not the JSON object that GB 45438-2025 describes."
        elif self.aigc is None:
            yield "AIGC tag: none."
        else:
            label = _LABELS.get(str(self.aigc.get("Label")), "by an unknown label")
            maker = self.aigc.get("ContentProducer") or "nobody named"
            yield f"AIGC tag: {label} generated; made by {maker}, number {self.aigc.get('ProduceID') or 'none'}."

    def _manifest_in_words(self) -> Iterator[str]:
        if self.manifest_error:
            yield f"C2PA manifest: there is one, but it cannot be read: {self.manifest_error}."
        elif self.manifest is None:
            yield "C2PA manifest: none."
        else:
            yield f"C2PA manifest: {_state_in_words(self.manifest)}"
            types = ", ".join(self.manifest.source_types) or "nothing about how it was made"
            yield f"It was written by {self.manifest.generator or 'an unnamed program'} and says: {types}."

    def _comment_in_words(self) -> Iterator[str]:
        if self.comment == COMMENT:
            yield f"Comment: {self.comment}"


_VERDICTS: Final = {
    Verdict.SYNTHETIC: "Synthetic: the file says that it was made, or changed, by an algorithm.",
    Verdict.UNLABELLED: "Unlabelled: the file says nothing of how it was made. That does not make it genuine.",
    Verdict.BROKEN: "Broken: a label is there, but the file was changed after it, or the label cannot be read.",
}


def inspect_labels(path: Path, limits: MediaLimits, anchors: str | None = None) -> FileLabels:
    """Read the labels of any sound, video or picture file.

    Args:
        path: The file.
        limits: Bounds of opening it.
        anchors: PEM certificates to trust; without any, no signer is trusted.

    Raises:
        MediaError: It is no such file.
        MediaLimitError: It passes a limit.
    """
    tags = _tags(path, limits)
    manifest, error = _manifest(path, anchors)
    aigc, is_broken = _aigc(tags.get(AIGC_KEY))
    return FileLabels(aigc, is_broken, tags.get(COMMENT_KEY, ""), manifest, error)


def _tags(path: Path, limits: MediaLimits) -> dict[str, str]:
    with open_container(path, limits) as container:
        return dict(container.metadata)


def _aigc(text: str | None) -> tuple[dict[str, Any] | None, bool]:
    if text is None:
        return None, False
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None, True
    return (found, False) if isinstance(found, dict) and "Label" in found else (None, True)


def _manifest(path: Path, anchors: str | None) -> tuple[Manifest | None, str]:
    """The active manifest, and why one that is there cannot be read."""
    settings: dict[str, Any] = {
        "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
        "trust": {"trust_config": TRUST_CONFIG},
    }
    if anchors is not None:
        settings["trust"]["trust_anchors"] = anchors
        settings["verify"]["verify_trust"] = True
    try:
        context = c2pa.Context.from_dict(settings)
        with path.open("rb") as file, c2pa.Reader(_type_of(file), file, context=context) as reader:
            return _told(json.loads(reader.json()), reader.get_validation_state()), ""
    except c2pa.C2paError.ManifestNotFound:
        return None, ""
    except c2pa.C2paError.NotSupported:
        return None, ""
    except c2pa.C2paError as error:
        return None, str(error)


def _told(store: dict[str, Any], state: str | None) -> Manifest:
    active = store["manifests"][store["active_manifest"]]
    signature = active.get("signature_info") or {}
    failures = [status["code"] for status in store.get("validation_status", ())]
    issuer = str(signature.get("issuer") or "")
    return Manifest(
        state=state or "Invalid",
        signer=str(signature.get("common_name") or "somebody unnamed"),
        issuer=issuer,
        is_test=issuer == TEST_ORGANISATION,
        generator=_generator(active),
        source_types=tuple(_source_types(active)),
        problems=tuple(code for code in failures if code != _UNTRUSTED),
    )


def _generator(active: dict[str, Any]) -> str:
    infos = active.get("claim_generator_info") or [{}]
    text = f"{infos[0].get('name') or active.get('claim_generator') or ''} {infos[0].get('version') or ''}"
    return text.strip()


def _source_types(active: dict[str, Any]) -> Iterator[str]:
    for assertion in active.get("assertions", ()):
        if str(assertion.get("label", "")).startswith("c2pa.actions"):
            for action in assertion.get("data", {}).get("actions", ()):
                if uri := action.get("digitalSourceType"):
                    yield str(uri).rsplit("/", 1)[-1]


def _state_in_words(manifest: Manifest) -> str:
    by = f"signed by {manifest.signer!r} ({manifest.issuer})"
    if manifest.state == "Invalid":
        return f"not valid ({', '.join(manifest.problems) or 'no reason given'}), {by}."
    if manifest.is_test:
        return f"valid, {by}: a test certificate that anybody can make. It proves nothing about who made the file."
    if manifest.state == "Trusted":
        return f"valid and trusted, {by}."
    return f"valid, {by}; whether to trust this signer is not known here (--trust names certificates that are)."


def _type_of(file: BinaryIO) -> str:
    head = file.read(HEAD_BYTES)
    file.seek(0)
    return media_type_of(head)
