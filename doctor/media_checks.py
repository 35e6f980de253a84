"""FFmpeg: the encoders of results and the decoders of callers' files, each tried."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from config import DecoderConfig
from doctor.check_result import CheckResult, ok, problem, size, warning
from media.decoding.decoder import Decoders
from media.decoding.memory_budget import budget_bytes
from media.decoding.sandbox import missing_layers
from media.self_test import DECODERS, missing_decoders, try_round_trip, unreadable_samples

_MEND: Final = "Install PyAV's own wheel, which carries FFmpeg with all of them: pip install --force-reinstall av."
_CONFINE: Final = (
    "Use a kernel from 5.13 with Landlock switched on (lsm=landlock,...) and install libseccomp2; in a container, "
    "allow landlock_* and seccomp in its profile. Callers who are not trusted should wait for that."
)
_TRY_S: Final = 60.0


def check_sandbox(config: DecoderConfig) -> CheckResult:
    """What a decoder that a file took over could do, asked of one."""
    name, expected = "Decoder sandbox", "no new privileges, Landlock and seccomp in force in a decoder"
    if not config.sandbox:
        return warning(name, "switched off", expected, "Take decoder.sandbox out of the settings.")
    with Decoders(config) as decoders:
        lacking = decoders.run(missing_layers, file=Path("doctor"), timeout_s=_TRY_S)
    if lacking:
        return warning(name, f"without {lacking}", expected, _CONFINE)
    return ok(
        name, f"{expected}; one bound of {size(budget_bytes(config.max_shared_memory_bytes))} on the memory of all"
    )


def check_encoders() -> CheckResult:
    """Libx264 and AAC: written as a job writes them, read back and compared."""
    name = "Encoders"
    with tempfile.TemporaryDirectory() as folder:
        try:
            try_round_trip(Path(folder))
        except Exception as error:  # an FFmpeg without the encoder fails in ways of its own
            return problem(name, f"{type(error).__name__}: {error}", "libx264 and AAC in MP4, read back", _MEND)
    return ok(name, "libx264 and AAC in MP4: written, read back, equal")


def check_decoders() -> CheckResult:
    """The formats that callers may send."""
    name = "Decoders"
    missing = missing_decoders()
    with tempfile.TemporaryDirectory() as folder:
        unreadable = unreadable_samples(Path(folder))
    if unreadable:
        return problem(name, "; ".join(unreadable), "small files of each format that can be read", _MEND)
    if missing:
        return warning(name, f"without {', '.join(missing)}: such files are refused", "all of them", _MEND)
    return ok(name, f"{len(DECODERS)} codecs in all promised formats; samples were read")
