import random
import sqlite3
import stat
import threading
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from holdfast.chat import Message, Request, Text
from holdfast.errors import LogError
from holdfast.events import Repair
from holdfast.log import expiry
from holdfast.log.base import Filter
from holdfast.log.bodies import Packer, zstd
from holdfast.log.connection import LOG
from holdfast.log.sqlite import SqliteLog
from log_samples import ATTEMPT, CHANGE, FAILED, LEDGER, REPLY, REQUEST, START_US, make_call


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "log.db"


@pytest.fixture
def log(path: Path) -> Iterator[SqliteLog]:
    log = SqliteLog(path)
    yield log
    log.close()


def sql(path: Path, statement: str) -> list[tuple[object, ...]]:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        return db.execute(statement).fetchall()
    finally:
        db.close()


def count(log: SqliteLog) -> int:
    return sum(len(batch) for batch in log.scan(Filter()))


# --- opening ----------------------------------------------------------------------------------------------------------


def test_a_new_log_is_readable_by_its_owner_alone(log: SqliteLog, path: Path) -> None:
    log.append([make_call()])
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["log.db", "log.db-shm", "log.db-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_log_opens_again_with_everything_in_it(path: Path) -> None:
    for n in range(3):
        log = SqliteLog(path, "sync")
        log.append([make_call(n)])
        log.close()
    log = SqliteLog.read(path)
    assert count(log) == 3
    log.close()


@pytest.mark.parametrize(("durability", "level"), [("sync", 2), ("async", 1)])
def test_durability_chooses_how_often_the_disk_is_waited_for(path: Path, durability: str, level: int) -> None:
    log = SqliteLog(path, durability)  # type: ignore[arg-type]
    assert log._writer is not None
    assert log._writer.execute("PRAGMA synchronous").fetchone()[0] == level
    assert log._writer.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    log.close()


@pytest.mark.parametrize("content", [b"not a database", b"not a database, and long enough to be one" * 100])
def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    for open in (SqliteLog, SqliteLog.read):
        with pytest.raises(LogError, match=r"log\.db.*(not a database|another program)"):
            open(path)
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_refused_and_left_as_it_is(path: Path) -> None:
    path.parent.mkdir()
    sql(path, "CREATE TABLE users (name)")
    before = path.read_bytes()
    for open in (SqliteLog, SqliteLog.read):
        with pytest.raises(LogError, match="another program: choose another path"):
            open(path)
    assert path.read_bytes() == before


def test_a_log_newer_than_the_code_is_refused_and_says_what_to_do(path: Path) -> None:
    SqliteLog(path).close()
    sql(path, f"PRAGMA user_version = {LOG.newest + 1}")
    before = path.read_bytes()
    for open in (SqliteLog, SqliteLog.read):
        with pytest.raises(LogError, match=f"format {LOG.newest + 1}.*upgrade Holdfast"):
            open(path)
    assert path.read_bytes() == before


def test_an_empty_file_becomes_a_log(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    log = SqliteLog(path)
    log.append([make_call()])
    assert count(log) == 1
    log.close()


def test_a_directory_in_the_place_of_the_file_is_refused(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(LogError, match=r"log\.db"):
        SqliteLog(path)


def test_a_file_in_the_place_of_the_directory_is_refused(path: Path) -> None:
    path.parent.touch()
    with pytest.raises(LogError, match="Not a directory"):
        SqliteLog(path)


def test_a_damaged_log_raises_log_error_instead_of_giving_wrong_answers(path: Path) -> None:
    log = SqliteLog(path)
    log.append([make_call(n) for n in range(2000)])
    log.close()
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xa5" * (len(content) - 8192)
    path.write_bytes(content)
    with pytest.raises(LogError, match="damaged"):
        count(SqliteLog.read(path))


def test_the_path_may_hold_any_character(tmp_path: Path) -> None:
    path = tmp_path / "a b%20?#ü" / "log.db"
    log = SqliteLog(path)
    log.append([make_call()])
    log.close()
    assert path.exists()
    log = SqliteLog.read(path)
    assert count(log) == 1
    log.close()


# --- migrations -------------------------------------------------------------------------------------------------------


def format_1(path: Path) -> None:
    """Make a log as the first version wrote it, with a call that failed before it was answered, and one attempt."""
    path.parent.mkdir()
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript((resources.files("holdfast.log") / "migrations" / "0001_calls.sql").read_text())
    block = zstd.compress(msgspec.msgpack.encode([(REQUEST, REPLY)]))
    db.execute("INSERT INTO body_blocks VALUES (1, 'msgpack+zstd', ?)", (block,))
    db.executescript(f"""
        INSERT INTO profiles VALUES (1, 'chat', 'openai', 'answer', 'answer', 'gpt', 'openai', 'gpt-5-mini-2025-08-07',
            NULL, '0123456789abcdef', 'answered', 200, 'stop', 0, 'all');
        INSERT INTO call_rows (seq, profile, block, place, id, at_us, duration_us, first_token_us, cost_nanousd,
            input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, input_audio_tokens,
            output_audio_tokens, session)
            VALUES (7, 1, 1, 0, '{make_call(1).id}', {make_call(1).at_us}, 812345, 300000, 123456, 500, 300, 100, 0, 0,
            0, 0, 's');
        INSERT INTO other_attempts (call, n, model, provider, started_us, duration_us, error, message, cost_nanousd,
            reason, estimated) VALUES (7, 0, 'house', 'vllm', 0, 5000, 'overloaded', 'busy', 0, 'first', 0);
        INSERT INTO totals VALUES (0, 'answer', 'gpt', 'answered', '', 1, 1, 500, 300, 100, 123456, 0, 812345,
            0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0);
        INSERT INTO attempt_totals VALUES (0, 'house', 'overloaded', 1, 0, 0, 0, 0, 5000);
        PRAGMA user_version = 1;
        PRAGMA application_id = {LOG.application_id};
    """)
    db.close()


def test_a_log_of_the_first_format_is_upgraded_with_all_that_is_in_it(path: Path) -> None:
    format_1(path)
    with pytest.raises(LogError, match="start the gateway once"):
        SqliteLog.read(path)
    log = SqliteLog(path)
    old = make_call(1, session="s", attempts=(FAILED,))
    assert log.get(old.id) == old
    (total,) = log.totals()
    assert (total.calls, total.repaired, total.repairs, total.replayed, total.buckets[6]) == (1, 0, 0, 0, 1)
    new = make_call(2, contract="Answer", repairs=3, ledger=LEDGER, replayed=old.id, samples=3, agreement=1.0)
    log.append([new, CHANGE])
    assert log.get(new.id) == new
    assert [call.id for batch in log.scan(Filter(repaired=True)) for call in batch] == [new.id]
    (total,) = log.totals()
    assert (total.calls, total.repaired, total.repairs, total.replayed, total.buckets[6]) == (2, 1, 3, 1, 2)
    assert {one.error: (one.attempts, one.reasks) for one in log.attempt_totals()} == {"": (1, 0), "overloaded": (2, 0)}
    assert list(log.fingerprints()) == [CHANGE]
    log.close()
    reader = SqliteLog.read(path)
    assert count(reader) == 2
    reader.close()


def format_2(path: Path) -> None:
    """Make a log as the second version wrote it: a call whose answer was repaired."""
    format_1(path)
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript((resources.files("holdfast.log") / "migrations" / "0002_contracts.sql").read_text())
    block = zstd.compress(msgspec.msgpack.encode([(REQUEST, REPLY, LEDGER)]))
    db.execute("UPDATE body_blocks SET data = ?", (block,))
    db.executescript("""
        UPDATE profiles SET contract = 'Answer';
        UPDATE call_rows SET repairs = 3, samples = 5, agreement = 0.8, subject = 'feed';
        UPDATE other_attempts SET saved_tokens = 4, ignored = 1;
        PRAGMA user_version = 2;
    """)
    db.close()


def test_a_log_of_the_second_format_is_upgraded_with_all_that_is_in_it(path: Path) -> None:
    format_2(path)
    with pytest.raises(LogError, match="start the gateway once"):
        SqliteLog.read(path)
    log = SqliteLog(path)
    tried = structs.replace(FAILED, saved_tokens=4, ignored=True)
    checked = {"contract": "Answer", "repairs": 3, "ledger": LEDGER, "samples": 5, "agreement": 0.8}
    old = make_call(1, session="s", subject="feed", attempts=(tried,), **checked)
    assert log.get(old.id) == old
    assert [total.calls for total in log.totals()] == [1]
    assert log.spend() == []
    new = make_call(2, tenant="acme", key="hf_a")
    log.append([new, make_call(3)])
    assert [log.get(call.id) for call in (new, old)] == [new, old]
    assert [call.id for batch in log.scan(Filter(tenant="acme")) for call in batch] == [new.id]
    assert {(one.tenant, one.model, one.attempts) for one in log.spend(tenant="acme")} == {
        ("acme", "gpt", 1),
        ("acme", "house", 1),
    }
    assert sql(path, "SELECT tenant, key FROM calls ORDER BY seq") == [(None, None), ("acme", "hf_a"), (None, None)]
    assert sql(path, "SELECT count(*) FROM attempts") == [(5,)]
    assert log.erase("feed") == 1
    log.close()
    reader = SqliteLog.read(path)
    assert count(reader) == 2
    reader.close()


def test_what_calls_have_in_common_is_found_at_once_however_many_keys_there_are(log: SqliteLog, path: Path) -> None:
    query = "SELECT number FROM profiles WHERE name IS 'n' AND key IS 'k' AND config IS 'c' AND wire IS 'w'"
    assert "profiles_name (name=? AND key=? AND config=?)" in str(sql(path, f"EXPLAIN QUERY PLAN {query}"))


def test_expiry_goes_on_from_where_it_was_without_reading_what_is_before(log: SqliteLog, path: Path) -> None:
    query = expiry._ONLY.replace("?", "1")
    plan = str(sql(path, f"EXPLAIN QUERY PLAN {query}"))
    assert "calls_at (at_us>? AND at_us<?)" in plan
    assert "TEMP B-TREE" not in plan


# --- reading alone ----------------------------------------------------------------------------------------------------


def test_reading_never_makes_a_log(path: Path) -> None:
    with pytest.raises(LogError, match="there is no log here"):
        SqliteLog.read(path)
    assert not path.parent.exists()


def test_reading_never_migrates_a_log(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    with pytest.raises(LogError, match="start the gateway once"):
        SqliteLog.read(path)
    assert path.read_bytes() == b""


def test_a_log_open_for_reading_takes_nothing(log: SqliteLog, path: Path) -> None:
    reader = SqliteLog.read(path)
    with pytest.raises(LogError, match="reading alone"):
        reader.append([make_call()])
    with pytest.raises(LogError, match="reading alone"):
        reader.erase("feed")
    reader.close()


def test_a_reader_sees_what_is_recorded_after_it_opened(log: SqliteLog, path: Path) -> None:
    reader = SqliteLog.read(path)
    log.append([make_call()])
    assert count(reader) == 1
    reader.close()


def test_a_closed_log_says_so(path: Path) -> None:
    log = SqliteLog(path)
    log.close()
    log.close()
    for use in (lambda: log.append([make_call()]), lambda: log.get("x"), log.totals):
        with pytest.raises(LogError, match="closed"):
            use()


# --- failing ----------------------------------------------------------------------------------------------------------


def test_a_full_disk_refuses_the_whole_batch_and_the_log_works_again_with_room(log: SqliteLog, path: Path) -> None:
    log.append([make_call(0)])
    assert log._writer is not None
    pages = log._writer.execute("PRAGMA page_count").fetchone()[0]
    log._writer.execute(f"PRAGMA max_page_count = {pages + 4}")
    texts = [Text(text=random.Random(n).randbytes(20_000).hex()) for n in range(9)]  # which can't be packed much
    requests = [Request(model="m", messages=(Message(role="user", parts=(text,)),)) for text in texts]
    batch = [make_call(n, request=request) for n, request in enumerate(requests, 1)]
    with pytest.raises(LogError, match="disk is full"):
        log.append(batch)
    assert count(log) == 1
    (total,) = log.totals()
    assert total.calls == 1
    log._writer.execute(f"PRAGMA max_page_count = {10**6}")
    log.append(batch)
    assert count(log) == 10


def test_a_log_locked_by_another_process_refuses_after_a_while(
    log: SqliteLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert log._writer is not None
    log._writer.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LogError, match="another process holds it locked"):
        log.append([make_call()])
    assert count(log) == 0
    other.execute("ROLLBACK")
    other.close()
    log.append([make_call()])
    assert count(log) == 1


def test_an_event_that_no_database_can_hold_is_recorded_as_near_as_it_gets(log: SqliteLog) -> None:
    odd = Request(model="m", messages=(Message(role="user", parts=(Text(text="\ud800!"),)),), extra={"big": 2**70})
    broken = make_call(1, message="\ud800?", tags={"\udfff": "1"}, request=odd, duration_us=1, fingerprint="\udc80")
    log.append([make_call(0), broken, make_call(2)])
    call = log.get(broken.id)
    assert call is not None
    assert (call.message, call.tags, call.fingerprint) == ("??", {"?": "1"}, "?")
    assert isinstance(call.request, Request)
    assert call.request.messages[0].text == "?!"
    assert count(log) == 3


def test_an_integer_beyond_the_database_is_left_out(log: SqliteLog) -> None:
    log.append([make_call(0, first_token_us=2**64), make_call(1)])
    assert [call.first_token_us for batch in log.scan(Filter()) for call in batch] == [300_000, None]


@pytest.mark.parametrize("change", [{"duration_us": None}, {"at_us": None}, {"session": object()}], ids=str)
def test_an_event_that_should_not_be_is_told_from_a_log_that_fails(log: SqliteLog, change: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        log.append([make_call(0), make_call(1, **change)])
    assert count(log) == 0
    log.append([make_call(0)])
    assert count(log) == 1


# --- at the same time -------------------------------------------------------------------------------------------------


def test_a_reader_in_the_middle_of_a_scan_holds_up_no_writer_and_no_checkpoint(log: SqliteLog, path: Path) -> None:
    log.append([make_call(n) for n in range(1200)])
    scan = iter(log.scan(Filter()))
    next(scan)
    log.append([make_call(5000)])
    assert log._writer is not None
    busy, _, _ = log._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert busy == 0
    assert sum(len(batch) for batch in scan) == 700


def test_a_search_holds_up_no_checkpoint(log: SqliteLog) -> None:
    log.append([make_call(n) for n in range(300)])
    writer = log._writer
    assert writer is not None
    busy: list[int] = []

    def checkpoint() -> None:
        log.append([make_call(1000 + len(busy))])
        busy.append(writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])

    assert log.search("kelp", Filter(limit=1000), pause=checkpoint).looked == 300
    assert len(busy) > 30
    assert not any(busy)


def test_threads_append_and_read_at_once(log: SqliteLog) -> None:
    def append(first: int) -> None:
        for n in range(first, first + 20):
            log.append([make_call(n)])
            log.get(make_call(first).id)
            log.totals()

    threads = [threading.Thread(target=append, args=(100 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(log) == 80
    (total,) = log.totals()
    assert total.calls == 80


# --- what calls have in common ----------------------------------------------------------------------------------------


def profiles(path: Path) -> int:
    return sql(path, "SELECT count(*) FROM profiles")[0][0]


def test_what_calls_have_in_common_is_stored_once_by_all_writers(log: SqliteLog, path: Path) -> None:
    other = SqliteLog(path)
    calls = [make_call(n, feature=None, stream=n > 3) for n in range(6)]
    log.append(calls[:3])
    other.append(calls[3:])
    assert profiles(path) == 2
    assert [log.get(call.id) for call in calls] == calls
    other.close()


def test_what_a_failed_batch_had_in_common_is_stored_with_the_next(log: SqliteLog, path: Path) -> None:
    log.append([make_call(1)])
    new = make_call(2, name="new")
    log.append([new, make_call(1)])  # refused for the second, then recorded without it
    assert log.get(new.id) == new
    assert profiles(path) == 2


def test_more_profiles_than_are_remembered_are_still_stored_once(
    log: SqliteLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.log.profiles._LIMIT", 2)
    calls = [make_call(n, name=f"name-{n % 5}") for n in range(20)]
    log.append(calls)
    assert profiles(path) == 5
    assert [log.get(call.id) for call in calls] == calls


# --- what SQL sees ----------------------------------------------------------------------------------------------------


def test_failed_attempts_by_model_are_one_query(log: SqliteLog, path: Path) -> None:
    log.append([make_call(n) for n in range(3)])
    query = "SELECT model, error, count(*) FROM attempts WHERE error IS NOT NULL GROUP BY model, error"
    assert sql(path, query) == [("house", "overloaded", 3)]


def test_every_attempt_is_seen_by_sql_however_it_is_stored(log: SqliteLog, path: Path) -> None:
    only, wrong = (
        make_call(1, attempts=(ATTEMPT,)),
        make_call(2, attempts=(FAILED,), outcome="error", error="overloaded"),
    )
    dear = make_call(3, attempts=(ATTEMPT,), cost_nanousd=None)
    lax = make_call(5, attempts=(structs.replace(ATTEMPT, ignored=True, saved_tokens=3),))
    calls = [make_call(0), only, wrong, dear, make_call(4, attempts=()), lax]
    log.append(calls)
    columns = [column for column in ATTEMPT.__struct_fields__ if column != "usage"]
    found = sql(path, f"SELECT call, n, at_us, input_tokens, {', '.join(columns)} FROM attempts ORDER BY call, n")
    assert found == [
        (
            seq,
            n,
            call.at_us,
            attempt.usage and attempt.usage.input_tokens,
            *[getattr(attempt, name) for name in columns],
        )
        for seq, call in enumerate(calls, 1)
        for n, attempt in enumerate(call.attempts)
    ]
    assert [log.get(call.id) for call in calls] == calls


def test_attempts_are_bounded_by_time_without_reading_the_others(path: Path, log: SqliteLog) -> None:
    query = "SELECT model, error, count(*) FROM attempts WHERE at_us >= 5 GROUP BY model, error"
    plan = [str(row[3]) for row in sql(path, f"EXPLAIN QUERY PLAN {query}")]
    assert len([step for step in plan if "calls_at (at_us>?)" in step]) == 2
    assert not [step for step in plan if step.startswith("SCAN") and step != "SCAN attempts"]


@pytest.mark.parametrize(
    ("condition", "index"),
    [
        ("at_us >= 1 AND (at_us, seq) < (5, 5) ORDER BY at_us DESC, seq DESC", "calls_at"),
        ("name = 'x' ORDER BY at_us DESC, seq DESC", "calls_at"),
        ("error = 'x' ORDER BY at_us DESC, seq DESC", "calls_error"),
        ("session = 'x' ORDER BY at_us DESC, seq DESC", "calls_session"),
        ("subject = 'x'", "calls_subject"),
        ("id >= 'a' AND id < 'b'", "calls_id"),
        ("repairs > 0 ORDER BY at_us DESC, seq DESC", "calls_repaired"),
        ("replayed IS NOT NULL AND at_us >= 5 ORDER BY at_us DESC, seq DESC", "calls_replayed"),
    ],
)
def test_what_is_asked_for_often_has_an_index(log: SqliteLog, path: Path, condition: str, index: str) -> None:
    plan = " ".join(str(row[3]) for row in sql(path, f"EXPLAIN QUERY PLAN SELECT * FROM calls WHERE {condition}"))
    assert index in plan
    assert "TEMP B-TREE" not in plan


def test_ids_are_found_by_their_beginning(log: SqliteLog) -> None:
    log.append([make_call(n) for n in (1, 2, 11)])
    assert log.ids(make_call(1).id, 5) == [make_call(1).id]
    assert len(log.ids("01CALL", 2)) == 2
    assert log.ids("02", 5) == []
    assert log.ids("01CALL%", 5) == []


# --- erasure ----------------------------------------------------------------------------------------------------------


def count_blocks(path: Path) -> int:
    return sql(path, "SELECT count(*) FROM body_blocks")[0][0]


def pieces(block: bytes) -> list[bytes]:
    """Return parts of a block that lie within a page each, wherever the pages begin."""
    return [block[start : start + 16] for start in range(100, 4_000, 1_000)]


def test_no_byte_of_an_erased_subject_stays_in_any_file(log: SqliteLog, path: Path) -> None:
    noise = random.Random(1).randbytes(20_000).hex()
    secret = Request(model="m", messages=(Message(role="user", parts=(Text(text="my secret is kelp" + noise),)),))
    ledger = (Repair("prose", 0, "the secret ", ""),)
    calls = [make_call(n, subject="feed", request=secret, session="s-secret", ledger=ledger) for n in range(5)]
    packed = Packer().pack(calls).blocks[0].data
    log.append([make_call(100 + n) for n in range(50)])
    log.append(calls)
    kept = b"".join([file.read_bytes() for file in path.parent.iterdir()])
    assert all(piece in kept for piece in pieces(packed))
    blocks = count_blocks(path)
    assert log.erase("feed") == 5
    assert count_blocks(path) == blocks - 1
    for file in path.parent.iterdir():
        content = file.read_bytes()
        assert b"secret" not in content
        assert not any(piece in content for piece in pieces(packed))
        assert calls[0].id.encode() not in content
        assert b"feed" not in content
    assert count(log) == 50


def test_a_block_of_bodies_goes_with_the_last_of_its_calls(log: SqliteLog, path: Path) -> None:
    calls = [make_call(n, subject="feed" if n % 2 else None) for n in range(300)]
    for start in range(0, 300, 50):
        log.append(calls[start : start + 50])
    assert count_blocks(path) == 12
    assert log.expire(START_US + 49_000_000, 1000).calls == 49
    assert count_blocks(path) == 11
    assert log.get(calls[49].id) == calls[49]
    assert log.expire(START_US + 50_000_000, 1000).calls == 1
    assert count_blocks(path) == 10
    log.expire(2**62, 120)
    log.expire(2**62, 1000)
    assert (count_blocks(path), count(log)) == (0, 0)
    assert sql(path, "SELECT count(*) FROM other_attempts") == [(0,)]


def test_calls_that_were_recorded_out_of_their_order_expire_with_their_bodies(log: SqliteLog, path: Path) -> None:
    calls = [make_call(n, at_us=START_US + (n * 7919) % 3000) for n in range(3000)]
    for start in range(0, 3000, 300):
        log.append(calls[start : start + 300])
    while log.expire(START_US + 2000, 100).next:
        pass
    kept = [call for call in calls if call.at_us >= START_US + 2000]
    assert [log.get(call.id) for call in kept] == kept
    while log.expire(2**62, 100).next:
        pass
    assert count_blocks(path) == 0


def test_an_erasure_that_a_reader_holds_up_says_so(log: SqliteLog, path: Path) -> None:
    log.append([make_call(1, subject="feed", request=REQUEST, at_us=START_US)])
    assert log._writer is not None
    log._writer.execute("PRAGMA busy_timeout = 50")
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM calls").fetchone()
    with pytest.raises(LogError, match="erase again"):
        log.erase("feed")
    reader.execute("COMMIT")
    reader.close()
    assert log.erase("feed") == 0
    assert b"feed" not in path.read_bytes()
