"""A log whose bodies are sealed."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs

from holdfast.chat import Message, Request, Text
from holdfast.clock import SystemClock
from holdfast.errors import LogError, PrivacyError
from holdfast.events import Call, Correction
from holdfast.log.base import Filter
from holdfast.log.bodies import CODEC, SEALED
from holdfast.log.sqlite import SqliteLog
from holdfast.privacy.sealing.keyring import Keyring
from holdfast.privacy.sealing.master import MasterKey
from holdfast.privacy.sealing.sealer import Sealer
from log_samples import ATTEMPT, FAILED, LEDGER, make_call

pytest.importorskip("cryptography")

SECRET = "walruses keep my secret"
ASKED = Request(model="answer", messages=(Message(role="user", parts=(Text(text=SECRET),)),))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def keyring(tmp_path: Path) -> Iterator[Keyring]:
    keyring = Keyring(tmp_path / "keys" / "keyring.db", MasterKey(bytes(range(32))), SystemClock())
    yield keyring
    keyring.close()


@pytest.fixture
def sealer(keyring: Keyring) -> Sealer:
    return Sealer(keyring)


@pytest.fixture
def log(path: Path, sealer: Sealer) -> Iterator[SqliteLog]:
    log = SqliteLog(path, sealer=sealer)
    yield log
    log.close()


def said(n: int, **changes: object) -> Call:
    """A call with its secret in all that is kept of what was said."""
    repaired = structs.replace(LEDGER[0], before=SECRET)
    failed = structs.replace(FAILED, message=f"{SECRET}?")
    fields = {"request": ASKED, "ledger": (repaired,), "message": f"{SECRET}!", "attempts": (failed, ATTEMPT)}
    return make_call(n, **fields | changes)


def rows(path: Path, query: str, *values: object) -> list[tuple[object, ...]]:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        return db.execute(query, values).fetchall()
    finally:
        db.close()


def written(path: Path) -> bytes:
    return b"".join([file.read_bytes() for file in path.parent.glob("log.db*")])


def call_of(log: SqliteLog, n: int) -> Call:
    call = log.get(make_call(n).id)
    assert call is not None
    return call


# --- at rest ----------------------------------------------------------------------------------------------------------


def test_nothing_that_was_said_is_in_the_clear_in_any_file(log: SqliteLog, path: Path) -> None:
    log.append([said(n, subject="feed" if n else None) for n in range(2)])
    assert SECRET.encode() not in written(path)
    assert b"walrus" not in written(path)
    assert {codec for (codec,) in rows(path, "SELECT codec FROM body_blocks")} == {SEALED}
    assert rows(path, "SELECT DISTINCT message FROM calls UNION SELECT message FROM attempts") == [(None,)]


def test_in_the_clear_the_same_is_found(path: Path) -> None:
    log = SqliteLog(path)
    log.append([said(0)])
    assert SECRET.encode() in written(path)
    log.close()


def test_calls_come_back_whole_through_any_reader_with_the_keys(log: SqliteLog, path: Path, sealer: Sealer) -> None:
    calls = [said(1), said(2, subject="feed"), said(3, tenant="acme"), make_call(4, request=None, reply=None)]
    log.append(calls)
    reader = SqliteLog.read(path, sealer)
    assert [reader.get(call.id) for call in calls] == calls
    reader.close()


def test_every_owner_has_a_key_of_its_own(log: SqliteLog, keyring: Keyring) -> None:
    log.append([said(1), said(2, subject="feed"), said(3, tenant="acme"), said(4, subject="feed", tenant="acme")])
    owners = ("tenant:", "feed", "tenant:acme")
    assert len({key.number for key in keyring.key(owners).values()}) == 3
    assert all(keyring.at_hand(owner) for owner in owners)


def test_a_call_of_which_nothing_is_kept_needs_no_key(log: SqliteLog, keyring: Keyring) -> None:
    log.append([said(1, subject="feed", store="metadata"), said(2, subject="beef", store="none")])
    assert not keyring.in_use


def test_a_sealed_block_opens_in_its_own_place_alone(log: SqliteLog, path: Path) -> None:
    log.append([said(1)])
    log.append([said(2)])
    (one,), (two,) = rows(path, "SELECT data FROM body_blocks ORDER BY number")
    rows(path, "UPDATE body_blocks SET data = ? WHERE number = 2", one)
    with pytest.raises(LogError, match="can't read"):
        log.get(said(2).id)
    rows(path, "UPDATE body_blocks SET data = ? WHERE number = 2", two)
    assert call_of(log, 2) == said(2)


# --- without keys -----------------------------------------------------------------------------------------------------


def test_without_the_keys_a_call_says_that_it_is_sealed(log: SqliteLog, path: Path) -> None:
    log.append([said(1), make_call(2, request=None, reply=None, attempts=(ATTEMPT,))])
    reader = SqliteLog.read(path)
    call = call_of(reader, 1)
    assert (call.withheld, call.request, call.reply, call.ledger, call.message) == ("sealed", None, None, (), None)
    assert call.cost_nanousd == said(1).cost_nanousd
    assert call_of(reader, 2).withheld is None
    found = reader.search("walrus", Filter())
    assert (found.matches, found.looked, found.withheld) == ((), 2, 1)
    reader.close()


def test_with_its_key_destroyed_a_call_says_that_it_is_erased(log: SqliteLog, path: Path, keyring: Keyring) -> None:
    """Such as a copy of the log from before an erasure."""
    log.append([said(1, subject="feed"), said(2, subject="beef")])
    keyring.erasures.begin("feed")
    call = call_of(log, 1)
    assert (call.withheld, call.request, call.reply, call.message) == ("erased", None, None, None)
    assert call_of(log, 2) == said(2, subject="beef")
    found = log.search("walrus", Filter())
    assert ([match.call.id for match in found.matches], found.withheld) == ([said(2).id], 1)
    assert [call["withheld"] for call in log.export("feed")] == ["erased"]


def test_a_subject_that_comes_back_after_an_erasure_has_another_key(
    path: Path, keyring: Keyring, sealer: Sealer
) -> None:
    log = SqliteLog(path, sealer=sealer, erased_at=keyring.erased_at)
    log.append([said(1, subject="feed")])
    erasure = keyring.erasures.begin("feed")
    log.erase("feed")
    back = said(2, subject="feed", at_us=erasure.at_us + 1)
    log.append([back, said(3, subject="feed", at_us=erasure.at_us)])
    assert log.get(back.id) == back
    assert log.get(said(3).id) is None
    log.close()


def test_what_was_erased_is_asked_anew_for_every_batch_with_subjects(path: Path) -> None:
    erased: dict[str, int] = {}
    known: dict[str, int] = {}
    refreshed: list[int] = []

    def refresh() -> None:
        refreshed.append(1)
        known.update(erased)

    log = SqliteLog(path, erased_at=known.get, refresh=refresh)
    log.append([make_call(1)])
    assert refreshed == []
    erased["feed"] = make_call(5).at_us
    log.append([make_call(2, subject="feed"), make_call(3, subject="feed")])
    assert refreshed == [1]
    assert [call.id for batch in log.scan(Filter()) for call in batch] == [make_call(1).id]
    log.close()


class BrokenKeys(Sealer):
    broken = False

    def prepare(self, owners: object) -> None:
        if self.broken:
            raise PrivacyError("the disk of the keys is full")
        super().prepare(owners)  # type: ignore[arg-type]


def test_keys_that_fail_are_a_log_that_fails_so_that_it_is_tried_again(path: Path, keyring: Keyring) -> None:
    sealer = BrokenKeys(keyring)
    log = SqliteLog(path, sealer=sealer)
    sealer.broken = True
    with pytest.raises(LogError, match="the disk of the keys is full"):
        log.append([said(1)])
    assert log.totals() == []
    sealer.broken = False
    log.append([said(1)])
    assert call_of(log, 1) == said(1)
    log.close()


def test_a_block_that_can_not_be_read_does_not_end_a_search(log: SqliteLog, path: Path) -> None:
    for n in range(3):
        log.append([said(n)])
    rows(path, "UPDATE body_blocks SET data = x'00' WHERE number = 2")
    found = log.search("walrus", Filter())
    assert [match.call.id for match in found.matches] == [said(2).id, said(0).id]
    assert (found.looked, found.withheld) == (3, 1)


# --- sealed and unsealed ----------------------------------------------------------------------------------------------


def test_a_log_that_is_sealed_from_now_on_and_later_no_more_stays_readable(path: Path, sealer: Sealer) -> None:
    calls = [said(n) for n in range(3)]
    for call, keys in zip(calls, (None, sealer, None), strict=True):
        log = SqliteLog(path, sealer=keys)
        log.append([call])
        log.close()
    assert [codec for (codec,) in rows(path, "SELECT codec FROM body_blocks")] == [CODEC, SEALED, CODEC]
    reader = SqliteLog.read(path, sealer)
    assert [reader.get(call.id) for call in calls] == calls
    assert len(reader.search("walrus", Filter()).matches) == 3
    reader.close()


# --- corrections ------------------------------------------------------------------------------------------------------


def corrected(call: Call, message: str | None) -> Correction:
    changes = {"outcome": "error", "error": "cancelled", "message": message, "attempts": call.attempts[:1]}
    return Correction(call=structs.replace(call, **changes))


def test_a_sealer_that_does_not_seal_any_more_still_opens_what_it_sealed(path: Path, keyring: Keyring) -> None:
    with closing(SqliteLog(path, sealer=Sealer(keyring))) as log:
        log.append([said(1)])
    with closing(SqliteLog(path, sealer=Sealer(keyring, sealing=False))) as log:
        log.append([said(2)])
        assert [log.get(said(n).id) for n in (1, 2)] == [said(1), said(2)]
    assert rows(path, "SELECT codec FROM body_blocks ORDER BY number") == [(SEALED,), (CODEC,)]


@pytest.mark.parametrize("message", ["You kept my secret", None])
def test_a_correction_is_sealed_as_well(log: SqliteLog, path: Path, message: str | None) -> None:
    calls = [said(n, subject="feed") for n in range(3)]
    log.append(calls)
    correction = corrected(calls[1], message)
    log.append([correction])
    assert call_of(log, 1) == correction.call
    assert [call_of(log, n) for n in (0, 2)] == [calls[0], calls[2]]
    assert b"my secret" not in written(path)
    assert len(rows(path, "SELECT 1 FROM body_blocks")) == 1


def test_a_correction_of_a_call_without_bodies_is_sealed_where_it_has_a_message(log: SqliteLog, path: Path) -> None:
    call = make_call(1, request=None, reply=None, attempts=(ATTEMPT,))
    log.append([call])
    log.append([corrected(call, None)])
    assert rows(path, "SELECT count(*) FROM body_blocks") == [(0,)]
    log.append([corrected(call, "my secret"), make_call(2)])
    assert call_of(log, 1).message == "my secret"
    assert b"my secret" not in written(path)
    assert call_of(log, 2) == make_call(2)


def test_a_correction_of_what_was_in_the_clear_seals_it(path: Path, sealer: Sealer) -> None:
    log = SqliteLog(path)
    log.append([said(1)])
    log.close()
    log = SqliteLog(path, sealer=sealer)
    correction = corrected(said(1), "my secret")
    log.append([correction])
    assert call_of(log, 1) == correction.call
    assert rows(path, "SELECT codec FROM body_blocks") == [(SEALED,)]
    log.close()


def test_a_correction_without_the_keys_leaves_what_is_sealed(log: SqliteLog, path: Path, sealer: Sealer) -> None:
    log.append([said(1)])
    other = SqliteLog(path)
    correction = corrected(said(1), "in the clear")
    other.append([correction])
    other.close()
    call = call_of(log, 1)
    assert (call.outcome, call.message, call.request) == ("error", "in the clear", ASKED)


@pytest.mark.parametrize("change", ["destroyed", "damaged", "damaged in the clear"])
def test_a_correction_of_what_can_not_be_read_any_more_is_recorded_all_the_same(
    log: SqliteLog, path: Path, keyring: Keyring, change: str
) -> None:
    log.append([said(1, subject="feed")])
    if change == "destroyed":
        keyring.erasures.begin("feed")
    else:
        codec = SEALED if change == "damaged" else CODEC
        rows(path, "UPDATE body_blocks SET data = zeroblob(100), codec = ?", codec)
    log.append([corrected(said(1, subject="feed"), "my secret"), make_call(2)])
    assert rows(path, "SELECT outcome FROM calls ORDER BY seq") == [("error",), ("answered",)]
    assert b"my secret" not in written(path)


# --- erasure ----------------------------------------------------------------------------------------------------------


def test_an_erased_subject_leaves_no_sealed_byte_either(log: SqliteLog, path: Path) -> None:
    log.append([said(n, subject="beef", session="session-of-beef") for n in range(20)])
    log.append([said(100 + n, subject="fe" * 16, session="session-of-feed") for n in range(5)])
    ((block,),) = rows(path, "SELECT data FROM body_blocks WHERE number = 2")
    assert isinstance(block, bytes)
    pieces = [block[start : start + 16] for start in range(0, len(block) - 16, 64)]
    assert all(piece in written(path) for piece in pieces)
    assert b"fe" * 16 in written(path)
    assert log.erase("fe" * 16) == 5
    kept = written(path)
    assert not any(piece in kept for piece in pieces)
    assert b"fe" * 16 not in kept
    assert b"session-of-feed" not in kept
    assert b"session-of-beef" in kept
