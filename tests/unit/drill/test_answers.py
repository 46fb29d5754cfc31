"""What the drill's models say under a contract: right answers that are right, and wrong ones that no repair helps."""

from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from holdfast.contracts.answer import Met, Unmet, meet
from holdfast.contracts.base import Contract
from holdfast.contracts.load import ContractSettings, build_contract, make_contract, parse_contract
from holdfast.contracts.predicates import Predicate
from holdfast.drill.answers import REPLY, REWORDED, USUAL_TOKENS, Answers, answers_to
from holdfast.drill.faults import FAULTS
from holdfast.providers.simulated.tokens import count

STRING = {"type": "string"}
ORDER = {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{6}$"}


def schema(properties: dict, required: list[str] | None = None) -> Contract:
    names = list(properties) if required is None else required
    return make_contract({"type": "object", "properties": properties, "required": names, "additionalProperties": False})


def contract(**settings) -> Contract:
    return build_contract(msgspec.convert(settings, ContractSettings))


class Ticket(BaseModel):
    topic: Literal["delivery", "returns"]
    urgent: bool
    parts: list["Ticket"] = Field(default_factory=list)


TREE = {"$ref": "#/$defs/node", "$defs": {"node": {
    "type": "object", "properties": {"name": STRING, "next": {"$ref": "#/$defs/node"}}, "required": ["name"],
}}}  # fmt: skip
CONTRACTS = {
    "strings": schema({"answer": STRING, "more": STRING}),
    "numbers": schema({"age": {"type": "integer", "minimum": 18}, "share": {"type": "number", "maximum": 1}}),
    "short strings": schema({"answer": {"type": "string", "maxLength": 12}}),
    "formats": schema({"day": {"type": "string", "format": "date"}, "who": {"type": "string", "format": "email"}}),
    "what is optional can't be made up": schema({"answer": STRING, "order": ORDER}, ["answer"]),
    "recursion": make_contract(TREE),
    "array": make_contract({"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 3}),
    "anything that is JSON": make_contract(True),
    "a Pydantic model": make_contract(Ticket),
    "choices": contract(choice=("delivery", "returns")),
    "one choice": contract(choice=("delivery",)),
    "few words": contract(words={"max": 10}),
    "many words": contract(words={"min": 40}),
    "short fields": contract(
        schema={"type": "object", "properties": {"a": STRING}, "required": ["a"]}, fields={"/a": {"words": {"max": 3}}}
    ),
    "easy grammar": parse_contract("answer.lark", 'start: "ferry" | "boat"'),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTRACTS)
def test_what_is_made_up_meets_the_contract_and_what_is_wrong_can_not_be_repaired(name):
    held = CONTRACTS[name]
    found = answers_to(held)
    assert found is not None
    assert held.check(found.reply).ok
    assert held.check(found.reworded).ok
    assert found.wrong is not None
    assert isinstance(meet(held, found.wrong), Unmet)
    assert found.contract is held


@pytest.mark.parametrize("name", [name for name, held in CONTRACTS.items() if held.constraint is not None])
def test_a_fence_hides_the_reply_and_nothing_else(name):
    found = answers_to(CONTRACTS[name])
    met = meet(CONTRACTS[name], found.fenced)
    assert isinstance(met, Met)
    assert met.text == found.reply
    assert met.ledger


@pytest.mark.parametrize("name", ["strings", "choices", "few words", "easy grammar"])
def test_other_words_are_found_where_there_are_any(name):
    found = answers_to(CONTRACTS[name])
    assert found.reworded != found.reply


def test_of_a_text_that_may_be_anything_a_fence_is_a_part():
    assert answers_to(CONTRACTS["few words"]).fenced is None
    assert answers_to(contract(pattern="(?s).*")).fenced is None


@pytest.mark.parametrize("required", [True, False])
def test_an_answer_under_a_large_schema_is_not_much_longer_than_others(required):
    names = [f"field{number}" for number in range(30)]
    found = answers_to(schema(dict.fromkeys(names, STRING), names if required else []))
    assert count(found.reply) <= USUAL_TOKENS
    assert found.reworded != found.reply


# --- where nothing can be made up ---

HARD = contract(pattern="[A-Z]{2}-[0-9]{6}")


def test_an_example_is_the_answer_where_none_can_be_made_up_and_another_the_same_in_other_words():
    found = answers_to(HARD, ["AB-123456", "CD-123456"], "XX-000000")
    assert (found.reply, found.reworded) == ("AB-123456", "CD-123456")


def test_without_an_example_the_last_resort_is():
    found = answers_to(HARD, [], "XX-000000")
    assert (found.reply, found.reworded) == ("XX-000000", "XX-000000")


def test_an_example_that_does_not_meet_the_contract_is_none():
    assert answers_to(HARD, ["AB-12"], None) is None


def broken(_: object) -> bool:
    raise RuntimeError("it is broken")


@pytest.mark.parametrize(
    "held",
    [
        HARD,
        schema({"order": ORDER}),
        make_contract(False),
        make_contract(Predicate(lambda answer: "kelp" in answer)),
        make_contract(Predicate(broken)),
        make_contract({"type": "integer", "minimum": 1e308, "multipleOf": 1e-10, "not": {}}),
        contract(includes=("kelp",)),
    ],
)
def test_nothing_is_said_to_meet_a_contract_that_does_not(held):
    assert answers_to(held) is None


# --- laws ---

LEAVES = st.sampled_from([
    STRING, ORDER, {"type": "boolean"}, {"type": "null"}, {"enum": ["a", 1]}, {"type": "integer", "minimum": 3},
    {"type": "string", "maxLength": 4}, {"type": "number", "exclusiveMaximum": 0}, {"const": {"a": 1}}, {}, True,
])  # fmt: skip
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda items, least: {"type": "array", "items": items, "minItems": least}, inner, st.integers(0, 3)),
        st.builds(
            lambda properties, required: {"type": "object", "properties": properties, "required": sorted(required)},
            st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
            st.sets(st.sampled_from("abcd")),
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"anyOf": parts}),
    ),
    max_leaves=8,
)


@given(SCHEMAS)
def test_whatever_the_schema_right_is_right_and_wrong_is_wrong(source):
    held = make_contract(source)
    found = answers_to(held)
    if found is None:
        return
    assert held.check(found.reply).ok
    assert held.check(found.reworded).ok
    assert found.wrong is None or isinstance(meet(held, found.wrong), Unmet)
    assert found.fenced is None or found.reply in found.fenced


def test_without_a_contract_there_is_prose_and_nothing_is_wrong():
    plain = Answers()
    assert (plain.reply, plain.reworded, plain.contract) == (REPLY, REWORDED, None)
    assert {fault.name for fault in FAULTS if plain.say(fault.says) is None} == {
        "fenced", "wrong_once", "wrong_shape", "all_wrong",
    }  # fmt: skip
