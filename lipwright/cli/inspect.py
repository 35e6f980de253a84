"""`lipwright inspect`: reads the synthetic-media labels of a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from lipwright.cli.terminal import UsageError

_EXIT_UNLABELLED, _EXIT_BROKEN = 3, 4


def inspect(
    file: Annotated[Path, typer.Argument(help="An audio, video or image file.")],
    trust: Annotated[Path | None, typer.Option(help="PEM file with trusted certificates.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Read the labels of FILE: AIGC tag, C2PA manifest, invisible watermark and comment. Works offline.

    The exit status is 0 if FILE is labelled as synthetic, 3 if it has no label, 4 if a label is broken.
    """
    if not file.is_file():
        raise UsageError("input_invalid", f"{file} does not exist or is not a file.")
    from lipwright.config import MediaLimits
    from lipwright.media.labels.inspection import Verdict, inspect_labels

    anchors = None if trust is None else trust.read_text(encoding="ascii", errors="replace")
    labels = inspect_labels(file, MediaLimits(), anchors)
    if as_json:
        print(json.dumps(labels.as_dict(), indent=2, ensure_ascii=False))
    else:
        print("\n".join(labels.describe()))
    if labels.verdict is not Verdict.SYNTHETIC:
        raise typer.Exit(_EXIT_BROKEN if labels.verdict is Verdict.BROKEN else _EXIT_UNLABELLED)
