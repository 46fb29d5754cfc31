"""What holds of every answer and every contract: whatever was written, what is met meets the contract."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from damaged import DAMAGED, DUMPS, VALUES
from holdfast.contracts.answer import Met, Unmet, meet
from holdfast.contracts.base import Contract
from holdfast.contracts.forms.schema import compile_schema
from holdfast.contracts.forms.text import ChoiceForm, PatternForm
from holdfast.contracts.ledger import Lossy, replay

ALLOWED: tuple[Lossy, ...] = ("drop_unknown", "duplicate_keys", "complete", "merge")
SCHEMAS: list[Any] = [
    True,
    {
        "type": "object",
        "properties": {"reasoning": {"type": "string"}, "answer": {"type": "string"}},
        "required": ["answer"],
    },
    {
        "type": "object",
        "properties": {"a": {"type": "integer", "maximum": 9}, "b": {"enum": ["Yes", "No"]}, "answer": {"$ref": "#"}},
        "additionalProperties": False,
    },
    {"type": "array", "items": {"type": ["number", "null"]}, "maxItems": 3},
    {"type": ["string", "integer"]},
]
CONTRACTS = [
    Contract(compile_schema(schema), allow=allow)
    for schema in SCHEMAS
    for allow in [(), ALLOWED, *((name,) for name in ALLOWED)]
]
TEXTS = [Contract(ChoiceForm(["Yes", "No", "not sure"])), Contract(PatternForm("[a-z]+( [0-9]+)?"))]
OBJECTS = st.lists(st.tuples(st.sampled_from(["a", "b", "answer", "reasoning", "zz"]), VALUES), max_size=5).map(
    lambda members: "{" + ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in members) + "}"
)
"""Objects in which keys may come again, and be unknown."""
SEVERAL = st.lists(OBJECTS | st.sampled_from(["\n", "No: ", "```json\n", "```\n"]), max_size=4).map("".join)
CUT = st.tuples(SEVERAL | VALUES.map(json.dumps) | VALUES.map(repr), st.integers(0, 60)).map(
    lambda drawn: drawn[0][: len(drawn[0]) - drawn[1]]
)
ANY = DAMAGED | SEVERAL | CUT | VALUES.map(repr)


@given(VALUES, DUMPS, st.sampled_from(CONTRACTS))
def test_what_is_valid_comes_out_unchanged(value: Any, style: Any, contract: Contract) -> None:
    text = json.dumps(value, **style)
    checked = contract.check(text)
    result = meet(contract, text)
    assert not checked.ok or result == Met(text, checked.value)


@given(ANY, st.sampled_from(CONTRACTS), st.booleans())
def test_what_is_met_meets_the_contract_and_the_ledger_replays_to_it(text: str, contract: Contract, cut: bool) -> None:
    result = meet(contract, text, cut=cut)
    if isinstance(result, Unmet):
        assert result.violations
        return
    assert contract.check(result.text).value == result.value
    assert contract.check(result.text).ok
    assert replay(text, result.ledger) == result.text
    assert meet(contract, result.text) == Met(result.text, result.value)


@given(ANY, st.sampled_from(CONTRACTS))
def test_a_limit_never_makes_an_answer_of_what_was_none(text: str, contract: Contract) -> None:
    cut = meet(contract, text, cut=True)
    assert isinstance(cut, Unmet) or cut == meet(contract, text)


@given(ANY, st.sampled_from(SCHEMAS))
def test_nothing_is_lost_without_its_name(text: str, schema: Any) -> None:
    result = meet(Contract(compile_schema(schema)), text)
    if isinstance(result, Met):
        assert not {entry.kind for entry in result.ledger} & set(ALLOWED)


PIECES = ["Yes", "no", "NOT SURE", " ", "\n", '"', "'", "**", "```", "```text\n", "“", "”", "abc", "12", "."]


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join) | st.text(), st.sampled_from(TEXTS))
def test_texts_are_met_or_refused_as_they_came(text: str, contract: Contract) -> None:
    result = meet(contract, text)
    if isinstance(result, Unmet):
        assert result.text == text
        return
    assert contract.check(result.text).ok
    assert replay(text, result.ledger) == result.text
    assert meet(contract, result.text) == Met(result.text, result.value)
    assert result.text.casefold() in text.casefold()
