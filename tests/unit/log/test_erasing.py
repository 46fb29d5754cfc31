"""The erasure of a subject, to the last byte."""

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.log import erasing
from holdfast.log.erasing import CHUNK_BYTES, holds
from holdfast.log.sqlite import SqliteLog
from log_samples import make_call


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def log(path: Path) -> Iterator[SqliteLog]:
    log = SqliteLog(path)
    yield log
    log.close()


def written(path: Path) -> bytes:
    return b"".join([file.read_bytes() for file in path.parent.glob("log.db*")])


def subject(n: int) -> str:
    return random.Random(n).randbytes(16).hex()


def fill(log: SqliteLog, calls: int, subjects: int) -> None:
    """Record calls in such an order that pages of the indexes are divided again and again."""
    chance = random.Random(7)
    for _ in range(calls // 50):
        batch = []
        for id in chance.sample(range(10**9), 50):
            who = subject(int(subjects * chance.random() ** 2))
            batch.append(make_call(id, subject=who, session=f"session-{who}"))
        log.append(batch)


def test_nothing_is_left_of_subjects_whose_calls_lie_among_those_of_many_others(log: SqliteLog, path: Path) -> None:
    """Pages that were divided keep copies of what was moved, which outlive what is deleted."""
    fill(log, 3000, 200)
    before = written(path)
    for n in range(40):
        assert subject(n).encode() in before
        assert log.erase(subject(n)) > 0
    after = written(path)
    assert not [n for n in range(40) if subject(n).encode() in after]
    assert subject(100).encode() in after


@pytest.mark.parametrize("left", [1, 2, 3])
def test_the_cheapest_cure_that_helps_is_taken(
    log: SqliteLog, path: Path, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    """`left` is how often a trace is found."""
    fill(log, 100, 3)
    found = iter([True] * left + [False])
    monkeypatch.setattr(erasing, "holds", lambda *_: next(found))
    done: list[str] = []
    assert log._writer is not None
    log._writer.set_trace_callback(done.append)
    log.erase(subject(1))
    cures = [statement for statement in done if statement.startswith(("REINDEX", "VACUUM"))]
    assert cures == ["REINDEX calls_subject", "REINDEX calls_session", "VACUUM"][: 2 if left == 1 else 3]
    log.append([make_call(1)])
    assert log.get(make_call(1).id) == make_call(1)


def test_a_copy_in_the_free_room_of_a_page_is_removed(path: Path) -> None:
    """What SQLite leaves by chance is put there on purpose: no row points to it."""
    log = SqliteLog(path)
    fill(log, 100, 3)
    log.close()
    gone = subject(999).encode()
    size = path.stat().st_size
    with path.open("r+b") as file:
        for page in range(size // 4096):
            file.seek(page * 4096)
            content = file.read(4096)
            start = 8 + 2 * int.from_bytes(content[3:5], "big")
            room = int.from_bytes(content[5:7], "big") - start
            if page and content[0] == 10 and room > 100:  # a leaf of an index
                file.seek(page * 4096 + start + 20)
                file.write(gone)
    assert gone in written(path)
    log = SqliteLog(path)
    assert log.erase(gone.decode()) == 0
    assert gone not in written(path)
    log.close()
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


def test_a_session_that_another_subject_shares_stays_and_is_no_trace(log: SqliteLog, path: Path) -> None:
    shared, own = "a session of both", "a session of one"
    log.append([make_call(1, subject=subject(1), session=shared), make_call(2, subject=subject(2), session=shared)])
    log.append([make_call(3, subject=subject(1), session=own)])
    assert log._writer is not None
    with sqlite3.connect(path) as db:
        db.row_factory = sqlite3.Row
        _, traces = erasing.erase(db, subject(1))
        db.rollback()
    db.close()
    assert traces == [subject(1).encode(), own.encode()]
    assert log.erase(subject(1)) == 2
    assert own.encode() not in written(path)
    assert shared.encode() in written(path)


LOCK = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)
"""
"""Takes the locks that SQLite holds on a database for as long as it is open."""


def test_the_search_for_traces_gives_up_no_lock_of_the_process_on_the_file(log: SqliteLog, path: Path) -> None:
    """As a process does for a whole file when it closes any descriptor of it."""
    fill(log, 100, 3)
    log.erase(subject(1))
    command = [sys.executable, "-c", LOCK, str(path)]
    assert b"BlockingIOError" in subprocess.run(command, capture_output=True, check=False).stderr
    log.close()
    assert subprocess.run(command, check=False).returncode == 0


@pytest.mark.parametrize("at", [0, CHUNK_BYTES - 3, CHUNK_BYTES, 2 * CHUNK_BYTES + 100])
def test_a_trace_is_found_wherever_it_is(tmp_path: Path, at: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"\0" * at + b"the trace" + b"\0" * 50)
    descriptor = os.open(file, os.O_RDONLY)
    assert holds(descriptor, [b"nothing else", b"the trace"], lambda: None)
    assert not holds(descriptor, [b"the trade"], lambda: None)
    assert not holds(descriptor, [], lambda: None)
    os.close(descriptor)
