import msgspec

from holdfast.clock import SystemClock
from holdfast.gateway.serving.pages.metrics import render
from holdfast.gateway.settings import GatewaySettings
from holdfast.gateway.traffic.health import Register
from holdfast.log.base import Spend
from holdfast.log.memory import MemoryLog
from holdfast.providers.base import ModelSettings
from holdfast.state.board import Board
from log_samples import ATTEMPT, FAILED, make_call


def lines(log: MemoryLog) -> list[str]:
    return render(log.totals(), log.attempt_totals(), 0, {}).decode().splitlines()


def test_attempts_are_told_by_the_model_that_was_tried_and_not_by_the_one_that_answered():
    log = MemoryLog()
    log.append([make_call(n, attempts=(FAILED, ATTEMPT)) for n in range(3)])
    log.append([make_call(3, outcome="last_resort", model=None, attempts=(FAILED,))])
    assert [line for line in lines(log) if line.startswith("holdfast_attempt")] == [
        'holdfast_attempts_total{model="gpt",error=""} 3',
        'holdfast_attempts_total{model="house",error="overloaded"} 4',
        'holdfast_attempt_duration_seconds_sum{model="gpt",error=""} 2.433',
        'holdfast_attempt_duration_seconds_count{model="gpt",error=""} 3',
        'holdfast_attempt_duration_seconds_sum{model="house",error="overloaded"} 0.02',
        'holdfast_attempt_duration_seconds_count{model="house",error="overloaded"} 4',
    ]


def test_a_name_can_not_end_its_label():
    log = MemoryLog()
    log.append([make_call(1, name='a"} 1\n\\')])
    assert 'holdfast_calls_total{name="a\\"} 1\\n\\\\",model="gpt",outcome="answered",error=""} 1' in lines(log)


def test_the_health_of_each_model_is_told_over_all_workers():
    register = Register(Board.create(None, 1), SystemClock())
    healths = {name: register.health(name, ModelSettings(provider="openai"), GatewaySettings()) for name in "ab"}
    down = healths["b"]
    for _ in range(5):
        down.breaker.failed()
    down.begin()
    assert down.retry()
    assert down.hedge()
    assert down.hedge()
    page = render([], [], 0, healths).decode().splitlines()
    assert [line for line in page if "model=" in line] == [
        'holdfast_model_down{model="a"} 0',
        'holdfast_model_down{model="b"} 1',
        'holdfast_model_attempts{model="a"} 0',
        'holdfast_model_attempts{model="b"} 1',
        'holdfast_probes_total{model="a"} 0',
        'holdfast_probes_total{model="b"} 0',
        'holdfast_retries_total{model="a"} 0',
        'holdfast_retries_total{model="b"} 1',
        'holdfast_hedges_total{model="a"} 0',
        'holdfast_hedges_total{model="b"} 2',
    ]


def test_what_contracts_and_replays_did_is_told():
    log = MemoryLog()
    broken = msgspec.structs.replace(ATTEMPT, error="contract_violated", saved_tokens=40, ignored=True)
    mended = msgspec.structs.replace(ATTEMPT, reason="reask")
    log.append([make_call(1, repairs=3, attempts=(broken, mended)), make_call(2, replayed="01CALL", attempts=())])
    log.append([make_call(3, repairs=1, outcome="error", error="contract_violated", attempts=(FAILED, broken))])
    call = 'name="answer",model="gpt"'
    assert {
        'holdfast_contract_violations_total{model="gpt"} 2',
        "holdfast_repaired_calls_total{" + call + "} 2",
        "holdfast_repairs_total{" + call + "} 4",
        'holdfast_reasks_total{model="gpt"} 1',
        'holdfast_reasks_total{model="house"} 0',
        "holdfast_replayed_total{" + call + "} 1",
        'holdfast_saved_tokens_total{model="gpt"} 80',
        'holdfast_constraints_ignored_total{model="gpt"} 2',
    } <= set(lines(log))


def test_no_series_is_told_twice():
    log = MemoryLog()
    log.append([make_call(n, outcome=outcome) for n, outcome in enumerate(("answered", "error", "last_resort"))])
    samples = [line.rpartition(" ")[0] for line in lines(log) if not line.startswith("#")]
    assert len(samples) == len(set(samples))


def test_why_calls_were_turned_away_is_told():
    page = render([], [], 0, {}, refused={"log": 2, "queue": 0}).decode().splitlines()
    assert [line for line in page if line.startswith("holdfast_refused")] == [
        'holdfast_refused_total{reason="log"} 2',
        'holdfast_refused_total{reason="queue"} 0',
    ]


def test_what_waits_for_the_log_and_what_it_lost_is_told():
    page = render([], [], 3, {}, lost=2).decode().splitlines()
    assert {"holdfast_log_queue_calls 3", "holdfast_log_events_lost_total 2"} <= set(page)


def test_spending_is_told_by_tenant_feature_and_model_over_all_days_and_keys():
    spent = {"tenant": "acme", "name": "answer", "attempts": 1, "input_tokens": 10, "output_tokens": 2, "unpriced": 0}
    spends = [
        Spend(day=day, key=key, model=model, cost_nanousd=1_500_000_001, **spent)
        for day, key, model in ((1, "a", "gpt"), (2, "a", "gpt"), (2, "b", "gpt"), (2, "b", "house"))
    ]
    page = render([], [], 0, {}, spends=spends).decode().splitlines()
    gpt, house = [f'{{tenant="acme",feature="answer",model="{model}"' for model in ("gpt", "house")]
    assert [line for line in page if line.startswith("holdfast_spend_")] == [
        f"holdfast_spend_usd_total{gpt}}} 4.500000003",
        f"holdfast_spend_usd_total{house}}} 1.500000001",
        f'holdfast_spend_tokens_total{gpt},type="input"}} 30',
        f'holdfast_spend_tokens_total{gpt},type="output"}} 6',
        f'holdfast_spend_tokens_total{house},type="input"}} 10',
        f'holdfast_spend_tokens_total{house},type="output"}} 2',
    ]
