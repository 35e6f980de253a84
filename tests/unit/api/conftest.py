"""A browser for the tests of the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import Visitor, chromium


@pytest.fixture(scope="module")
def _chromium() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def browser(_chromium: Any) -> Iterator[Any]:
    """Its pages are closed after each test: they would go on with polling, playing and drawing."""
    yield _chromium
    for context in _chromium.contexts:
        context.close()


@pytest.fixture
def visitor(browser: Any, url: str) -> Visitor:
    """The page of `service`."""
    return Visitor(browser, url)
