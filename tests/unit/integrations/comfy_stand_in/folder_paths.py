"""ComfyUI's folders."""

import tempfile

_TEMP = tempfile.mkdtemp(prefix="comfy-stand-in-")


def get_temp_directory() -> str:
    return _TEMP
