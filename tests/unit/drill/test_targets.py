from pathlib import Path

import pytest

from configurations import LOCAL
from holdfast.config import parse
from holdfast.drill.answers import REPLY
from holdfast.drill.faults import FAULTS
from holdfast.drill.targets import Target, targets
from holdfast.errors import ConfigError

MODELS = (
    LOCAL
    + """
[features.answer]
models = [["gpt", "spare"]]
"""
)
FILES = {
    "order.toml": "pattern = '[A-Z]{2}-[0-9]{6}'",
    "topic.toml": 'choice = ["delivery", "returns"]',
    "shown.jsonl": '{"input": "Which?", "output": "AB-123456"}',
    "resort.txt": "XX-000000",
}


def target(feature: str) -> Target:
    return targets(parse({"holdfast.toml": MODELS + feature, **FILES}, base=Path("/nowhere")))[0]


def left_out(found: Target) -> set[str]:
    return {fault.name for fault in FAULTS if not found.takes(fault)}


OF_CONTRACTS = {"fenced", "wrong_once", "wrong_shape", "all_wrong"}
OF_STREAMS = {"error_event", "odd_framing", "no_done", "twice_finished"}


def test_a_feature_without_a_contract_gives_prose_to_every_fault_but_those_of_contracts():
    found = target("")
    assert (found.models, found.first, found.answers.reply) == (("gpt", "spare"), "gpt", REPLY)
    assert left_out(found) == OF_CONTRACTS
    assert found.notes == ()


def test_a_feature_with_a_contract_takes_every_fault():
    found = target('contract = "topic.toml"')
    assert left_out(found) == set()
    assert (found.answers.reply, found.tokens, found.notes) == ("delivery", 1, ())


@pytest.mark.parametrize(
    ("source", "reply"),
    [
        ('examples = "shown.jsonl"', "AB-123456"),
        ('examples = { file = "shown.jsonl", select = "first", k = 1 }', "AB-123456"),
        ('last_resort = { file = "resort.txt" }', "XX-000000"),
        ('last_resort = { message = "YY-000000" }', "YY-000000"),
        ('examples = "shown.jsonl"\nlast_resort = { message = "YY-000000" }', "AB-123456"),
    ],
)
def test_what_can_not_be_made_up_is_taken_from_the_examples_or_else_from_the_last_resort(source, reply):
    found = target(f'contract = "order.toml"\n{source}')
    assert found.answers.reply == reply
    assert found.off is None


@pytest.mark.parametrize("resort", ["", 'last_resort = { function = "app.resorts:later" }'])
def test_a_contract_that_nothing_is_known_to_meet_is_off(resort):
    found = target(f'contract = "order.toml"\n{resort}')
    assert (found.off, found.answers.reply, found.answers.contract) == ("order.toml", REPLY, None)
    assert left_out(found) == OF_CONTRACTS
    assert "The contract order.toml is off for this drill" in found.notes[0]


def test_a_feature_whose_answers_are_voted_on_never_streams_from_a_model():
    found = target("vote = { samples = 3 }")
    assert left_out(found) == OF_CONTRACTS | OF_STREAMS
    assert "voted on" in found.notes[0]
    assert len(target('vote = { samples = 3 }\ncontract = "order.toml"').notes) == 2


def test_what_the_gateway_learns_from_usual_calls_it_knows_before_a_fault():
    assert target("").usual_calls == target("hedge = '1s'").usual_calls == 0
    assert target("hedge = true").usual_calls == 25
    nearest = target('examples = { file = "shown.jsonl", select = "nearest", embeddings = "spare" }')
    assert (nearest.usual_calls, nearest.embeddings) == (1, "spare")


def test_a_contract_that_can_not_be_found_is_told():
    with pytest.raises(ConfigError, match="no_such_app"):
        target('contract = "no_such_app.contracts:Answer"')
