"""The erasure of a subject while other processes record its calls, and read them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import LogError
from holdfast.log.base import Filter
from holdfast.log.sqlite import SqliteLog
from holdfast.privacy.sealing.keyring import Keyring
from holdfast.privacy.sealing.master import MasterKey
from holdfast.privacy.sealing.sealer import Sealer

pytest.importorskip("cryptography")

TESTS = Path(__file__).parents[2]
SUBJECT = "feedfeedfeedfeedfeedfeedfeedfeed"

# Records calls of a subject some time after they arrived, until its input ends, and reads all the while.
RECORD = """
import select, sys, time
from pathlib import Path
from log_samples import make_call
from holdfast.clock import SystemClock
from holdfast.log.base import Filter
from holdfast.log.sqlite import SqliteLog
from holdfast.privacy.sealing.keyring import Keyring
from holdfast.privacy.sealing.master import MasterKey
from holdfast.privacy.sealing.sealer import Sealer
folder, subject, worker = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
keyring = Keyring(folder / "keys" / "keyring.db", MasterKey(bytes(range(32))), SystemClock())
erasures = {"erased_at": keyring.erased_at, "refresh": keyring.refresh}
log = SqliteLog(folder / "log.db", sealer=Sealer(keyring), **erasures)
n, waiting = worker * 1_000_000, []
def arrive():
    global n
    n += 2
    now = time.time_ns() // 1000
    return [make_call(n, at_us=now, subject=subject), make_call(n + 1, at_us=now, subject="beef")]
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    waiting.append(arrive())
    if len(waiting) > 20:
        log.append(waiting.pop(0) + waiting.pop(0))
    for batch in log.scan(Filter(limit=5)):
        for call in batch:
            log.get(call.id)
for calls in waiting:
    log.append(calls)
log.close()
print(n - worker * 1_000_000, flush=True)
"""


def start(folder: Path, worker: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RECORD, str(folder), SUBJECT, str(worker)],
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def erase(log: SqliteLog) -> int:
    """Erase, again where a reader was in the way."""
    erased = 0
    for _ in range(20):
        try:
            return erased + log.erase(SUBJECT)
        except LogError as error:
            assert "erase again" in error.message  # noqa: PT017 - it is tried again
    raise AssertionError("readers are always in the way")


def test_no_call_that_arrived_before_an_erasure_is_there_after_it_whoever_recorded_it_when(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path / "keys" / "keyring.db", MasterKey(bytes(range(32))), SystemClock())
    log = SqliteLog(tmp_path / "log.db", sealer=Sealer(keyring))
    workers = [start(tmp_path, worker) for worker in range(2)]
    for worker in workers:
        assert worker.stdout is not None
        worker.stdout.readline()
    deadline = time.monotonic() + 30
    while sum(len(batch) for batch in log.scan(Filter(subject=SUBJECT))) < 100:
        assert time.monotonic() < deadline
    erasure = keyring.erasures.begin(SUBJECT)
    assert erase(log) > 0
    while not [call for batch in log.scan(Filter(subject=SUBJECT, limit=1)) for call in batch]:
        assert time.monotonic() < deadline  # those that arrive later are recorded
    recorded = sum([int(worker.communicate("end\n", timeout=60)[0]) for worker in workers])
    assert [worker.returncode for worker in workers] == [0, 0]
    calls = [call for batch in log.scan(Filter()) for call in batch]
    mine = [call for call in calls if call.subject == SUBJECT]
    assert mine
    assert all(call.at_us > erasure.at_us for call in mine)
    assert len(calls) - len(mine) == recorded / 2
    assert sum(total.calls for total in log.totals()) == recorded
    assert erase(log) == len(mine)
    for file in tmp_path.glob("log.db*"):
        assert SUBJECT.encode() not in file.read_bytes()
    log.close()
    keyring.close()
