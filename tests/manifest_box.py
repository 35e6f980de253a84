"""The box of an MP4 file that holds its C2PA manifest: the one part of a result that differs from run to run.

The library salts the parts of a manifest at random, so their hashes and the signature differ too. All else is equal.
"""

from __future__ import annotations

import struct

_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")  # C2PA 2.2, A.5.1


def without_manifest(video: bytes) -> bytes:
    """The file with nothing in place of that box."""
    place = 0
    while place + 24 <= len(video):
        size, kind = struct.unpack_from(">I4s", video, place)
        if size == 1:
            (size,) = struct.unpack_from(">Q", video, place + 8)
        if kind == b"uuid" and video[place + 8 : place + 24] == _UUID:
            return video[:place] + video[place + size :]
        if size < 8:
            break
        place += size
    return video
