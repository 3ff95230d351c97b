"""Fixtures for the server's tests: servers of several kinds, each in the test's process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from guarding import Guarded, guard
from serving import FRIEND, app_in, serve


@pytest.fixture
def base(tmp_path: Path) -> Iterator[str]:
    """The address of a server of the test's own, without keys."""
    with serve(app_in(tmp_path)) as url:
        yield url


@pytest.fixture(scope="module")
def friendly(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of one for all tests of a module, which pages from elsewhere may call."""
    app = app_in(tmp_path_factory.mktemp("friendly"), origins=(FRIEND,), max_body_bytes=100_000)
    with serve(app) as url:
        yield url


@pytest.fixture
def client(base: str) -> Iterator[httpx.Client]:
    """A client of the server at ``base``."""
    with httpx.Client(base_url=base, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A server that needs keys, for all tests of a module."""
    with guard(tmp_path_factory.mktemp("guarded")) as guarded:
        yield guarded


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    """One of the test's own."""
    with guard(tmp_path) as guarded:
        yield guarded


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What servers in this process have logged as errors so far."""
    return lambda: [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
