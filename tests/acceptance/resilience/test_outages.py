"""Providers that are down, flap, or are all down at once: breakers, probes, and the last resort."""

import asyncio
import itertools
import json
import time

import pytest

from acceptance.resilience.promises import answered, failed, kept
from acceptance.resilience.table import FEW, SLACK, SOME, STREAM, TEXT, WHOLE, Row, each
from holdfast.providers.simulated import Record

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAUSE = 1.0
"""Seconds that an open breaker waits before its first probe..."""
LONGEST = 5.0
"""...and before any later one."""

# --- one is down ------------------------------------------------------------------------------------------------------


async def _keep_asking(stage, seconds, every):
    """Call `1 / every` times a second for some seconds."""
    begin, asked = time.monotonic(), []
    while time.monotonic() - begin < seconds:
        asked.append(asyncio.create_task(stage.ask()))
        await asyncio.sleep(every)
    await asyncio.gather(*asked)


async def _outage(stage):
    await _keep_asking(stage, 3.5, 0.1)


DOWN = [
    Row("down with 503", "status=503", wires=FEW, play=_outage),
    Row("down with 429", "status=429", wires=FEW, play=_outage, streamed=STREAM),
    Row("down, resetting", "reset=start", wires=FEW, play=_outage, streamed=WHOLE),
    Row("down, silent", "stall=start", wires=FEW, play=_outage, feature={"retries": "0"}, streamed=STREAM),
]


@each(*DOWN)
async def test_a_model_that_is_down_is_left_alone_but_for_one_probe_at_a_time(seen, case):
    kept_in_any_order(seen)
    assert {told.text for told in seen.told} == {TEXT}
    records = sorted(seen.primary, key=lambda record: record.at)
    probes = _probes(records)
    assert len(records) - len(probes) <= 30  # until the breaker saw it, and what was under way then; else it were 70
    assert 1 <= len(probes) <= 4
    for earlier, later in itertools.pairwise(probes):
        assert later.at >= (earlier.ended_at or earlier.at), "two probes at once"
        assert later.at - earlier.at > PAUSE * 0.5
    straight = [call for call in seen.log if len(call["attempts"]) == 1]
    assert len(straight) > len(seen.log) * 0.6
    assert {call["model"] for call in straight} == {f"{case.key}-fallback"}


def kept_in_any_order(seen):
    """Calls that overlap are logged in the order of their ends."""
    by_id = {call["id"]: call for call in seen.log}
    seen.log = [by_id[told.headers["x-holdfast-call"]] for told in seen.told]
    kept(seen)


def _probes(records: list[Record]) -> list[Record]:
    """Return what came after the first long pause."""
    for place, (earlier, later) in enumerate(itertools.pairwise(records)):
        if later.at - earlier.at > PAUSE * 0.5:
            return records[place + 1 :]
    return []


@each(Row("down and alone", "status=503", alone=True, wires=FEW, play=_outage, streamed=WHOLE))
async def test_while_the_only_model_is_down_callers_are_told_when_to_come_back(seen, case):
    kept_in_any_order(seen)
    shut = [told for told, call in zip(seen.told, seen.log, strict=True) if call["error"] == "model_down"]
    assert len(shut) > len(seen.told) / 2
    for told in shut:
        assert told.status == 503
        assert 1 <= int(told.headers["retry-after"]) <= 30
        assert told.took < 0.05 + SLACK


# --- one comes and goes -----------------------------------------------------------------------------------------------

FLAPS = {"steps": ["status=503,lasts=700ms", "lasts=700ms", "status=503,lasts=700ms", "status=503,lasts=700ms"]}
FLAP_SECONDS = 2.8


async def _flap(stage):
    await _keep_asking(stage, FLAP_SECONDS, 0.1)
    stage.notes["well since"] = time.monotonic()
    await _keep_asking(stage, LONGEST + 1.5, 0.15)


@each(Row("flapping", FLAPS, wires=FEW, play=_flap, streamed=STREAM))
async def test_while_a_model_flaps_every_call_is_answered_and_soon_after_it_is_back(seen, case):
    kept_in_any_order(seen)
    assert {told.text for told in seen.told} == {TEXT}
    assert {told.error is None for told in seen.told} == {True}
    models = [call["model"] for call in seen.log]
    assert set(models[-5:]) == {f"{case.key}-primary"}
    wrong = [record for record in seen.primary if record.status != 200]
    assert len(wrong) < 40


# --- all are down -----------------------------------------------------------------------------------------------------

RESORTS = {
    "message": ('{ message = "Not now." }', "Not now."),
    "file": ('{ file = "resort.md" }', "# Sorry\n\nNot *now*. 🌊\n"),
    "object": ("{ object = { sorry = true, depth = 30 } }", {"sorry": True, "depth": 30}),
    "function": ('{ function = "resort:answer" }', "model_down overloaded timeout connection_failed"),
}
FAULTS = {"503": "status=503", "silent": "stall=start", "resetting": "reset=start"}
DEADLINE = '"1500ms"'


@each(
    *[
        Row(
            f"all {how}, {kind}",
            fault,
            fault,
            feature={"last_resort": resort, "deadline": DEADLINE},
            expect=(kind, said),
            wires=SOME,
        )
        for how, fault in FAULTS.items()
        for kind, (resort, said) in RESORTS.items()
    ]
)
async def test_the_last_resort_answers_in_time_in_the_shape_that_was_asked_for_and_says_what_it_is(seen, case):
    kept(seen, 1.5)
    (told,), (call,) = seen.told, seen.log
    kind, said = case.row.expect
    assert (told.status, told.finish, told.whole) == (200, "stop", True)
    assert told.holdfast["outcome"] == "last_resort"
    assert (call["outcome"], call["model"]) == ("last_resort", None)
    if kind == "object":
        assert json.loads(told.text) == said
    elif kind == "function":
        assert told.text in said.split()
    else:
        assert told.text.strip() == said.strip()


@each(*[Row(f"all {how}, no last resort", fault, fault, wires=SOME) for how, fault in FAULTS.items()])
async def test_without_a_last_resort_the_error_is_one_of_the_providers(seen, case):
    status, *codes = {
        "503": (503, "overloaded", "model_down"),
        "silent": (504, "timeout", "deadline_exceeded"),
        "resetting": (502, "connection_failed", "model_down"),
    }[case.row.name.split()[1].strip(",")]
    failed(seen, status, *codes)


async def _after_the_breakers_opened(stage):
    for _ in range(12):
        await stage.ask()


@each(
    Row(
        "all down for long",
        "status=503",
        "status=503",
        feature={"last_resort": RESORTS["message"][0], "retries": "0"},
        wires=FEW,
        play=_after_the_breakers_opened,
    )
)
async def test_when_all_are_known_to_be_down_the_last_resort_comes_at_once(seen, case):
    kept(seen)
    assert {told.text for told in seen.told} == {"Not now."}
    assert seen.told[-1].took < 0.05 + SLACK
    assert len(seen.requests) < 2 * len(seen.told)


# --- streams of a model that is down ----------------------------------------------------------------------------------


@each(Row("cut for good", "cut=5", next={"prefill": "false"}, streamed=STREAM, wires=FEW, play=_outage))
async def test_a_model_that_always_breaks_off_is_left_alone_too(seen, case):
    kept_in_any_order(seen)
    assert {told.text for told in seen.told} == {TEXT}
    assert len(seen.primary) < len(seen.told) * 0.7


@each(Row("nothing is wrong"))
async def test_where_nothing_is_wrong_the_primary_answers_alone(seen, case):
    answered(seen, "primary")
    assert len(seen.primary) == 1
    assert seen.fallback == []
    assert seen.told[0].usage is not None
    assert seen.told[0].usage[1] == seen.log[0]["usage"]["output_tokens"]
