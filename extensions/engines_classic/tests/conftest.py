"""The fixtures of the core's tests of engines, and what it does with `needs_cuda` and `endurance` tests."""

from tests.conftest import (  # noqa: F401
    anyio_backend,
    pytest_collection_modifyitems,
    pytest_runtest_setup,
    repo_root,
    samples,
)
from tests.unit.models.engines.conftest import (  # noqa: F401
    _forked_reader,
    avatar,
    frames,
    reading_process,
    reference,
)
from tests.unit.models.engines.contract import speech  # noqa: F401
