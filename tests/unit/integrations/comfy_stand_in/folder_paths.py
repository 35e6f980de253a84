"""ComfyUI's folders."""

import atexit
import shutil
import tempfile

_TEMP = tempfile.mkdtemp(prefix="comfy-stand-in-")
atexit.register(shutil.rmtree, _TEMP, ignore_errors=True)


def get_temp_directory() -> str:
    return _TEMP
