"""Where ``--out`` leads: what stands there stays what it is, and is never half written."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support import SMALL, Run, session_of

from sandbox.errors import UserError
from sandbox.output import make_folder, write_text, writing

posix = pytest.mark.skipif(sys.platform == "win32", reason="links, pipes and devices of POSIX")


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".part")]


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "kept.txt"
    write_text(target, "before\n")
    with pytest.raises(KeyboardInterrupt), writing(target) as file:
        file.write("half")
        raise KeyboardInterrupt
    assert target.read_text("utf-8") == "before\n"
    write_text(target, "ünd\n")
    assert target.read_bytes() == "ünd\n".encode()
    assert leftovers(tmp_path) == []


@posix
def test_a_name_may_be_as_long_as_the_system_takes(tmp_path: Path) -> None:
    target = tmp_path / ("\U0001f600" * 62 + ".json")  # 253 bytes
    write_text(target, "whole")
    assert target.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_still_points_where_it_did(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    real, link = tmp_path / "elsewhere" / "real.txt", tmp_path / "link.txt"
    real.write_text("before", "utf-8")
    link.symlink_to(real)
    write_text(link, "after")
    assert link.is_symlink()
    assert real.read_text("utf-8") == "after"
    dangling = tmp_path / "dangling.txt"
    dangling.symlink_to(tmp_path / "elsewhere" / "new.txt")
    write_text(dangling, "new")
    assert dangling.is_symlink()
    assert (tmp_path / "elsewhere" / "new.txt").read_text("utf-8") == "new"


@posix
def test_a_files_mode_stays_and_a_new_one_follows_the_umask(tmp_path: Path) -> None:
    private, new = tmp_path / "private.txt", tmp_path / "new.txt"
    private.write_text("before", "utf-8")
    private.chmod(0o600)
    write_text(private, "after")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    plain = tmp_path / "plain.txt"
    plain.touch()
    write_text(new, "text")
    assert stat.S_IMODE(new.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


@posix
@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_the_reader_of_a_pipe_gets_the_export(sandbox: Run, tmp_path: Path, form: str) -> None:
    key = session_of(sandbox)
    pipe, plain = tmp_path / "pipe", tmp_path / "plain"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    order = ("sessions", "export", key, "--what", "ratings", "--format", form, "--out")
    assert sandbox(*order, str(pipe))[0] == 0
    reader.join(timeout=60)
    assert pipe.is_fifo()
    assert sandbox(*order, str(plain))[0] == 0
    assert read == [plain.read_bytes()]


@posix
@pytest.mark.parametrize("order", ["sessions export", "dataset export"])
def test_a_device_stays_a_device(sandbox: Run, tmp_path: Path, order: str) -> None:
    key = session_of(sandbox)
    assert sandbox("dataset", "build", key, "--name", "mine")[0] == 0
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    name = key if order.startswith("sessions") else "mine"
    code, _, said = sandbox(*order.split(), name, "--out", str(link))
    assert code == 0
    assert " rows of " in said
    assert link.is_symlink()
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@posix
@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="this system has no /dev/stdout")
def test_standard_output_by_its_name_is_standard_output(sandbox: Run, tmp_path: Path) -> None:
    """Redirected to the end of a file, what the file held stays; on a pipe, the reader gets the rows."""
    key = session_of(sandbox)
    rows = sandbox("sessions", "export", key)[1]
    before = Path("/dev/stdout").readlink()
    program = (sys.executable, "-c", "from sandbox.cli import main; main()")
    program += ("sessions", "export", key, "--out", "/dev/stdout")
    piped = subprocess.run(program, capture_output=True, text=True, encoding="utf-8", check=True)
    assert piped.stdout == rows
    log = tmp_path / "log.txt"
    log.write_text("line\n", "utf-8")
    with log.open("a", encoding="utf-8") as end:
        subprocess.run(program, stdout=end, stderr=subprocess.DEVNULL, check=True)
    assert log.read_text("utf-8") == "line\n" + rows
    assert Path("/dev/stdout").readlink() == before


def test_a_folder_and_a_full_disk_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="is a folder"):
        write_text(tmp_path, "text")
    with pytest.raises(UserError, match="No such file or directory"):
        write_text(tmp_path / "missing" / "file.txt", "text")
    target = tmp_path / "kept.txt"
    target.write_text("before", "utf-8")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_text(target, "after")
    assert target.read_text("utf-8") == "before"
    assert leftovers(tmp_path) == []


def test_a_file_where_a_folder_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is not a folder"):
        make_folder(tmp_path / "file")
    with pytest.raises(UserError, match="can't be made: Not a directory"):
        make_folder(tmp_path / "file" / "below")


@pytest.mark.parametrize("command", ["evaluate", "compare", "loop"])
def test_a_reports_folder_that_is_a_file_is_refused_before_anything_runs(
    sandbox: Run, tmp_path: Path, command: str
) -> None:
    (tmp_path / "report").touch()
    code, _, said = sandbox(command, "--out", str(tmp_path / "report"))
    assert code == 2
    assert "is a file" in said


@posix
def test_init_writes_through_a_link_only_when_forced(sandbox: Run, tmp_path: Path) -> None:
    real, link = tmp_path / "real.toml", tmp_path / "society.toml"
    real.write_text("# mine\n", "utf-8")
    link.symlink_to(real)
    code, _, said = sandbox("init", str(link))
    assert code == 2
    assert "exists" in said
    assert real.read_text("utf-8") == "# mine\n"
    assert sandbox("init", str(link), "--force")[0] == 0
    assert link.is_symlink()
    assert "[" in real.read_text("utf-8")


@pytest.mark.parametrize("kind", ["folder", pytest.param("pipe", marks=posix)])
def test_a_database_that_is_no_file_is_told(sandbox: Run, tmp_path: Path, kind: str) -> None:
    place = tmp_path / kind
    if kind == "folder":
        place.mkdir()
    else:
        os.mkfifo(place)
    code, _, said = sandbox("run", "scripted", *SMALL, "--db", str(place))
    assert code == 2
    assert "is a folder" in said if kind == "folder" else "is not a file" in said


@posix
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_standard_output_is_told_and_is_no_traceback(sandbox: Run) -> None:
    key = session_of(sandbox)
    program = [sys.executable, "-c", "from sandbox.cli import main; main()", "sessions", "export", key]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "No space left on device" in done.stderr


def test_a_dash_is_standard_output(sandbox: Run, tmp_path: Path) -> None:
    key = session_of(sandbox)
    rows = sandbox("sessions", "export", key)[1]
    assert sandbox("sessions", "export", key, "--out", "-")[1] == rows
    assert not (tmp_path / "-").exists()


@posix
def test_who_stops_reading_is_no_failure_to_write(sandbox: Run, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: pipe.open("rb").close(), daemon=True)
    reader.start()
    with pytest.raises(BrokenPipeError), writing(pipe) as stream:
        reader.join(timeout=60)
        stream.write("x" * 1_000_000)
