"""Runs espeak-ng with limits on CPU time, memory and files: text on standard input, a WAV file on standard output.

Executed by path, with the arguments PROGRAM, LANGUAGE and CPU_SECONDS; imports nothing from this project.
"""

from __future__ import annotations

import os
import resource
import sys
from typing import Final

_NICE: Final = 5  # rendering has priority
_MAX_MEMORY_BYTES: Final = 1 << 30


def main() -> None:
    """Set the limits and become espeak-ng."""
    program, language, cpu_seconds = sys.argv[1:]
    os.nice(_NICE)
    for limit, bound in (
        (resource.RLIMIT_CPU, int(cpu_seconds)),
        (resource.RLIMIT_AS, _MAX_MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (bound, bound))
    # Without -m, markup in the text is spoken or ignored, never followed. -b 1 is UTF-8.
    os.execv(program, [program, "--stdin", "--stdout", "-b", "1", "-v", language])


if __name__ == "__main__":
    main()
