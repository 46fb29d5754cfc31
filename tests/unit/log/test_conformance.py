"""What every log does, whatever it is made of."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.chat import EmbeddingReply, EmbeddingRequest, Usage
from holdfast.events import Call, Correction, Reason, Snapshot
from holdfast.log.base import DURATION_BOUNDS_S, Filter, Log, UnknownCall
from holdfast.log.memory import MemoryLog
from holdfast.log.sqlite import SqliteLog
from log_samples import ATTEMPT, CHANGE, FAILED, LEDGER, START_US, USAGE, make_call
from strategies import replies, requests

REASKED = msgspec.structs.replace(ATTEMPT, reason="reask", saved_tokens=7, ignored=True)


@pytest.fixture(params=["sqlite", "memory"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    log: Log = SqliteLog(tmp_path / "log.db") if request.param == "sqlite" else MemoryLog()
    yield log
    log.close()


def ids(log: Log, **conditions: object) -> list[str]:
    return [call.id for batch in log.scan(Filter(**conditions)) for call in batch]  # type: ignore[arg-type]


def id_of(n: int) -> str:
    return make_call(n).id


# --- one call ---------------------------------------------------------------------------------------------------------


def test_a_call_comes_back_as_it_was_recorded(log: Log) -> None:
    call = make_call(
        session="s", subject="a1b2", tags={"team": "kelp", "": "ü"}, fingerprint="fp", stream=True, error="timeout",
        message="The provider was silent.", outcome="last_resort", status=504,
    )  # fmt: skip
    log.append([call])
    assert log.get(call.id) == call


def test_a_call_with_nothing_known_comes_back_with_nothing_known(log: Log) -> None:
    nothing = make_call(
        usage=None, cost_nanousd=None, attempts=(), request=None, reply=None, feature=None, model=None, provider=None,
        served_model=None, finish=None, first_token_us=None, outcome="error", status=400, error="invalid_request",
    )  # fmt: skip
    log.append([nothing])
    assert log.get(nothing.id) == nothing


@pytest.mark.parametrize("reason", get_args(Reason))
@pytest.mark.parametrize("estimated", [True, False])
def test_why_an_attempt_was_made_comes_back_and_whether_its_usage_is_estimated(
    log: Log, reason: Reason, estimated: bool
) -> None:
    only = msgspec.structs.replace(ATTEMPT, reason=reason, estimated=estimated)
    calls = [make_call(1, attempts=(only,)), make_call(2, attempts=(FAILED, only))]
    log.append(calls)
    assert [log.get(call.id) for call in calls] == calls


def test_how_an_answer_met_its_contract_comes_back(log: Log) -> None:
    calls = [
        make_call(1, contract="Answer", repairs=3, ledger=LEDGER),
        make_call(2, contract="request", replayed=id_of(1)),
        make_call(3, samples=5, agreement=0.8),
        make_call(4, contract="Answer", repairs=1, ledger=LEDGER[:1], request=None, reply=None),
    ]
    log.append(calls)
    assert [log.get(call.id) for call in calls] == calls
    scanned = [call for batch in log.scan(Filter()) for call in batch]
    assert [(call.contract, call.repairs, call.replayed, call.samples, call.agreement) for call in scanned] == [
        (call.contract, call.repairs, call.replayed, call.samples, call.agreement) for call in calls[::-1]
    ]
    assert all(call.ledger == () for call in scanned)


@pytest.mark.parametrize("change", [{"saved_tokens": 40}, {"ignored": True}, {"saved_tokens": 1, "ignored": True}])
def test_what_an_attempt_saved_and_whether_its_server_ignored_a_constraint_come_back(
    log: Log, change: dict[str, Any]
) -> None:
    only = msgspec.structs.replace(ATTEMPT, **change)
    calls = [make_call(1, attempts=(only,)), make_call(2, attempts=(FAILED, only))]
    log.append(calls)
    assert [log.get(call.id) for call in calls] == calls


def test_unknown_usage_and_zero_usage_stay_apart(log: Log) -> None:
    log.append([make_call(1, usage=None), make_call(2, usage=Usage())])
    assert [call.usage for batch in log.scan(Filter()) for call in batch] == [Usage(), None]


@pytest.mark.parametrize("input", [("a", "b"), ((1, 2), (3,)), ()])
def test_embeddings_come_back_as_they_were_recorded(log: Log, input: tuple[str, ...]) -> None:
    request = EmbeddingRequest(model="e", input=input, dimensions=2, extra={"user": "u"})
    reply = EmbeddingReply(model="e", vectors=((0.5, 1.0), "AAAA"), usage=Usage(input_tokens=3))
    log.append([make_call(kind="embeddings", request=request, reply=reply)])
    call = log.get(id_of(0))
    assert call is not None
    assert (call.request, call.reply) == (request, reply)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(request=requests(), reply=replies())
def test_any_request_and_reply_survive(log: Log, request: object, reply: object) -> None:
    counter = sum(total.calls for total in log.totals())
    log.append([make_call(counter, request=request, reply=reply)])
    call = log.get(id_of(counter))
    assert call is not None
    assert (call.request, call.reply) == (request, reply)


def test_an_unknown_id_is_none(log: Log) -> None:
    assert log.get("01NOWHERE") is None


def test_a_call_is_recorded_once_however_often_it_is_appended(log: Log) -> None:
    first, second, third = make_call(1), make_call(2), make_call(3)
    log.append([first])
    log.append([first, second, second])
    log.append([second, third])
    assert ids(log) == [third.id, second.id, first.id]
    (total,) = log.totals()
    assert total.calls == 3


def test_a_log_pauses_between_pieces_of_a_large_batch_and_records_all_of_it(log: Log) -> None:
    pauses: list[int] = []
    log.append([make_call(n) for n in range(100)], lambda: pauses.append(1))
    assert len(ids(log)) == 100
    assert len(pauses) >= 3 or isinstance(log, MemoryLog)


def test_an_empty_batch_is_nothing(log: Log) -> None:
    log.append([])
    assert (ids(log), list(log.totals())) == ([], [])


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_metadata_leaves_out_the_bodies_and_all_messages(log: Log) -> None:
    call = make_call(
        store="metadata", error="overloaded", message="You said: kelp", outcome="error", status=503,
        contract="Answer", repairs=3, ledger=LEDGER,
    )  # fmt: skip
    log.append([call])
    silent = tuple([msgspec.structs.replace(attempt, message=None) for attempt in call.attempts])
    kept = msgspec.structs.replace(call, request=None, reply=None, ledger=(), message=None, attempts=silent)
    assert log.get(call.id) == kept
    assert [found for batch in log.scan(Filter()) for found in batch] == [kept]


def test_a_call_that_is_not_kept_counts_all_the_same(log: Log) -> None:
    log.append([make_call(1, store="none"), make_call(2)])
    assert ids(log) == [id_of(2)]
    (total,) = log.totals()
    assert total.calls == 2


def test_a_snapshot_comes_back_and_the_first_stays(log: Log) -> None:
    snapshot = Snapshot(hash="abc", at_us=1, files={"holdfast.toml": "[models]\n# ü"})
    log.append([snapshot, make_call()])
    log.append([msgspec.structs.replace(snapshot, at_us=2)])
    assert log.snapshot("abc") == snapshot
    assert log.snapshot("abd") is None


def test_changes_of_fingerprints_come_back_newest_first_and_once(log: Log) -> None:
    others = [msgspec.structs.replace(CHANGE, at_us=START_US + n, model=f"m{n % 2}") for n in range(1, 5)]
    log.append([CHANGE, make_call(), *others])
    log.append([CHANGE, others[0]])
    assert list(log.fingerprints()) == [*others[::-1], CHANGE]
    assert list(log.fingerprints(model="m1")) == [others[2], others[0]]
    assert list(log.fingerprints(since_us=START_US + 3)) == [others[3], others[2]]
    assert list(log.fingerprints(model="m0", limit=1)) == [others[3]]
    assert list(log.fingerprints(model="none", since_us=0)) == []


def test_no_erasure_takes_changes_of_fingerprints_away(log: Log) -> None:
    log.append([CHANGE, make_call(subject="feed")])
    log.erase("feed")
    log.expire(2**62, 100)
    assert list(log.fingerprints()) == [CHANGE]


# --- corrections ------------------------------------------------------------------------------------------------------


def refused(call: Call) -> Call:
    return msgspec.structs.replace(call, outcome="error", status=503, error="saturated", message="Not in time.")


@pytest.mark.parametrize("together", [True, False])
def test_a_corrected_call_says_what_came_after_and_keeps_its_bodies(log: Log, together: bool) -> None:
    call = make_call(2, attempts=(ATTEMPT,), contract="Answer", repairs=3, ledger=LEDGER)
    after = msgspec.structs.replace(refused(call), attempts=(FAILED, ATTEMPT), request=None, ledger=())
    batches = [[make_call(1), call, make_call(3), Correction(call=after)]]
    for batch in batches if together else [batches[0][:3], batches[0][3:]]:
        log.append(batch)
    corrected = msgspec.structs.replace(after, request=call.request, ledger=LEDGER)
    assert log.get(call.id) == corrected
    assert ids(log) == [id_of(3), id_of(2), id_of(1)]
    assert ids(log, error="saturated") == [id_of(2)]
    assert ids(log, after=id_of(1)) == [id_of(2), id_of(3)]
    log.append([Correction(call=after)])
    assert log.get(call.id) == corrected


def test_a_correction_leaves_the_totals_which_only_grow(log: Log) -> None:
    log.append([make_call(1)])
    before = (list(log.totals()), list(log.attempt_totals()))
    log.append([Correction(call=refused(make_call(1)))])
    assert (list(log.totals()), list(log.attempt_totals())) == before


def test_a_corrected_call_is_known_by_metadata_alone_where_that_is_all_it_keeps(log: Log) -> None:
    call = make_call(1, store="metadata")
    log.append([call, Correction(call=refused(call))])
    found = log.get(call.id)
    assert found is not None
    assert (found.error, found.message, found.request) == ("saturated", None, None)
    assert not any(attempt.message for attempt in found.attempts)


def test_a_correction_of_a_call_that_is_not_there_is_nothing(log: Log) -> None:
    log.append([Correction(call=make_call(1)), make_call(2, store="none"), Correction(call=make_call(2, store="none"))])
    assert ids(log) == []


# --- scans ------------------------------------------------------------------------------------------------------------


def test_a_scan_is_newest_first_with_attempts_and_without_bodies(log: Log) -> None:
    log.append([make_call(2), make_call(1), make_call(3)])
    found = [call for batch in log.scan(Filter()) for call in batch]
    assert [call.id for call in found] == [id_of(3), id_of(2), id_of(1)]
    assert all(call.attempts == (FAILED, ATTEMPT) for call in found)
    assert all(call.request is None and call.reply is None for call in found)


def test_what_was_repaired_or_given_again_is_told_from_what_was_not(log: Log) -> None:
    log.append([make_call(1), make_call(2, repairs=1, replayed=id_of(1)), make_call(3, repairs=2)])
    assert ids(log, repaired=False) == [id_of(1)]
    assert ids(log, replayed=False) == [id_of(3), id_of(1)]
    assert ids(log, repaired=True, replayed=True) == [id_of(2)]


CONDITIONS: list[tuple[dict[str, object], dict[str, object]]] = [
    ({"name": "other"}, {"name": "other"}),
    ({"model": "house"}, {"model": "house"}),
    ({"outcome": "error"}, {"outcome": "error"}),
    ({"error": "timeout"}, {"error": "timeout"}),
    ({"session": "s1"}, {"session": "s1"}),
    ({"subject": "feed"}, {"subject": "feed"}),
    ({"contract": "Answer"}, {"contract": "Answer"}),
    ({"repaired": True}, {"repairs": 2}),
    ({"replayed": True}, {"replayed": "01CALL"}),
    ({"tag": ("a\"'$.", "1")}, {"tags": {"a\"'$.": "1", "b": "2"}}),
]


@pytest.mark.parametrize(("condition", "change"), CONDITIONS, ids=[next(iter(c)) for c, _ in CONDITIONS])
def test_each_condition_finds_its_calls_alone(
    log: Log, condition: dict[str, object], change: dict[str, object]
) -> None:
    log.append([make_call(1), make_call(2, **change), make_call(3, session="s2", subject="beef", tags={"b": "1"})])
    assert ids(log, **condition) == [id_of(2)]


def test_conditions_hold_together(log: Log) -> None:
    log.append([make_call(n, name="other" if n % 2 else "answer", session="s" if n < 3 else None) for n in range(6)])
    assert ids(log, name="other", session="s") == [id_of(1)]


def test_since_is_inclusive_and_until_is_not(log: Log) -> None:
    log.append([make_call(n) for n in range(5)])
    second = 1_000_000
    assert ids(log, since_us=START_US + second, until_us=START_US + 3 * second) == [id_of(2), id_of(1)]


def test_pages_join_to_the_whole_even_where_arrivals_tie(log: Log) -> None:
    calls = [make_call(n, at_us=START_US + n // 3) for n in range(20)]
    log.append(calls)
    found: list[str] = []
    while page := ids(log, limit=7, before=found[-1] if found else None):
        found += page
    assert found == ids(log)
    assert len(found) == 20


def test_after_runs_on_from_a_call_in_the_order_of_recording(log: Log) -> None:
    log.append([make_call(5), make_call(1)])
    log.append([make_call(3)])
    assert ids(log, after=id_of(5)) == [id_of(1), id_of(3)]
    assert ids(log, after=id_of(5), limit=1) == [id_of(1)]
    assert ids(log, after=id_of(5), before=id_of(1)) == [id_of(3)]
    assert ids(log, after=id_of(3)) == []


@pytest.mark.parametrize("cursor", ["before", "after"])
def test_an_unknown_cursor_is_refused_instead_of_looking_like_the_end(log: Log, cursor: str) -> None:
    log.append([make_call()])
    with pytest.raises(UnknownCall, match="01NOWHERE"):
        ids(log, **{cursor: "01NOWHERE"})


@pytest.mark.parametrize("limit", [0, 1, 499, 500, 501, 1000, 1001, 2000])
def test_a_limit_holds_across_batches(log: Log, limit: int) -> None:
    log.append([make_call(n) for n in range(1001)])
    assert len(ids(log, limit=limit)) == min(limit, 1001)


def test_a_scan_may_be_left_early_and_calls_appended_meanwhile(log: Log) -> None:
    log.append([make_call(n) for n in range(600)])
    scan = iter(log.scan(Filter()))
    assert next(scan)[0].id == id_of(599)
    log.append([make_call(1000)])
    assert next(scan)[-1].id == id_of(0)
    next(iter(log.scan(Filter())))


# --- totals -----------------------------------------------------------------------------------------------------------


def test_totals_are_the_sums_over_the_calls(log: Log) -> None:
    log.append([make_call(1), make_call(2, cost_nanousd=None, usage=None, attempts=(ATTEMPT,))])
    log.append([make_call(3)])
    (total,) = log.totals()
    assert (total.name, total.model, total.outcome, total.error) == ("answer", "gpt", "answered", "")
    assert (total.calls, total.attempts, total.unpriced) == (3, 5, 1)
    assert (total.input_tokens, total.output_tokens, total.cache_read_tokens) == (1000, 600, 200)
    assert (total.cost_nanousd, total.duration_us) == (2 * 123_456, 3 * 812_345)


def test_totals_are_kept_apart_by_name_model_outcome_and_error(log: Log) -> None:
    changes: list[dict[str, object]] = [
        {}, {"name": "other"}, {"model": None}, {"outcome": "error"}, {"error": "timeout"}
    ]  # fmt: skip
    log.append([make_call(n, **change) for n, change in enumerate(changes)])
    keys = {(total.name, total.model, total.outcome, total.error) for total in log.totals()}
    assert len(keys) == 5
    assert ("answer", "", "answered", "") in keys


def test_totals_since_a_minute_leave_out_what_arrived_before(log: Log) -> None:
    minute = 60_000_000
    start = START_US // minute * minute
    log.append([make_call(n, at_us=start + n * minute // 2) for n in range(10)])
    (total,) = log.totals(since_us=start + 4 * minute + 1)
    assert total.calls == 2
    assert list(log.totals(since_us=start + 60 * minute)) == []


def test_a_duration_on_a_bound_counts_below_it_and_the_longest_beyond_all(log: Log) -> None:
    bounds = [round(bound * 1e6) for bound in DURATION_BOUNDS_S]
    log.append([make_call(n, duration_us=duration) for n, duration in enumerate([*bounds, bounds[-1] + 1, 0])])
    (total,) = log.totals()
    assert total.buckets == (2, *[1] * len(DURATION_BOUNDS_S))


def test_attempt_totals_are_the_sums_over_the_attempts_by_the_model_tried(log: Log) -> None:
    unpriced = msgspec.structs.replace(ATTEMPT, usage=None, cost_nanousd=None)
    log.append([make_call(1), make_call(2, attempts=(unpriced,), store="none"), make_call(3, attempts=())])
    log.append([make_call(4, outcome="error", model=None, attempts=(FAILED,))])
    worked, failed = sorted(log.attempt_totals(), key=lambda total: total.error)
    assert (worked.model, worked.error, worked.attempts, worked.unpriced) == ("gpt", "", 2, 1)
    assert (worked.input_tokens, worked.output_tokens, worked.cost_nanousd) == (500, 300, 123_456)
    assert (failed.model, failed.error, failed.attempts) == ("house", "overloaded", 2)
    assert (worked.duration_us, failed.duration_us) == (2 * 811_000, 2 * 5_000)


def test_attempt_totals_since_a_minute_leave_out_calls_that_arrived_before(log: Log) -> None:
    minute = 60_000_000
    start = START_US // minute * minute
    log.append([make_call(n, at_us=start + n * minute // 2, attempts=(ATTEMPT,)) for n in range(10)])
    assert [total.attempts for total in log.attempt_totals()] == [10]
    assert [total.attempts for total in log.attempt_totals(since_us=start + 4 * minute + 1)] == [2]
    assert list(log.attempt_totals(since_us=start + 60 * minute)) == []


def test_a_call_counts_once_in_the_attempt_totals_and_stays_there_when_erased(log: Log) -> None:
    log.append([make_call(1, subject="feed")])
    log.append([make_call(1, subject="feed"), make_call(2)])
    log.erase("feed")
    assert {total.model: total.attempts for total in log.attempt_totals()} == {"gpt": 2, "house": 2}


def test_totals_tell_what_contracts_and_replays_did(log: Log) -> None:
    mended = msgspec.structs.replace(ATTEMPT, reason="reask")
    broken = msgspec.structs.replace(ATTEMPT, error="contract_violated", saved_tokens=40, ignored=True)
    log.append(
        [
            make_call(1, repairs=3, attempts=(broken, mended)),
            make_call(2, repairs=1, attempts=(broken, broken)),
            make_call(3, replayed=id_of(1), attempts=()),
        ]
    )
    (total,) = log.totals()
    assert (total.repaired, total.repairs, total.replayed) == (2, 4, 1)
    worked, violated = sorted(log.attempt_totals(), key=lambda total: total.error)
    assert (worked.reasks, worked.saved_tokens, worked.ignored) == (1, 0, 0)
    assert (violated.attempts, violated.reasks, violated.saved_tokens, violated.ignored) == (3, 0, 120, 3)


call_changes = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["a", "b"]),
        "model": st.sampled_from(["x", None]),
        "at_us": st.integers(START_US, START_US + 300_000_000),
        "cost_nanousd": st.none() | st.integers(0, 10**12),
        "duration_us": st.integers(0, 200_000_000),
        "usage": st.none() | st.just(USAGE),
        "store": st.sampled_from(["all", "metadata", "none"]),
        "repairs": st.integers(0, 3),
        "replayed": st.sampled_from([None, "01CALL"]),
        "attempts": st.lists(st.sampled_from([ATTEMPT, FAILED, REASKED]), max_size=3).map(tuple),
    }
)


@settings(max_examples=25, deadline=None)
@given(batches=st.lists(st.lists(call_changes, max_size=12), max_size=4), since=st.integers(0, 300_000_000))
def test_both_logs_agree_on_every_total(
    batches: list[list[dict[str, object]]], since: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    logs: list[Log] = [SqliteLog(tmp_path_factory.mktemp("log") / "log.db"), MemoryLog()]
    for log in logs:
        n = iter(range(100))
        for batch in batches:
            log.append([make_call(next(n), **changes) for changes in batch])
    key: Callable[[object], str] = repr
    for since_us in (None, START_US + since):
        first, second = [sorted(log.totals(since_us), key=key) for log in logs]
        assert first == second
        first_attempts, second_attempts = [sorted(log.attempt_totals(since_us), key=key) for log in logs]
        assert first_attempts == second_attempts
    assert ids(logs[0]) == ids(logs[1])
    logs[0].close()


# --- erasure ----------------------------------------------------------------------------------------------------------


def test_erasing_a_subject_deletes_its_calls_alone(log: Log) -> None:
    log.append([make_call(n, subject="feed" if n % 2 else "beef") for n in range(4)])
    assert log.erase("feed") == 2
    assert ids(log) == [id_of(2), id_of(0)]
    assert log.get(id_of(1)) is None
    assert log.erase("feed") == 0
    (total,) = log.totals()
    assert total.calls == 4


def test_what_is_recorded_after_an_erasure_comes_after_what_was_before(log: Log) -> None:
    log.append([make_call(1), make_call(2, subject="feed")])
    log.erase("feed")
    log.append([make_call(3)])
    assert ids(log, after=id_of(1)) == [id_of(3)]


def test_calls_without_a_subject_are_never_erased(log: Log) -> None:
    log.append([make_call(1), make_call(2, subject="")])
    assert log.erase("None") == 0
    assert len(ids(log)) == 2


# --- expiry -----------------------------------------------------------------------------------------------------------


def test_expiry_deletes_the_oldest_calls_a_few_at_a_time_until_none_is_too_old(log: Log) -> None:
    order = random.Random(1).sample(range(10), 10)
    log.append([make_call(n, attempts=(FAILED, ATTEMPT)) for n in order])
    before = START_US + 5_000_000
    assert [log.expire(before, 2).calls for _ in range(4)] == [2, 2, 1, 0]
    assert ids(log) == [id_of(n) for n in range(9, 4, -1)]
    assert log.get(id_of(4)) is None
    assert all(log.get(id_of(n)) == make_call(n, attempts=(FAILED, ATTEMPT)) for n in range(5, 10))


def test_expiry_leaves_the_totals_and_the_configurations(log: Log) -> None:
    log.append([make_call(n) for n in range(3)])
    log.append([Snapshot(hash="h", at_us=1, files={})])
    before = (list(log.totals()), list(log.attempt_totals()))
    assert log.expire(2**62, 10) == (3, None)
    assert (list(log.totals()), list(log.attempt_totals())) == before
    assert log.snapshot("h") is not None
    assert ids(log) == []


def test_what_is_recorded_after_an_expiry_comes_after_what_was_before(log: Log) -> None:
    log.append([make_call(1), make_call(3)])
    log.expire(START_US + 2_000_000, 10)
    log.append([make_call(2)])
    assert ids(log, after=id_of(3)) == [id_of(2)]
    log.expire(2**62, 10)
    log.append([make_call(4)])
    assert ids(log) == [id_of(4)]


@settings(max_examples=20, deadline=None)
@given(
    calls=st.lists(st.tuples(st.integers(0, 40), st.sampled_from([None, "a", "b"]), st.booleans()), max_size=60),
    before=st.integers(0, 41),
    size=st.integers(1, 30),
)
def test_expiry_leaves_every_other_call_whole(
    calls: list[tuple[int, str | None, bool]], before: int, size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = [
        make_call(n, at_us=at, subject=subject, **({} if bodies else {"request": None, "reply": None}))
        for n, (at, subject, bodies) in enumerate(calls)
    ]
    logs: list[Log] = [SqliteLog(tmp_path_factory.mktemp("log") / "log.db"), MemoryLog()]
    for log in logs:
        for start in range(0, len(made), 7):
            log.append(made[start : start + 7])
        while log.expire(before, size).next:
            pass
        assert [log.get(call.id) for call in made] == [call if call.at_us >= before else None for call in made]
    logs[0].close()


def test_a_bounded_memory_log_lets_the_oldest_go() -> None:
    log = MemoryLog(limit=2)
    log.append([make_call(n) for n in range(5)])
    assert ids(log) == [id_of(4), id_of(3)]
    assert log.get(id_of(2)) is None
