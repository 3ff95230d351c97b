"""Fixtures for the terminal app's tests: a real server, and a client beside the app."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from serving import app_in, serve


@pytest.fixture
def base(tmp_path: Path) -> Iterator[str]:
    """The address of a server without keys."""
    with serve(app_in(tmp_path)) as url:
        yield url


@pytest.fixture
def client(base: str) -> Iterator[httpx.Client]:
    """A client of it."""
    with httpx.Client(base_url=base, timeout=30) as client:
        yield client
