"""Command-line options of faces and backgrounds, for avatars and live sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lipwright_client.calls import AvatarSettings

Face = Annotated[
    str,
    typer.Option(
        help="Which face: largest, speaking (who speaks most), person:N (see `lipwright avatars people`), an index by "
        "size, point:x,y or box:x0,y0,x1,y1."
    ),
]
Expressiveness = Annotated[
    float | None,
    typer.Option(min=0, max=2, help="Scale of the mouth movement; 1 is natural. Only warp accepts other values."),
]
Motion = Annotated[
    float | None, typer.Option(min=0, max=1, help="How far a still picture moves its head and eyes; 1 is natural.")
]
BackgroundId = Annotated[
    str | None, typer.Option(help="ID of a picture or video, stored on the service, as the background.")
]
BackgroundLoop = Annotated[
    str | None, typer.Option(help="What follows the end of a background video: loop (default), pingpong or hold.")
]
Matte = Annotated[
    str | None,
    typer.Option(help="How the person is cut out for a background: person, chroma (green or blue screen) or auto."),
]


def avatar_settings(
    expressiveness: float | None,
    motion: float | None,
    background: str | None,
    background_id: str | None,
    background_loop: str | None,
    matte: str | None,
) -> AvatarSettings:
    """Return the fields of these options."""
    settings: AvatarSettings = {"expressiveness": expressiveness, "motion": motion, "background_id": background_id}
    settings |= {"background_loop": background_loop, "matte": matte}
    return settings | background_field(background)


def background_field(background: str | None) -> AvatarSettings:
    """Return `background_file` for a file or a URL, otherwise `background`."""
    if background is not None and ("://" in background or Path(background).is_file()):
        return {"background_file": background}
    return {"background": background}
