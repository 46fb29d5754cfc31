"""The log among real processes: several at once, and killed at any moment."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from holdfast.log.base import Filter
from holdfast.log.sqlite import SqliteLog
from holdfast.privacy.subjects import SubjectHasher
from log_samples import make_call

TESTS = Path(__file__).parents[2]

APPEND = """
import sys
from log_samples import make_call
from holdfast.log.sqlite import SqliteLog
path, worker, batches = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
sys.stdin.readline()
log = SqliteLog(path)
for batch in range(batches):
    log.append([make_call(worker * 100_000 + batch * 10 + n) for n in range(10)])
log.close()
"""

# Prints the number of an event and the time when the writer took it ("async") or had it on disk ("sync").
WRITE = """
import asyncio, sys, time
from log_samples import make_call
from holdfast.log.base import LogSettings
from holdfast.log.sqlite import SqliteLog
from holdfast.log.writer import LogWriter
path, durability = sys.argv[1:]
async def main():
    settings = LogSettings(durability=durability, flush_ms=50)
    writer = LogWriter(SqliteLog(path, durability), settings)
    async def worker(first):
        for n in range(first, 10**9, 4):
            if writer.sync:
                await writer.append_committed(make_call(n))
            else:
                writer.append(make_call(n))
                await asyncio.sleep(0.0005)
            print(n, time.monotonic(), flush=True)
    await asyncio.gather(*map(worker, range(4)))
asyncio.run(main())
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    """Let them all go at once, and return what each has printed."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return outputs


def recorded(path: Path) -> set[str]:
    log = SqliteLog.read(path)
    try:
        return {call.id for batch in log.scan(Filter()) for call in batch}
    finally:
        log.close()


def test_processes_open_migrate_and_append_to_one_log_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.db"
    finish([start(APPEND, path, worker, 30) for worker in range(4)])
    assert len(recorded(path)) == 4 * 300
    log = SqliteLog.read(path)
    (total,) = log.totals()
    assert (total.calls, total.attempts) == (1200, 2400)
    calls = [call for batch in log.scan(Filter(after=next(iter(log.ids("01CALL", 1))))) for call in batch]
    assert all(len(call.attempts) == 2 for call in calls)
    log.close()


@pytest.mark.parametrize("durability", ["async", "sync"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_killed_process_has_lost_nothing_that_it_promised_to_keep(tmp_path: Path, durability: str, seed: int) -> None:
    path = tmp_path / "log.db"
    process = start(WRITE, path, durability)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(random.Random(seed).uniform(0.5, 0.8))
    killed = time.monotonic()
    process.send_signal(signal.SIGKILL)
    lines = process.communicate()[0].splitlines()
    taken = [(make_call(int(n)).id, float(at)) for n, at in map(str.split, lines[1:-1])]  # the outer may be cut
    safe = {id for id, at in taken if durability == "sync" or at < killed - 0.05 - COMMIT_SECONDS}
    kept = recorded(path)
    assert len(safe) > 20
    assert safe <= kept
    SqliteLog(path).close()
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert db.execute("SELECT sum(calls) FROM totals WHERE minute = 0").fetchone() == (len(kept),)
    db.close()


COMMIT_SECONDS = 0.25
"""What a commit may take on a machine that does other things beside."""

KEY = """
import sys
from pathlib import Path
from holdfast.privacy.subjects import SubjectHasher
sys.stdin.readline()
print(SubjectHasher.load(Path(sys.argv[1])).hash("ada"))
"""


def test_processes_that_make_the_key_of_subjects_at_once_share_one(tmp_path: Path) -> None:
    outputs = finish([start(KEY, tmp_path / "new") for _ in range(4)])
    assert set(outputs) == {SubjectHasher.load(tmp_path / "new").hash("ada") + "\n"}
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["subject.key"]
