"""Reads the labels of a file: tags and C2PA manifests of any origin, and the invisible watermark."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import c2pa
from pydantic_core import from_json

from lipwright.config import MediaLimits
from lipwright.errors import MediaError
from lipwright.media.container import open_container
from lipwright.media.headers import media_type_of_file
from lipwright.media.labels.credentials import TEST_ORGANISATION
from lipwright.media.labels.labeller import AIGC_KEY, COMMENT, COMMENT_KEY
from lipwright.media.labels.signer import TRUST_CONFIG, WATERMARK_ALGORITHM
from lipwright.media.watermark.detector import Detection, detect_watermark

_SYNTHETIC_TYPES: Final = ("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "algorithmicMedia")
_LABELS: Final = {"1": "certainly", "2": "perhaps", "3": "suspected to be"}  # GB 45438-2025
_UNTRUSTED: Final = "signingCredential.untrusted"


class Verdict(StrEnum):
    """Summary of the labels of a file."""

    SYNTHETIC = "synthetic"  # at least one label says so, and none is broken
    UNLABELLED = "unlabelled"
    BROKEN = "broken"  # a label exists but is invalid or unreadable


@dataclass(frozen=True)
class Manifest:
    """A C2PA manifest.

    Attributes:
        state: `Valid`, `Trusted` (valid and signed by a trusted certificate) or `Invalid`.
        signer: Common name of the signer's certificate.
        issuer: Organisation of the signer.
        is_test: Whether it is a test certificate of a Lipwright service.
        generator: The program that claims to have made the file.
        source_types: Last components of the IPTC digital source types of all actions.
        watermark_id: Identifier of the invisible watermark that it names; empty if it names none of Lipwright's.
        problems: Codes of validation failures, except that the signer is untrusted.
    """

    state: str
    signer: str
    issuer: str
    is_test: bool
    generator: str
    source_types: tuple[str, ...]
    watermark_id: str
    problems: tuple[str, ...]

    @property
    def is_synthetic(self) -> bool:
        """Whether it states that an algorithm made the content or part of it."""
        return any(name in _SYNTHETIC_TYPES for name in self.source_types)


@dataclass(frozen=True)
class FileLabels:
    """All labels of one file.

    Attributes:
        aigc: The object in the `AIGC` tag; None without a tag.
        is_aigc_broken: Whether the tag exists but is invalid.
        comment: The comment tag, of any origin.
        manifest: The C2PA manifest, if any.
        manifest_error: Why the manifest could not be read.
        watermark: Result of the search for the invisible watermark.
    """

    aigc: dict[str, Any] | None = None
    is_aigc_broken: bool = False
    comment: str = ""
    manifest: Manifest | None = None
    manifest_error: str = ""
    watermark: Detection = Detection()

    @property
    def verdict(self) -> Verdict:
        """The summary."""
        if (
            self.is_aigc_broken
            or self.manifest_error
            or (self.manifest is not None and self.manifest.state == "Invalid")
        ):
            return Verdict.BROKEN
        is_signed = self.manifest is not None and self.manifest.is_synthetic
        is_tagged = self.aigc is not None or self.comment == COMMENT
        return Verdict.SYNTHETIC if is_signed or is_tagged or self.watermark.identifier else Verdict.UNLABELLED

    def describe(self) -> list[str]:
        """Return a description in sentences."""
        return [
            _VERDICTS[self.verdict],
            *self._aigc_sentences(),
            *self._manifest_sentences(),
            *self._watermark_sentences(),
            *self._comment_sentences(),
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return the labels as JSON-compatible values."""
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
            "watermark": vars(self.watermark) if self.watermark.identifier else None,
        }

    def _aigc_sentences(self) -> Iterator[str]:
        if self.is_aigc_broken:
            yield "AIGC tag: present, but not the JSON object defined by GB 45438-2025."
        elif self.aigc is None:
            yield "AIGC tag: none."
        else:
            label = _LABELS.get(str(self.aigc.get("Label")), "unknown whether")
            maker = self.aigc.get("ContentProducer") or "an unnamed producer"
            yield f"AIGC tag: {label} generated; made by {maker}, number {self.aigc.get('ProduceID') or 'none'}."

    def _manifest_sentences(self) -> Iterator[str]:
        if self.manifest_error:
            yield f"C2PA manifest: present, but unreadable: {self.manifest_error}."
        elif self.manifest is None:
            yield "C2PA manifest: none."
        else:
            yield f"C2PA manifest: {_describe_state(self.manifest)}"
            types = ", ".join(self.manifest.source_types) or "no digital source type"
            yield f"Written by {self.manifest.generator or 'an unnamed program'}; it states: {types}."

    def _watermark_sentences(self) -> Iterator[str]:
        found = self.watermark
        if not found.identifier:
            yield "Invisible watermark: none found."
            return
        yield (
            f"Invisible watermark: Lipwright's, with the identifier {found.identifier}. {found.confidence:.0%} of its "
            f"bits were received correctly; in a video without it, the probability of a find is below "
            f"{found.false_positive_rate:.0e}."
        )
        for other in found.others:
            yield f"A second watermark, with the identifier {other}: an earlier result was used as the source."

    def _comment_sentences(self) -> Iterator[str]:
        if self.comment == COMMENT:
            yield f"Comment: {self.comment}"


_VERDICTS: Final = {
    Verdict.SYNTHETIC: "Synthetic: the file states that it was made or changed by an algorithm.",
    Verdict.UNLABELLED: "Unlabelled: the file does not state how it was made. That does not mean it is genuine.",
    Verdict.BROKEN: "Broken: a label is present, but the file was changed afterwards, or the label cannot be read.",
}


def inspect_labels(path: Path, limits: MediaLimits, anchors: str | None = None) -> FileLabels:
    """Read the labels of any audio, video or picture file.

    Args:
        path: The file.
        limits: Limits for opening it.
        anchors: Trusted PEM certificates; without them, no signer is trusted.

    Raises:
        MediaError: It is not such a file.
        MediaLimitError: It exceeds a limit.
    """
    tags = _tags(path, limits)
    manifest, error = _manifest(path, anchors)
    aigc, is_broken = _aigc(tags.get(AIGC_KEY))
    return FileLabels(aigc, is_broken, tags.get(COMMENT_KEY, ""), manifest, error, _watermark(path, limits))


def inspect_as_json(path: Path, limits: MediaLimits) -> str:
    """Return `FileLabels.as_dict` and, as `description`, its sentences: a reply that a decoder process can send."""
    labels = inspect_labels(path, limits)
    return json.dumps({**labels.as_dict(), "description": labels.describe()})


def _watermark(path: Path, limits: MediaLimits) -> Detection:
    try:
        return detect_watermark(path, limits)
    except MediaError:  # no video
        return Detection()


def _tags(path: Path, limits: MediaLimits) -> dict[str, str]:
    with open_container(path, limits) as container:
        return dict(container.metadata)


def _aigc(text: str | None) -> tuple[dict[str, Any] | None, bool]:
    if text is None:
        return None, False
    try:
        found = from_json(text)
    except ValueError:
        return None, True
    return (found, False) if isinstance(found, dict) and "Label" in found else (None, True)


def _manifest(path: Path, anchors: str | None) -> tuple[Manifest | None, str]:
    """Return the active manifest, or why it cannot be read."""
    settings: dict[str, Any] = {
        "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
        "trust": {"trust_config": TRUST_CONFIG},
    }
    if anchors is not None:
        settings["trust"]["trust_anchors"] = anchors
        settings["verify"]["verify_trust"] = True
    try:
        context = c2pa.Context.from_dict(settings)
        with path.open("rb") as file, c2pa.Reader(media_type_of_file(file), file, context=context) as reader:
            return _parse(json.loads(reader.json()), reader.get_validation_state()), ""
    except c2pa.C2paError.ManifestNotFound:
        return None, ""
    except c2pa.C2paError.NotSupported:
        return None, ""
    except c2pa.C2paError as error:
        return None, str(error)


def _parse(store: dict[str, Any], state: str | None) -> Manifest:
    active = store["manifests"][store["active_manifest"]]
    signature = active.get("signature_info") or {}
    failures = [status["code"] for status in store.get("validation_status", ())]
    issuer = str(signature.get("issuer") or "")
    return Manifest(
        state=state or "Invalid",
        signer=str(signature.get("common_name") or "an unnamed signer"),
        issuer=issuer,
        is_test=issuer == TEST_ORGANISATION,
        generator=_generator(active),
        source_types=tuple(_source_types(active)),
        watermark_id=_watermark_id(active),
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


def _watermark_id(active: dict[str, Any]) -> str:
    for assertion in active.get("assertions", ()):
        binding = assertion.get("data") or {}
        if assertion.get("label") == "c2pa.soft-binding" and binding.get("alg") == WATERMARK_ALGORITHM:
            blocks = binding.get("blocks") or [{}]
            return str(blocks[0].get("value") or "")
    return ""


def _describe_state(manifest: Manifest) -> str:
    by = f"signed by {manifest.signer!r} ({manifest.issuer})"
    if manifest.state == "Invalid":
        return f"not valid ({', '.join(manifest.problems) or 'no reason given'}), {by}."
    if manifest.is_test:
        return f"valid, {by}: a test certificate that anyone can create. It does not prove who made the file."
    if manifest.state == "Trusted":
        return f"valid and trusted, {by}."
    return f"valid, {by}; it is not known whether this signer is trustworthy (use --trust to add trusted certificates)."
