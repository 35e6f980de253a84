"""Labels of results: tags that `result.concat` writes (GB 45438-2025), and the signature added later."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from lipwright.config import LabelsConfig
from lipwright.errors import ConfigError, LabelError
from lipwright.media.labels.blank_video import write_blank_video
from lipwright.media.labels.credentials import Credentials, load_credentials
from lipwright.media.labels.signer import ManifestSigner, Provenance
from lipwright.media.output.formats import MP4

AIGC_KEY: Final = "AIGC"
"""Name of the tag; FFmpeg writes it only with `movflags=use_metadata_tags` (key `AIGC` of the `mdta` handler)."""
COMMENT_KEY: Final = "comment"
COMMENT: Final = "Synthetic video made with Lipwright: the face was animated by a computer to speak this sound."
"""Shown by ordinary players. Part of every result: do not change it."""
SURELY_GENERATED: Final = "1"
"""Value of `Label`: certainly generated or synthesised (GB 45438-2025; "2" is perhaps, "3" suspected)."""
AIGC_FIELDS: Final = (
    "Label",
    "ContentProducer",
    "ProduceID",
    "ReservedCode1",
    "ContentPropagator",
    "PropagateID",
    "ReservedCode2",
)


def result_tags(settings: LabelsConfig, produce_id: str) -> dict[str, str]:
    """Return the tags of one video and of its preview; empty if disabled.

    Args:
        settings: Producer and propagator.
        produce_id: The producer's id of this video.
    """
    if not settings.metadata:
        return {}
    propagate_id = produce_id if settings.propagator else ""
    values = (SURELY_GENERATED, settings.producer, produce_id, "", settings.propagator, propagate_id, "")
    aigc = dict(zip(AIGC_FIELDS, values, strict=True))
    return {AIGC_KEY: json.dumps(aigc, ensure_ascii=False), COMMENT_KEY: COMMENT}


class Labeller:
    """Labels the results of one service.

    Args:
        settings: The requested labels.
        data_dir: Folder of the test certificate, which is used if the operator has none.

    Raises:
        ConfigError: The certificate is not usable.
    """

    def __init__(self, settings: LabelsConfig, data_dir: Path) -> None:
        self._settings = settings
        self.credentials: Credentials | None = load_credentials(settings, data_dir) if settings.c2pa else None
        self._signer = (
            ManifestSigner(self.credentials, settings.timestamp_url) if self.credentials is not None else None
        )

    def check_signing(self) -> None:
        """Sign a video of one frame.

        Raises:
            ConfigError: Signing failed.
        """
        with TemporaryDirectory() as folder:
            video = Path(folder) / "trial.mp4"
            write_blank_video(video)
            try:
                self.sign(video, Provenance(from_still=True))
            except LabelError as error:
                raise ConfigError(f"labels.certificate: not accepted for signing C2PA manifests: {error}") from error

    def sign(self, video: Path, provenance: Provenance, media_type: str = MP4.media_type) -> None:
        """Add a manifest to a finished file, in place; does nothing if disabled.

        Raises:
            LabelError: Signing failed. The file is unchanged.
        """
        if self._signer is None:
            return
        signed = video.with_name(f"signed-{video.name}")
        try:
            self._signer.sign(video, signed, provenance, media_type)
            signed.replace(video)
        finally:
            signed.unlink(missing_ok=True)
