"""What every test may use: where things lie, and which tests this machine can run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import NO_SERVER, PostgresServer, running_postgres, server_programs
from tests.s3_server import S3Server, running_s3

# Set before anything imports ray. A test's cluster lives on loopback for one session: a token would only be written
# into the home folder, which need not exist. Every process of the cluster inherits both.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Set by the user who runs the tests for a service of their own.
for _name in ("LIPWRIGHT_STATE", "PGPASSWORD", "LIPWRIGHT_FILES"):
    os.environ.pop(_name, None)

REPO_ROOT = Path(__file__).resolve().parents[1]
NO_GPU = "needs an NVIDIA GPU; FAIL_WITHOUT_CUDA=1 makes this a failure"
MANY_MINUTES = "takes many minutes; run it with `make test-faults`"


def _has_cuda() -> bool:
    import torch  # seconds to import, so only when a marked test was collected

    return torch.cuda.is_available()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip `needs_cuda` tests on a machine without a GPU, or leave them to fail when FAIL_WITHOUT_CUDA=1.

    `endurance` tests are skipped unless LIPWRIGHT_ENDURANCE=1.
    """
    if os.environ.get("LIPWRIGHT_ENDURANCE") != "1":
        for item in items:
            if item.get_closest_marker("endurance"):
                item.add_marker(pytest.mark.skip(reason=MANY_MINUTES))
    marked = [item for item in items if item.get_closest_marker("needs_cuda")]
    if not marked or os.environ.get("FAIL_WITHOUT_CUDA") == "1" or _has_cuda():
        return
    for item in marked:
        item.add_marker(pytest.mark.skip(reason=NO_GPU))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a `needs_cuda` test that was not skipped though there is no GPU."""
    if item.get_closest_marker("needs_cuda") and os.environ.get("FAIL_WITHOUT_CUDA") == "1" and not _has_cuda():
        pytest.fail("FAIL_WITHOUT_CUDA=1, and torch sees no NVIDIA GPU here.", pytrace=False)


class _FailureNames:
    """Prints the name of a failed test at once: a run that is killed prints no summary."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal is not None:
            terminal.write_line(f"\nFAILED {report.nodeid} ({report.when})", red=True)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_FailureNames(config))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say aloud how much was not tested: the GPU path, and what takes many minutes."""
    reasons = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    if num := sum(NO_GPU in reason for reason in reasons):
        terminalreporter.write_line(f"NOT TESTED: {num} tests need an NVIDIA GPU.", yellow=True)
    if num := sum(NO_SERVER in reason for reason in reasons):
        terminalreporter.write_line(f"NOT TESTED: {num} tests need a PostgreSQL server.", yellow=True)
    if num := sum(MANY_MINUTES in reason for reason in reasons):
        terminalreporter.write_line(f"NOT TESTED: {num} tests take minutes; `make test-faults` runs them.", yellow=True)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return REPO_ROOT


@pytest.fixture(scope="session")
def samples() -> Path:
    return REPO_ROOT / "samples"


@pytest.fixture(scope="session")
def sample_portrait(samples: Path) -> Path:
    found = sorted(samples.glob("portrait.*[gG]"))
    assert found, f"Expected portrait.jpg or portrait.png in {samples}."
    return found[0]


@pytest.fixture(scope="session")
def sample_video(samples: Path) -> Path:
    return samples / "presenter.mp4"


@pytest.fixture(scope="session")
def sample_speech(samples: Path) -> Path:
    return samples / "speech.wav"


@pytest.fixture(scope="session")
def shared_clips() -> Path:
    """A folder of real talkers and speech beside the repository; tests that want it are skipped without it."""
    clips = REPO_ROOT.parent / "shared" / "clips"
    if not clips.is_dir():
        pytest.skip(f"needs the clips that do not ship with the repository (../shared/clips, looked in {clips.parent})")
    return clips


@pytest.fixture
def work_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder, for code that resolves relative paths."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    if server_programs() is None:
        pytest.skip(NO_SERVER)
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    with running_s3() as server:
        yield server
