"""Checks FFmpeg (encoders of results, decoders of uploads, their sandbox) and the certificate that signs results."""

from __future__ import annotations

import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from lipwright.config import DecoderConfig, LabelsConfig
from lipwright.doctor.report import CheckResult, ok, problem, size, warning
from lipwright.errors import ConfigError
from lipwright.media.decoding.decoder import Decoders
from lipwright.media.decoding.memory_budget import budget_bytes
from lipwright.media.decoding.sandbox import missing_layers
from lipwright.media.labels.labeller import Labeller
from lipwright.media.output.formats import H264Encoder
from lipwright.media.self_test import DECODERS, missing_decoders, try_round_trip, unreadable_samples

_RENEW_DAYS: Final = 30
_MEND: Final = "Set labels.certificate and labels.private_key to a C2PA signing certificate of yours (docs/labels.md)."


def check_labels(settings: LabelsConfig, data_dir: Path, now: datetime) -> CheckResult:
    """Signs a test video with the operator's certificate; creates nothing if there is none."""
    expected = "results that carry a tag and a signed manifest"
    if off := [name for name in ("metadata", "c2pa", "invisible") if not getattr(settings, name)]:
        return warning(
            f"switched off: {' and '.join(f'labels.{name}' for name in off)}",
            expected,
            "docs/labels.md lists which jurisdictions require which label.",
        )
    if settings.certificate is None:
        found = "results are signed with an untrusted test certificate of this service"
        return warning(found, "a certificate of yours", _MEND)
    try:
        labeller = Labeller(settings, data_dir)
        labeller.check_signing()
    except ConfigError as error:
        return problem(str(error), expected, _MEND)
    assert labeller.credentials is not None
    until = f"{labeller.credentials.signer}, until {labeller.credentials.expires_at:%Y-%m-%d}"
    if labeller.credentials.expires_at < now + timedelta(days=_RENEW_DAYS):
        fix = "Renew it and restart the service: once it has expired, jobs fail with label_failed."
        return warning(until, f"a certificate that is valid for at least {_RENEW_DAYS} days", fix)
    return ok(until)


_FIX: Final = "Install PyAV's own wheel, which includes FFmpeg with all of them: pip install --force-reinstall av."
_FIX_SANDBOX: Final = (
    "Use a kernel from 5.13 with Landlock enabled (lsm=landlock,...) and install libseccomp2; in a container, "
    "allow landlock_* and seccomp in its profile. Do not serve untrusted callers before that."
)
_FIX_NVENC: Final = (
    "Install NVIDIA's driver on a machine whose GPU has NVENC (A100 and H100 have none; in a container: "
    "NVIDIA_DRIVER_CAPABILITIES=all), or set render.encoder to x264."
)
_TIMEOUT_S: Final = 60.0


def check_sandbox(config: DecoderConfig) -> CheckResult:
    """Checks in a decoder process which layers of the sandbox are active."""
    expected = "no new privileges, Landlock and seccomp active in decoders"
    if not config.sandbox:
        return warning("disabled", expected, "Remove decoder.sandbox from the settings.")
    with Decoders(config) as decoders:
        missing = decoders.run(missing_layers, file=Path("doctor"), timeout_s=_TIMEOUT_S)
    if missing:
        return warning(f"without {missing}", expected, _FIX_SANDBOX)
    return ok(f"{expected}; memory budget of all decoders: {size(budget_bytes(config.max_shared_memory_bytes))}")


def check_encoders(encoder: H264Encoder = "x264") -> CheckResult:
    """Checks H.264 and AAC: writes a file as a job does, reads it back and compares."""
    expected = f"{encoder} and AAC in MP4"
    with tempfile.TemporaryDirectory() as folder:
        try:
            try_round_trip(Path(folder), encoder)
        except Exception as error:  # an FFmpeg without the encoder raises errors of any class
            fix = _FIX if encoder == "x264" else _FIX_NVENC
            return problem(f"{type(error).__name__}: {error}", f"{expected}, read back", fix)
    return ok(f"{expected}: written, read back, equal")


def check_decoders() -> CheckResult:
    """Checks the formats of uploads."""
    missing = missing_decoders()
    with tempfile.TemporaryDirectory() as folder:
        unreadable = unreadable_samples(Path(folder))
    if unreadable:
        return problem("; ".join(unreadable), "readable sample files of each format", _FIX)
    if missing:
        return warning(f"without {', '.join(missing)}: such files are rejected", "all of them", _FIX)
    return ok(f"{len(DECODERS)} codecs in all supported formats; samples were read")
