"""Metadata tags of a result: the key `AIGC` of GB 45438-2025, and a comment."""

from __future__ import annotations

import json
from typing import Final

from config import LabelsConfig

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
