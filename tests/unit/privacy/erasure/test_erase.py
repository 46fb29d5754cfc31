import asyncio
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import PrivacyError
from holdfast.privacy.erasure import erase as erasure
from holdfast.privacy.erasure.certificate import Certificate
from holdfast.privacy.erasure.erase import Follower, certificate, erase, finish
from holdfast.privacy.erasure.registry import Registry
from holdfast.privacy.sealing import journal
from holdfast.privacy.sealing.connection import Connection
from holdfast.privacy.sealing.keyring import Keyring
from holdfast.privacy.sealing.sealer import Destroyed, Sealer
from keyrings import ADA, BOB, START_S, Shelf, keyring

HERE = b"here"


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[Keyring]:
    ring = keyring(tmp_path)
    yield ring
    ring.close()


def no_wait(_: float) -> None:
    raise AssertionError("there is nobody to wait for")


def held(directory: Path) -> bytes:
    return b"".join(file.read_bytes() for file in directory.glob("keyring.db*"))


def wrapped_key(directory: Path, owner: str) -> bytes:
    db = sqlite3.connect(directory / "keyring.db")
    found: bytes = db.execute("SELECT wrapped FROM keys WHERE owner = ?", (owner,)).fetchone()[0]
    db.close()
    return found


# --- one erasure ------------------------------------------------------------------------------------------------------


def test_after_an_erasure_nothing_of_the_subject_is_anywhere_and_all_of_others_is(
    tmp_path: Path, ring: Keyring
) -> None:
    sealer = Sealer(ring)
    sealed, other = sealer.seal(ADA, b"words", HERE), sealer.seal(BOB, b"others", HERE)
    key, log, vectors = wrapped_key(tmp_path, ADA), Shelf("log", {ADA: 3, BOB: 2}), Shelf("vectors", {ADA: 1})
    assert key in held(tmp_path)
    erased = erase([ADA], Registry([log, vectors]), ring, pause=no_wait)
    with pytest.raises(Destroyed):
        sealer.open(ADA, sealed, HERE)
    assert sealer.open(BOB, other, HERE) == b"others"
    assert key not in held(tmp_path)
    assert (log.things, vectors.things) == ({BOB: 2}, {})
    assert [(one.subject, one.key, one.found) for one in erased.erasures] == [(ADA, 1, {"log": 3, "vectors": 1})]
    assert erased.erasures[0].ended is not None


def test_calls_that_arrived_until_the_erasure_are_told_from_later_ones(ring: Keyring) -> None:
    assert ring.erased_at(ADA) is None
    before = ring.now_us()
    erase([ADA], Registry(), ring)
    at = ring.erased_at(ADA)
    assert at is not None
    assert before < at < ring.now_us()
    assert ring.erased_at(BOB) is None
    erase([ADA], Registry(), ring)
    assert ring.erased_at(ADA) > at


def test_other_processes_know_of_an_erasure_at_once(tmp_path: Path, ring: Keyring) -> None:
    other = keyring(tmp_path)
    other.key([ADA])
    ring.erasures.begin(ADA)
    assert other.erasures.at(ADA) is None  # from memory alone
    assert other.erased_at(ADA) == ring.erased_at(ADA) is not None
    assert other.erasures.at(ADA) == ring.erasures.at(ADA)
    assert other.at_hand(ADA) is None
    assert [(one.n, one.subject) for one in other.erasures.since(0)] == [(1, ADA)]
    assert other.erasures.since(1) == ()
    other.close()


def test_a_subject_of_whom_nothing_is_known_can_be_erased(ring: Keyring) -> None:
    erased = erase([ADA], Registry([Shelf("log")]), ring)
    assert [(one.key, one.found) for one in erased.erasures] == [(None, {"log": 0})]


def test_several_subjects_are_erased_together(ring: Keyring) -> None:
    ring.key([ADA, BOB])
    log = Shelf("log", {ADA: 3, BOB: 2})
    erased = erase([ADA, BOB, ADA], Registry([log]), ring)
    assert [(one.subject, one.found) for one in erased.erasures] == [(ADA, {"log": 3}), (BOB, {"log": 2})]
    assert log.asked == [ADA, BOB]


def test_erasing_again_finds_nothing_and_names_the_erasure_before(ring: Keyring) -> None:
    ring.key([ADA])
    registry = Registry([Shelf("log", {ADA: 3})])
    erase([ADA], registry, ring)
    erased = erase([ADA], registry, ring)
    assert [(one.key, one.found) for one in erased.erasures] == [(None, {"log": 0})]
    assert [(one.key, one.found) for one in erased.earlier] == [(1, {"log": 3})]


def test_who_comes_back_and_is_erased_again_loses_the_new_key_too(ring: Keyring) -> None:
    registry, sealer = Registry([Shelf("log")]), Sealer(ring)
    sealer.prepare([ADA])
    erase([ADA], registry, ring)
    sealed = sealer.seal(ADA, b"words", HERE)
    assert sealer.open(ADA, sealed, HERE) == b"words"
    erased = erase([ADA], registry, ring)
    assert ([one.key for one in erased.erasures], [one.key for one in erased.earlier]) == ([2], [1])
    with pytest.raises(Destroyed):
        sealer.open(ADA, sealed, HERE)


# --- what fails -------------------------------------------------------------------------------------------------------


def test_a_store_that_fails_keeps_no_other_from_being_erased_and_is_reached_later(ring: Keyring) -> None:
    ring.key([ADA])
    log, vectors = Shelf("log", {ADA: 3}), Shelf("vectors", {ADA: 1})
    log.broken = True
    registry = Registry([log, vectors])
    with pytest.raises(PrivacyError, match=r"log is out of reach\.\nThe erasure is recorded and not finished: run it"):
        erase([ADA], registry, ring)
    assert vectors.things == {}
    assert [one.done_us for one in ring.erasures.pending()] == [None]
    with pytest.raises(PrivacyError, match="out of reach"):
        finish(registry, ring)
    log.broken = False
    assert finish(registry, ring) == 1
    assert finish(registry, ring) == 0
    assert (log.things, vectors.asked) == ({}, [ADA])
    (one,) = certificate([ADA], ring, None).erasures
    assert (one.key, one.found, one.interrupted) == (1, {"log": 3, "vectors": 1}, ("log",))


def test_running_it_again_goes_on_with_the_same_erasure(ring: Keyring) -> None:
    log = Shelf("log", {ADA: 3})
    log.broken = True
    for _ in range(3):
        with pytest.raises(PrivacyError, match="out of reach"):
            erase([ADA], Registry([log]), ring)
    log.broken = False
    assert [one.erasure for one in erase([ADA], Registry([log]), ring).erasures] == [1]


def test_a_key_that_can_not_be_scrubbed_yet_leaves_the_erasure_unfinished(tmp_path: Path, ring: Keyring) -> None:
    ring.key([ADA])
    key = wrapped_key(tmp_path, ADA)
    ring._file._db.execute("PRAGMA busy_timeout = 1")
    reader = sqlite3.connect(tmp_path / "keyring.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM keys").fetchall()
    log = Shelf("log", {ADA: 3})
    with pytest.raises(PrivacyError, match="a reader still holds"):
        erase([ADA], Registry([log]), ring)
    assert log.things == {}
    reader.close()
    assert finish(Registry([log]), ring) == 1
    assert key not in held(tmp_path)


# --- interrupted ------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Ends an erasure wherever it is."""


class Folder:
    """A store in a folder, for what outlives a process."""

    name = "folder"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(exist_ok=True)

    def put(self, subject: str, count: int) -> None:
        for number in range(count):
            (self._directory / f"{subject}-{number}").touch()

    def erase(self, subject: str) -> int:
        found = list(self._directory.glob(f"{subject}-*"))
        for file in found:
            file.unlink()
        return len(found)

    def export(self, subject: str) -> Iterator[Mapping[str, Any]]:
        yield from ({"file": file.name} for file in self._directory.glob(f"{subject}-*"))


def interrupt(patch: pytest.MonkeyPatch, at: int, end: Callable[[], object]) -> None:
    """Call `end` at the point number `at` of what an erasure does: before and after each commit, scrub and deletion."""
    points = iter(range(1, 10_000))

    def point() -> None:
        if next(points) == at:
            end()

    writing = Connection.writing

    @contextmanager
    def watched_writing(self: Connection) -> Iterator[sqlite3.Connection]:
        point()
        with writing(self) as db:
            yield db
            point()
        point()

    patch.setattr(Connection, "writing", watched_writing)
    for owner, name in ((Connection, "scrub"), (Folder, "erase"), (journal, "append")):
        patch.setattr(owner, name, watched(getattr(owner, name), point))


def watched(step: Callable[..., Any], point: Callable[[], None]) -> Callable[..., Any]:
    def step_with_points(*arguments: Any) -> Any:
        point()
        result = step(*arguments)
        point()
        return result

    return step_with_points


def prepared(directory: Path) -> tuple[bytes, bytes]:
    """Put words of a subject into a new state directory, and return them sealed, and their wrapped key."""
    ring = keyring(directory)
    sealed = Sealer(ring).seal(ADA, b"words", HERE)
    ring.close()
    Folder(directory / "folder").put(ADA, 3)
    return sealed, wrapped_key(directory, ADA)


def check_erased(directory: Path, sealed: bytes, key: bytes, ring: Keyring) -> None:
    folder = Folder(directory / "folder")
    with pytest.raises(Destroyed):
        Sealer(ring).open(ADA, sealed, HERE)
    assert key not in held(directory)
    assert list(folder.export(ADA)) == []
    assert ring.erasures.pending() == ()
    certified = certificate([ADA], ring, None)
    done = [*certified.earlier, *certified.erasures]
    assert {one.key for one in done} >= {1}
    first = done[0]
    assert first.found["folder"] == 3 or first.interrupted == ("folder",)


def test_an_erasure_that_ends_at_any_point_is_finished_by_running_it_again(tmp_path: Path) -> None:
    count = 0
    for at in range(1, 100):
        directory = tmp_path / str(at)
        directory.mkdir()
        sealed, key = prepared(directory)
        ring = keyring(directory)
        with pytest.MonkeyPatch.context() as patch:

            def end() -> None:
                raise Killed

            interrupt(patch, at, end)
            try:
                erase([ADA], Registry([Folder(directory / "folder")]), ring)
            except Killed:
                count += 1
            else:
                ring.close()
                break
        ring.close()
        again = keyring(directory)
        erase([ADA], Registry([Folder(directory / "folder")]), again)
        check_erased(directory, sealed, key, again)
        again.close()
    assert count > 15


def test_an_erasure_that_began_is_finished_by_a_gateway_wherever_it_ended(tmp_path: Path) -> None:
    finished = 0
    for at in range(1, 30):
        directory = tmp_path / str(at)
        directory.mkdir()
        sealed, key = prepared(directory)
        ring = keyring(directory)
        with pytest.MonkeyPatch.context() as patch:

            def end() -> None:
                raise Killed

            interrupt(patch, at, end)
            with suppress(Killed):
                erase([ADA], Registry([Folder(directory / "folder")]), ring)
        ring.close()
        gateway = keyring(directory)
        finished += finish(Registry([Folder(directory / "folder")]), gateway)
        if list(journal.entries(directory / journal.JOURNAL_FILE)):
            check_erased(directory, sealed, key, gateway)
        else:
            assert Sealer(gateway).open(ADA, sealed, HERE) == b"words"  # it never began
        gateway.close()
    assert finished > 10


KILLED = """
import os, sys
from pathlib import Path
import pytest
sys.path.insert(0, sys.argv[3])
from test_erase import *
directory = Path(sys.argv[1])
ring = keyring(directory)
interrupt(pytest.MonkeyPatch(), int(sys.argv[2]), lambda: os.kill(os.getpid(), 9))
erase([ADA], Registry([Folder(directory / "folder")]), ring)
"""


@pytest.mark.parametrize("at", [2, 4, 5, 7, 10, 13, 16])
def test_a_process_that_is_killed_leaves_an_erasure_that_can_be_finished(tmp_path: Path, at: int) -> None:
    sealed, key = prepared(tmp_path)
    here = str(Path(__file__).parent)
    environment = {"PYTHONPATH": ":".join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(at), here], env=environment, check=False)
    assert killed.returncode == -9
    ring = keyring(tmp_path)
    erase([ADA], Registry([Folder(tmp_path / "folder")]), ring)
    check_erased(tmp_path, sealed, key, ring)
    ring.close()


# --- at once ----------------------------------------------------------------------------------------------------------


def test_erasures_of_one_subject_at_once_find_everything_once(tmp_path: Path) -> None:
    _, key = prepared(tmp_path)
    rings = [keyring(tmp_path) for _ in range(4)]

    def run(ring: Keyring) -> Certificate:
        return erase([ADA], Registry([Folder(tmp_path / "folder")]), ring)

    with ThreadPoolExecutor(4) as pool:
        certified = sorted(pool.map(run, rings), key=lambda one: one.erasures[0].erasure)
    done = [one.erasures[0] for one in certified]
    assert [one.earlier for one in certified] == [tuple(done[:n]) for n in range(4)]
    assert [one.key for one in done] == [1, None, None, None]
    assert [one.found["folder"] for one in done] == [3, 0, 0, 0]
    assert not any(one.interrupted for one in done)
    assert key not in held(tmp_path)
    for ring in rings:
        ring.close()


def test_a_gateway_leaves_an_erasure_to_the_process_that_runs_it(tmp_path: Path, ring: Keyring) -> None:
    entered, leave = threading.Event(), threading.Event()

    class Slow(Shelf):
        def erase(self, subject: str) -> int:
            entered.set()
            assert leave.wait(10)
            return super().erase(subject)

    slow = Slow("log", {ADA: 3})
    other = keyring(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(erase, [ADA], Registry([slow]), ring)
        assert entered.wait(10)
        assert finish(Registry([slow]), other) == 0
        assert slow.asked == []
        leave.set()
        assert running.result().erasures[0].found == {"log": 3}
    other.close()


def test_what_is_sealed_while_an_erasure_runs_is_lost_or_stays_but_is_never_half(tmp_path: Path, ring: Keyring) -> None:
    """A worker goes on sealing for the subject: what it seals with the old key is gone, the rest can be opened."""
    other = keyring(tmp_path)
    sealer = Sealer(other)
    sealed: list[bytes] = []
    stop, begun = threading.Event(), threading.Event()

    def work() -> None:
        while not stop.is_set():
            sealer.prepare([ADA])
            sealed.append(sealer.seal(ADA, b"words", HERE))
            begun.set()

    with ThreadPoolExecutor(1) as pool:
        worker = pool.submit(work)
        assert begun.wait(10)
        erase([ADA], Registry(), ring)
        count = len(sealed)
        while len(sealed) < count + 3 and not worker.done():
            pass
        stop.set()
        worker.result()
    opened = []
    for one in sealed:
        try:
            opened.append(Sealer(ring).open(ADA, one, HERE) == b"words")
        except Destroyed:
            opened.append(False)
    assert not opened[0]
    assert opened[-1]
    assert opened == sorted(opened)
    other.close()


# --- workers ----------------------------------------------------------------------------------------------------------


async def test_an_erasure_waits_until_workers_have_confirmed(tmp_path: Path, ring: Keyring) -> None:
    memory, other = {ADA: 2, BOB: 1}, keyring(tmp_path)
    follower = Follower(other, "w1", lambda subject: memory.pop(subject, 0))
    await follower.poll()
    loop = asyncio.get_running_loop()

    def pause(_: float) -> None:
        asyncio.run_coroutine_threadsafe(follower.poll(), loop).result()

    log = Shelf("log", {ADA: 3})
    erased = await asyncio.to_thread(erase, [ADA], Registry([log]), ring, living=lambda: {"w1"}, pause=pause)
    assert memory == {BOB: 1}
    assert erased.erasures[0].found == {"log": 3, "replay": 2}
    other.close()


def test_a_worker_that_does_not_confirm_leaves_the_erasure_unfinished(ring: Keyring) -> None:
    waits: list[float] = []
    log, living = Shelf("log", {ADA: 3}), {"w1", "w2"}
    with pytest.raises(PrivacyError, match=r"The worker w1 has not confirmed.*\nThe worker w2 has not"):
        erase([ADA], Registry([log]), ring, living=lambda: living, patience=1, pause=waits.append)
    assert sum(waits) == pytest.approx(1)
    assert log.things == {}
    assert finish(Registry([log]), ring, living=lambda: living) == 0
    ring.erasures.confirm(1, "w1", 4)
    living.remove("w2")  # it died, and its memory with it
    assert finish(Registry([log]), ring, living=lambda: living) == 1
    assert certificate([ADA], ring, None).erasures[0].found == {"log": 3, "replay": 4}


async def test_a_worker_confirms_each_erasure_once_and_none_from_before_its_time(tmp_path: Path, ring: Keyring) -> None:
    asked: list[str] = []

    def forget(subject: str) -> int:
        asked.append(subject)
        return 1

    erase([BOB], Registry(), ring)
    follower = Follower(keyring(tmp_path), "w1", forget)
    await follower.poll()
    assert asked == []
    ring.erasures.begin(ADA)
    for _ in range(3):
        await follower.poll()
    assert asked == [ADA]
    assert ring.erasures.confirmed(1) == frozenset()
    assert ring.erasures.confirmed(2) == {"w1"}
    follower._keyring.close()


async def test_a_worker_that_starts_during_an_erasure_confirms_it(tmp_path: Path, ring: Keyring) -> None:
    ring.erasures.begin(ADA)
    follower = Follower(ring, "w1", lambda _: 0)
    await follower.poll()
    assert finish(Registry(), ring, living=lambda: {"w1"}) == 1


# --- an older keyring -------------------------------------------------------------------------------------------------


def test_an_older_keyring_put_back_learns_of_the_erasures_since(tmp_path: Path) -> None:
    sealed, key = prepared(tmp_path)
    backup = tmp_path / "backup"
    shutil.copytree(tmp_path, backup)
    ring = keyring(tmp_path)
    erase([ADA], Registry([Folder(tmp_path / "folder")]), ring)
    ring.close()
    for file in tmp_path.glob("keyring.db*"):
        file.unlink()
    shutil.copy(backup / "keyring.db", tmp_path)
    Folder(tmp_path / "folder").put(ADA, 3)  # as were the stores
    assert key in held(tmp_path)
    restored = keyring(tmp_path)
    with pytest.raises(Destroyed):
        Sealer(restored).open(ADA, sealed, HERE)
    assert restored.erased_at(ADA) is not None
    assert finish(Registry([Folder(tmp_path / "folder")]), restored) == 1
    check_erased(tmp_path, sealed, key, restored)
    restored.close()


def test_an_older_keyring_that_is_only_read_opens_nothing_of_the_erased(tmp_path: Path, ring: Keyring) -> None:
    sealer = Sealer(ring)
    sealed = {owner: sealer.seal(owner, b"words", HERE) for owner in (ADA, BOB)}
    for at_us in (2, 3, 1):
        journal.append(tmp_path / journal.JOURNAL_FILE, journal.Entry(ADA, at_us))
    for _ in range(2):  # it changes nothing
        reader = keyring(tmp_path, read_only=True)
        assert (reader.erased_at(ADA), reader.erased_at(BOB)) == (3, None)
        with pytest.raises(Destroyed):
            Sealer(reader).open(ADA, sealed[ADA], HERE)
        assert Sealer(reader).open(BOB, sealed[BOB], HERE) == b"words"
        reader.close()
    assert ring.holds(ADA)


def test_an_erasure_of_which_only_the_journal_knows_is_begun_once(tmp_path: Path, ring: Keyring) -> None:
    ring.key([ADA])
    journal.append(tmp_path / journal.JOURNAL_FILE, journal.Entry(ADA, START_S * 1_000_000))
    for _ in range(2):
        other = keyring(tmp_path)
        assert [(one.subject, one.key) for one in other.erasures.pending()] == [(ADA, 1)]
        other.close()
    ring.key([ADA])
    assert finish(Registry(), ring) == 1
    assert ring.key([ADA])[ADA].number == 2


def test_a_process_that_starts_in_the_midst_of_an_erasure_does_not_begin_it_twice(
    tmp_path: Path, ring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds it in the journal before it is in the keyring; by the time it is, the subject may be back."""
    ring.key([ADA])
    append = journal.append
    back: list[int] = []

    def append_and_start_another(path: Path, entry: journal.Entry) -> None:
        append(path, entry)
        other = keyring(tmp_path)
        back.append(other.key([ADA])[ADA].number)
        other.close()

    monkeypatch.setattr(journal, "append", append_and_start_another)
    erased = erase([ADA], Registry([Shelf("log", {ADA: 3})]), ring)
    assert [(one.erasure, one.key, one.found) for one in erased.erasures] == [(1, 1, {"log": 3})]
    assert back == [ring.key([ADA])[ADA].number] == [2]


def test_a_lock_that_can_not_be_used_is_a_privacy_error(tmp_path: Path, ring: Keyring) -> None:
    (tmp_path / erasure.LOCK_FILE).mkdir()
    with pytest.raises(PrivacyError, match="Is a directory"):
        erase([ADA], Registry(), ring)
    assert ring.erasures.pending() == ()
