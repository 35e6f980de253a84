"""Checks the certificate that signs results."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from config import LabelsConfig
from doctor.check_result import CheckResult, ok, problem, warning
from errors import ConfigError
from media.labels.labeller import Labeller

_RENEW_DAYS: Final = 30
_MEND: Final = "Set labels.certificate and labels.private_key to a C2PA signing certificate of yours (docs/labels.md)."


def check_labels(settings: LabelsConfig, data_dir: Path, now: datetime) -> CheckResult:
    """Signs a test video with the operator's certificate; creates nothing if there is none."""
    expected = "results that carry a tag and a signed manifest"
    if off := [name for name in ("metadata", "c2pa", "invisible") if not getattr(settings, name)]:
        return warning(
            f"switched off: {' and '.join(f'labels.{name}' for name in off)}",
            expected,
            "See docs/labels.md for who asks for it.",
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
