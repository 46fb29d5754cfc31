"""What every log does, whatever it is made of."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.chat import EmbeddingReply, EmbeddingRequest, Message, Request, Text, Usage
from holdfast.clock import SystemClock
from holdfast.events import Call, Correction, Reason, Snapshot
from holdfast.log.base import BEGINNING, DURATION_BOUNDS_S, Features, Filter, Log, Place, UnknownCall
from holdfast.log.memory import MemoryLog
from holdfast.log.sqlite import SqliteLog
from holdfast.log.view import call_json
from holdfast.privacy.sealing.keyring import Keyring
from holdfast.privacy.sealing.master import MasterKey
from holdfast.privacy.sealing.sealer import Sealer
from log_samples import ATTEMPT, CHANGE, FAILED, LEDGER, START_US, USAGE, make_call
from strategies import replies, requests

REASKED = msgspec.structs.replace(ATTEMPT, reason="reask", saved_tokens=7, ignored=True)


Erased = dict[str, int]


@pytest.fixture
def erased() -> Erased:
    """When subjects were erased, by their hashes."""
    return {}


@pytest.fixture(params=["sqlite", "sealed", "memory"])
def log(request: pytest.FixtureRequest, tmp_path: Path, erased: Erased) -> Iterator[Log]:
    log: Log = MemoryLog(erased_at=erased.get)
    keyring = None
    if request.param != "memory":
        if request.param == "sealed":
            keyring = Keyring(tmp_path / "keyring.db", MasterKey(bytes(range(32))), SystemClock())
        sealer = None if keyring is None else Sealer(keyring)
        log = SqliteLog(tmp_path / "log.db", sealer=sealer, erased_at=erased.get)
    yield log
    log.close()
    if keyring is not None:
        keyring.close()


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
    silenced = (msgspec.structs.replace(FAILED, message=None), ATTEMPT)  # where messages are sealed
    assert all(call.attempts in ((FAILED, ATTEMPT), silenced) for call in found)
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


# --- whose key it was -------------------------------------------------------------------------------------------------


def test_whose_key_made_a_call_comes_back_and_can_be_asked_for(log: Log) -> None:
    calls = [make_call(1, tenant="acme", key="hf_a"), make_call(2, tenant="acme", key="hf_b"), make_call(3)]
    log.append(calls)
    assert [log.get(call.id) for call in calls] == calls
    assert ids(log, tenant="acme") == [id_of(2), id_of(1)]
    assert ids(log, key="hf_a") == [id_of(1)]
    assert ids(log, tenant="acme", key="hf_c") == []
    assert ids(log, tenant="acme", tag=("key", "a")) == []


DAY = 86_400_000_000


def spent(log: Log, *bounds: int, **asked: Any) -> list[tuple[object, ...]]:
    return [msgspec.structs.astuple(one) for one in log.spend(*bounds, **asked)]


def test_spend_is_what_attempts_took_by_day_tenant_key_name_and_model(log: Log) -> None:
    day = START_US // DAY
    unknown = msgspec.structs.replace(ATTEMPT, usage=None, cost_nanousd=None)
    log.append(
        [
            make_call(1, tenant="acme", key="hf_a"),
            make_call(2, tenant="acme", key="hf_a", attempts=(ATTEMPT, unknown), store="none"),
            make_call(3, tenant="acme", key="hf_b", name="other", attempts=(ATTEMPT,), model=None),
        ]
    )
    log.append([make_call(4, at_us=START_US + DAY, attempts=(ATTEMPT,))])
    mine = [
        (day, "acme", "hf_a", "answer", "gpt", 3, 1000, 600, 246_912, 1),
        (day, "acme", "hf_a", "answer", "house", 1, 0, 0, 0, 0),
    ]
    other = (day, "acme", "hf_b", "other", "gpt", 1, 500, 300, 123_456, 0)
    nobody = (day + 1, "", "", "answer", "gpt", 1, 500, 300, 123_456, 0)
    assert spent(log) == [*mine, other, nobody]
    assert spent(log, tenant="acme", key="hf_a") == mine
    assert spent(log, tenant="") == [nobody]
    assert spent(log, START_US + 1, START_US + 2) == [*mine, other]
    assert spent(log, START_US + DAY) == [nobody]
    assert spent(log, START_US + 2 * DAY) == []


def test_spend_in_total_is_summed_over_days_and_keys(log: Log) -> None:
    log.append([make_call(1, tenant="acme", key="hf_a", attempts=(ATTEMPT,)), make_call(3, attempts=(ATTEMPT,))])
    log.append([make_call(2, tenant="acme", key="hf_b", attempts=(ATTEMPT,), at_us=START_US + DAY)])
    acme = (0, "acme", "", "answer", "gpt", 2, 1000, 600, 246_912, 0)
    assert spent(log, in_total=True) == [(0, "", "", "answer", "gpt", 1, 500, 300, 123_456, 0), acme]
    assert spent(log, tenant="acme", in_total=True) == [acme]
    assert spent(log, START_US + DAY, key="hf_b", in_total=True) == [(*acme[:5], 1, 500, 300, 123_456, 0)]


@pytest.mark.parametrize("error", ["limit_exceeded", "price_unknown", "saturated"])
def test_an_attempt_that_a_limit_stopped_spent_nothing(log: Log, error: str) -> None:
    stopped = msgspec.structs.replace(ATTEMPT, usage=None, cost_nanousd=0, error=error)
    log.append([make_call(1, attempts=(stopped, ATTEMPT)), make_call(2, attempts=(stopped,))])
    assert [one.attempts for one in log.spend()] == [1]
    assert sum(total.attempts for total in log.attempt_totals() if total.error == error) == 2


def test_neither_erasure_nor_expiry_makes_a_key_have_spent_less(log: Log) -> None:
    log.append([make_call(1, subject="feed", key="hf_a")])
    before = spent(log)
    log.erase("feed")
    log.expire(2**62, 10)
    assert spent(log) == before


# --- search -----------------------------------------------------------------------------------------------------------


def asking(text: str) -> Request:
    return Request(model="answer", messages=(Message(role="user", parts=(Text(text=text),)),))


def found(log: Log, text: str, **conditions: Any) -> list[str]:
    return [match.call.id for match in log.search(text, Filter(**conditions)).matches]


def test_a_text_is_found_in_whatever_was_said_newest_first(log: Log) -> None:
    busy = msgspec.structs.replace(FAILED, message="You asked for a WALRUS")
    log.append(
        [
            make_call(1, request=asking("a Walrus, please")),
            make_call(2, ledger=(msgspec.structs.replace(LEDGER[0], before="walrus"),)),
            make_call(3, message="no walrus here"),
            make_call(4),
            make_call(5, attempts=(ATTEMPT, busy), request=None, reply=None),
        ]
    )
    assert found(log, "walrus") == [id_of(n) for n in (5, 3, 2, 1)]
    places = {match.call.id: match.places for match in log.search("WALRUS", Filter()).matches}
    assert places == {
        id_of(5): [Place("/attempts/1/message", "You asked for a WALRUS")],
        id_of(3): [Place("/message", "no walrus here")],
        id_of(2): [Place("/ledger/0/before", "walrus")],
        id_of(1): [Place("/request/messages/0/parts/0/text", "a Walrus, please")],
    }
    assert found(log, "on the rock") == [id_of(n) for n in (4, 3, 2, 1)]


@pytest.mark.parametrize("text", ["messages", "user", "answer", "gpt-5-mini-2025", "nowhere"])
def test_names_of_fields_and_what_is_no_body_are_not_searched(log: Log, text: str) -> None:
    log.append([make_call(1, request=Request(model="m", messages=(), extra={}), reply=None)])
    assert found(log, text) == []


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("x" * 40_000 + "Straße", "STRASSE"),
        ("Ünïcode \U0001f9ad", "ünïCODE \U0001f9ad"),
        ('a "quoted" \\ back\nslash', '"quoted" \\ back\nslash'),
        ("\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2", "\u03a3\u038a\u03a3\u03a5\u03a6\u039f\u03a3"),
    ],
)
def test_a_text_is_found_in_any_writing_and_either_case(log: Log, said: str, text: str) -> None:
    log.append([make_call(1, request=asking(said)), make_call(2)])
    assert found(log, text) == [id_of(1)]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(said=st.text(min_size=1, max_size=300), data=st.data())
def test_every_part_of_what_was_said_is_found(log: Log, said: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(said) - 1))
    part = said[start : data.draw(st.integers(start + 1, len(said)))]
    n = sum(total.calls for total in log.totals())
    log.append([make_call(n, request=asking(said))])
    assert log.search(part, Filter(limit=1)).matches[0].call.id == id_of(n)


def test_a_match_carries_no_bodies_and_tells_the_words_around(log: Log) -> None:
    log.append([make_call(1, request=asking("a" * 100 + "kelp" + "b" * 100))])
    (match,) = log.search("kelp", Filter()).matches
    assert (match.call.request, match.call.reply, match.call.ledger) == (None, None, ())
    assert [place.excerpt for place in match.places] == ["…" + "a" * 60 + "kelp" + "b" * 60 + "…"]


def test_a_search_obeys_its_filter_and_ends_with_as_many_matches_as_asked_for(log: Log) -> None:
    log.append([make_call(n, tenant="a" if n % 2 else "b") for n in range(100)])
    first = log.search("kelp", Filter(tenant="a", limit=3))
    assert [match.call.id for match in first.matches] == [id_of(n) for n in (99, 97, 95)]
    assert (first.looked, first.withheld, first.next) == (3, 0, id_of(95))
    second = log.search("kelp", Filter(tenant="a", limit=100, before=first.next))
    assert [match.call.id for match in second.matches] == [id_of(n) for n in range(93, 0, -2)]
    assert second.next is None
    with pytest.raises(UnknownCall):
        log.search("kelp", Filter(before="01NOWHERE"))


def test_a_search_looks_at_so_many_calls_and_tells_where_to_go_on(log: Log) -> None:
    log.append([make_call(n, request=asking("a walrus" if n == 3 else "kelp")) for n in range(200)])
    looked, cursor, matches = 0, None, []
    while looked == 0 or cursor is not None:
        step = log.search("walrus", Filter(before=cursor), most_calls=70)
        assert step.looked <= 70
        looked, cursor = looked + step.looked, step.next
        matches += step.matches
    assert looked == 200
    assert [match.call.id for match in matches] == [id_of(3)]


def test_a_search_that_has_no_time_still_gets_on(log: Log) -> None:
    log.append([make_call(n) for n in range(5)])
    step = log.search("walrus", Filter(), most_seconds=0.0)
    assert (step.looked, step.next) == (1, id_of(4))


def test_a_search_pauses_as_it_goes(log: Log) -> None:
    log.append([make_call(n) for n in range(100)])
    pauses: list[int] = []
    log.search("walrus", Filter(), pause=lambda: pauses.append(1))
    assert len(pauses) >= 10


def test_a_search_holds_up_nobody_who_writes_and_does_not_see_what_came_after_it_began(log: Log) -> None:
    log.append([make_call(n) for n in range(300)])
    new = iter(range(1000, 2000))
    found = log.search("kelp", Filter(limit=1000), pause=lambda: log.append([make_call(next(new))]))
    assert [match.call.id for match in found.matches] == [id_of(n) for n in range(299, -1, -1)]
    assert len(ids(log)) > 330


def test_a_search_for_nothing_is_refused(log: Log) -> None:
    with pytest.raises(ValueError, match="empty"):
        log.search("", Filter())


# --- export -----------------------------------------------------------------------------------------------------------


def test_an_export_is_all_that_a_subject_ever_said_and_was_told(log: Log) -> None:
    calls = [make_call(n, subject="feed" if n % 2 else "beef", message="Why?", ledger=LEDGER) for n in range(4)]
    log.append(calls)
    exported = list(log.export("feed"))
    assert exported == [call_json(calls[3]), call_json(calls[1])]
    assert msgspec.json.decode(msgspec.json.encode(exported))[0]["request"]["messages"]
    assert list(log.export("dead")) == []


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


def test_a_call_that_arrived_before_its_subject_was_erased_only_counts(log: Log, erased: Erased) -> None:
    late, timely, other = make_call(1, subject="feed"), make_call(9, subject="feed"), make_call(2, subject="beef")
    erased["feed"] = START_US + 5_000_000
    log.append([make_call(0), late, other, timely])
    assert ids(log) == [id_of(9), id_of(2), id_of(0)]
    assert [log.get(call.id) for call in (late, other, timely)] == [None, other, timely]
    (total,) = log.totals()
    assert total.calls == 4
    log.append([Correction(call=late)])
    assert log.get(late.id) is None


def test_a_late_call_is_dropped_also_where_others_of_its_batch_are_there_already(log: Log, erased: Erased) -> None:
    log.append([make_call(1)])
    erased["feed"] = START_US + 5_000_000
    log.append([make_call(1), make_call(2, subject="feed"), make_call(3)])
    assert ids(log) == [id_of(3), id_of(1)]


def test_a_call_that_arrives_as_its_subject_is_erased_is_late(log: Log, erased: Erased) -> None:
    erased["feed"] = START_US + 1_000_000
    log.append([make_call(1, subject="feed"), make_call(2, subject="feed")])
    assert ids(log) == [id_of(2)]


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


def test_calls_to_some_features_expire_and_others_stay(log: Log) -> None:
    features = ("a", "b", None)
    calls = [make_call(n, feature=features[n % 3]) for n in range(30)]
    log.append(calls)
    assert log.expire(START_US + 15_000_000, 100, Features(frozenset({"a"}))).calls == 5
    assert log.expire(START_US + 15_000_000, 100, Features(but=frozenset({"a", "b"}))).calls == 5
    gone = {n for n in range(15) if n % 3 != 1}
    assert [log.get(call.id) for call in calls] == [None if n in gone else call for n, call in enumerate(calls)]
    assert log.expire(2**62, 100, Features(frozenset({"c"}))) == (0, None)


def test_expiry_passes_over_the_calls_of_others_bit_by_bit(log: Log) -> None:
    log.append([make_call(n, feature="rare" if n in (3, 50, 97) else "often") for n in range(100)])
    rare, start, expired, steps = Features(frozenset({"rare"})), BEGINNING, 0, 0
    while start is not None:
        step = log.expire(2**62, 2, rare, start)
        assert step.calls <= 2
        expired, steps, start = expired + step.calls, steps + 1, step.next
    assert expired == 3
    assert len(ids(log)) == 97
    assert steps > 5 or isinstance(log, MemoryLog)


def test_a_bounded_memory_log_lets_the_oldest_go() -> None:
    log = MemoryLog(limit=2)
    log.append([make_call(n) for n in range(5)])
    assert ids(log) == [id_of(4), id_of(3)]
    assert log.get(id_of(2)) is None
