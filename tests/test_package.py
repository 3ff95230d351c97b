"""The built wheel: complete, and able to make and upgrade its database far from the source tree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WHERE = "import sandbox; from sandbox.store.migrate import scripts; print(sandbox.__file__, scripts())"
DOWNGRADE = """
import sys
from alembic import command
from sandbox.store.database import Database
from sandbox.store.migrate import configuration
config = configuration()
with Database(sys.argv[1]).writing() as connection:
    config.attributes["connection"] = connection
    command.downgrade(config, "base")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(ROOT)], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_carries_migrations_prompts_and_bundled_files(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "sandbox").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    versions = {
        f"sandbox/store/migrations/versions/{p.name}" for p in (ROOT / "alembic/versions").glob("*.py")
    }
    assert sources <= names
    assert versions
    assert versions | {"sandbox/store/migrations/env.py"} <= names


def test_the_installed_wheel_runs_a_society_and_upgrades_its_database(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    environment = os.environ | {"PYTHONPATH": str(site), "SANDBOX_DATA_DIR": str(tmp_path / "data")}

    def run(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            text=True,
            check=True,
            capture_output=True,
        ).stdout

    where = run(
        "-c", "import sandbox; from sandbox.store.migrate import scripts; print(sandbox.__file__, scripts())"
    )
    assert all(Path(path).is_relative_to(site) for path in where.split())
    command = ("-m", "sandbox.cli")
    assert "Stored as scripted-" in run(*command, "run", "scripted", "--seats", "2x2", "--rounds", "1")
    run("-c", DOWNGRADE, str(tmp_path / "data" / "sandbox.db"))
    assert run(*command, "sessions", "list", "--json") == ""
    run(*command, "run", "scripted", "--seats", "2x2", "--rounds", "1")
    assert json.loads(run(*command, "sessions", "list", "--json"))["status"] == "finished"
