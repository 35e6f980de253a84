"""Job requests: the priority that a caller may give them."""

from __future__ import annotations

import pytest

from errors import ForbiddenError
from jobs.model.spec import JobSpec
from jobs.requests import Caller, priority_of
from tests.unit.job_records import SOUND


@pytest.mark.parametrize(
    ("max_priority", "priority", "expected"),
    [(1, None, 0), (0, None, 0), (-1, None, -1), (1, 1, 1), (1, -1, -1), (-1, 0, None), (0, 1, None)],
)
def test_priority_of_spec_above_callers_is_forbidden(
    max_priority: int, priority: int | None, expected: int | None
) -> None:
    sent = {} if priority is None else {"priority": priority}
    spec, caller = JobSpec(audio=SOUND, avatar_id="a", **sent), Caller("key", max_priority)
    if expected is None:
        with pytest.raises(ForbiddenError, match=f"at most {max_priority} .* found {priority}"):
            priority_of(caller, spec)
    else:
        assert priority_of(caller, spec) == expected
