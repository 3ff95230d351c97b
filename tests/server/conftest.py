"""Fixtures for the server's tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What servers in this process have logged as errors so far."""
    return lambda: [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
