"""Ray's folder of sessions (sockets, logs, spilled objects), made private: Ray lets every user into its own folders."""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

# A UNIX socket's path has at most 107 bytes (unix(7)). Below its folder, Ray uses up to 64 of them, as in
# `/session_2026-11-28_05-44-08_504690_4194304/sockets/plasma_store`.
_MAX_FOLDER_BYTES: Final = 107 - 64


def ray_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder that a service started with `environment` uses, in the place that Ray would choose."""
    place = environment.get("RAY_TMPDIR") or environment.get("TMPDIR") or "/tmp"
    return Path(place).absolute() / f"lipwright-{os.getuid()}" / "ray"


def make_ray_folder(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Create the folder around Ray's, which only this user can enter, and return Ray's.

    If another user has created a folder of that name, a new one is used. Returns None, which means Ray's default, if
    the folder cannot be created or its path is too long for sockets.
    """
    folder = ray_folder(environment)
    try:
        around = folder.parent
        around.parent.mkdir(parents=True, exist_ok=True)
        if not _is_made_private(around):
            around = Path(tempfile.mkdtemp(prefix="lipwright-", dir=around.parent))
        folder = around / folder.name
    except OSError as error:
        logger.warning("%s: cannot create Ray's folder, other users may read Ray's default one: %s", folder, error)
        return None
    if len(os.fsencode(folder)) > _MAX_FOLDER_BYTES:
        logger.warning("%s: too long for Ray's sockets; other users may read Ray's default folder", folder)
        return None
    return folder


def _is_made_private(folder: Path) -> bool:
    """Create a folder for this user only, unless it exists; return False if it is not a folder of this user."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            return False
        folder.chmod(0o700)
    return True
