import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import holdfast
from holdfast.contracts.answer import MISSING, Met, Unmet, meet
from holdfast.contracts.base import Contract
from holdfast.contracts.conditions import AtField, Length, Matches, OnText, Phrases
from holdfast.contracts.forms.grammar import GrammarForm
from holdfast.contracts.forms.schema import compile_schema
from holdfast.contracts.forms.text import AnyText, ChoiceForm, PatternForm
from holdfast.contracts.reask import MAX_ERRORS, Reask, describe, joined, reask

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 20},
        "a/b~c": {"type": "integer"},
        "steps": {"type": "array", "items": {"$ref": "#/$defs/step"}},
        "pair": {"prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False},
        "map": {"additionalProperties": {"type": "integer"}},
        "either": {"anyOf": [{"type": "object", "properties": {"x": {"type": "integer"}}}, {"type": "null"}]},
        "both": {"allOf": [{"properties": {"n": {"minimum": 1}}}, {"properties": {"n": {"multipleOf": 2}}}]},
    },
    "required": ["title"],
    "$defs": {
        "step": {
            "type": "object",
            "properties": {"do": {"type": "string"}, "minutes": {"$ref": "#/$defs/minutes"}},
            "required": ["do"],
        },
        "minutes": {"type": "integer", "minimum": 0},
    },
}
CONTRACT = Contract(compile_schema(SCHEMA))


def asked(contract: Contract, text: str) -> tuple[Unmet, Reask]:
    unmet = meet(contract, text)
    assert isinstance(unmet, Unmet)
    return unmet, reask(contract, unmet)


def corrected(reasked: Reask, correction: Any) -> str:
    met = meet(reasked.contract, correction if isinstance(correction, str) else json.dumps(correction))
    assert isinstance(met, Met), met
    return reasked.join(met)


def parts(reasked: Reask) -> tuple[str, ...]:
    return reasked.contract.keys


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"title": True}, {"/title": "it"}),
        ({"steps": []}, {"/title": "it"}),
        ({"title": "x" * 21, "a/b~c": "1.5"}, {"/title": "it", "/a~1b~0c": 1}),
        ({"title": "t", "steps": [{"do": "a"}, {"do": "b", "minutes": -1}]}, {"/steps/1/minutes": 2}),
        ({"title": "t", "steps": [{"minutes": 1}, {"do": None}]}, {"/steps/0/do": "a", "/steps/1/do": "b"}),
        ({"title": "t", "steps": [{"do": "a"}, "b"]}, {"/steps/1": {"do": "b"}}),
        ({"title": "t", "pair": ["a", "b"]}, {"/pair/1": 2}),
        ({"title": "t", "map": {"k": "x"}}, {"/map/k": 2}),
        ({"title": "t", "either": {"x": "y"}}, {"/either": {"x": 1}}),
        ({"title": "t", "both": {"n": 3}}, {"/both/n": 4}),
        ({"title": "t", "both": {"n": 0.5}}, {"/both/n": 4}),
    ],
)
def test_only_the_parts_that_fail_are_asked_for(answer: Any, expected: dict[str, Any]) -> None:
    _, reasked = asked(CONTRACT, json.dumps(answer))
    assert sorted(parts(reasked)) == sorted(expected)
    for path in expected:
        assert f"- {path}: " in reasked.message
        assert json.dumps(path) in reasked.message
    whole = corrected(reasked, expected)
    assert isinstance(meet(CONTRACT, whole), Met)
    for path, value in expected.items():
        assert at(json.loads(whole), path) == value


def at(value: Any, path: str) -> Any:
    for step in path.split("/")[1:]:
        value = value[int(step) if isinstance(value, list) else step.replace("~1", "/").replace("~0", "~")]
    return value


def test_all_else_stays_as_it_was_to_the_byte() -> None:
    text = '{"title" : "t",\n "steps": [ {"do":"\\u00e9", "minutes":-1 }], "x": 1.50}'
    _, reasked = asked(CONTRACT, text)
    assert corrected(reasked, '{"/steps/0/minutes": 1e0}') == text.replace("-1", "1e0")


def test_missing_keys_are_put_after_the_last_of_their_object() -> None:
    assert joined('{"a": {}, "b": [{"c": 1}]}', '{"/a/x": 1, "/a/y": 2, "/b/0/d": [3], "/e~1": "é"}') == (
        '{"a": {"x": 1, "y": 2}, "b": [{"c": 1, "d": [3]}], "e/": "é"}'
    )


def test_a_pointer_that_leads_nowhere_is_an_error() -> None:
    for path in ("/x/y", "/a/0", "/a/0/1", "/b/c"):
        with pytest.raises(ValueError, match="nothing at"):
            joined('{"a": [], "b": 1}', json.dumps({path: 1}))


def test_the_correction_is_refused_if_it_is_wrong_again_or_says_more() -> None:
    _, reasked = asked(CONTRACT, '{"title": []}')
    for correction in ('{"/title": {}}', "{}", '{"/title": "t", "/steps": []}', '"t"'):
        assert isinstance(meet(reasked.contract, correction), Unmet)


@pytest.mark.parametrize(
    ("contract", "text", "said"),
    [
        (CONTRACT, "I can't say.", "no JSON"),
        (CONTRACT, '{"title": "t', "ends inside the string"),
        (CONTRACT, "[]", "is not of type"),
        (CONTRACT, '{"title": "t", "title": "u"}', "stands twice"),
        (
            Contract(compile_schema({"type": "array", "items": {"type": "integer"}, "minItems": 3})),
            "[1, 2]",
            "less than 3",
        ),
        (Contract(compile_schema({"anyOf": [{"required": ["a"]}, {"required": ["b"]}]})), "{}", "not valid under any"),
        (Contract(compile_schema({"patternProperties": {"a": {"type": "integer"}}})), '{"a": "b"}', "not of type"),
        (Contract(compile_schema({"properties": {"a": False}})), '{"a": 1}', "False schema"),
        (Contract(compile_schema({"properties": {"a": {"$ref": "#"}}, "type": "object"})), '{"a": 1}', "/a: 1 is not"),
        (Contract(ChoiceForm(["yes", "no"])), "perhaps", "none of"),
        (Contract(PatternForm("[0-9]+")), "x", "does not match"),
        (Contract(GrammarForm('start: "a"')), "b", "the grammar does not allow"),
        (Contract(AnyText(), [OnText(Length("words", max=1))]), "two words", "more than 1"),
    ],
    ids=range(13),
)
def test_the_whole_answer_is_asked_for_where_parts_can_not_be_told(contract: Contract, text: str, said: str) -> None:
    _, reasked = asked(contract, text)
    assert reasked.contract is contract
    assert said in reasked.message
    assert "Answer again" in reasked.message
    assert reasked.join(Met("text", None)) == "text"


def test_a_condition_over_the_whole_asks_for_the_whole_and_one_over_a_field_for_the_field() -> None:
    @holdfast.predicate
    def whole(answer: Any) -> bool:
        """title and steps go together"""
        return "z" not in answer["title"]

    field = AtField("/title", Length("words", max=2))
    contract = Contract(compile_schema(SCHEMA), [whole, field])
    _, reasked = asked(contract, '{"title": "z"}')
    assert reasked.contract is contract
    assert "title and steps go together" in reasked.message
    _, reasked = asked(contract, '{"title": "a b c"}')
    assert parts(reasked) == ("/title",)
    assert isinstance(meet(contract, corrected(reasked, {"/title": "a z"})), Unmet)  # the whole is to be met again


def test_a_part_below_one_that_is_asked_for_is_not_asked_for_itself() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "object", "maxProperties": 1, "properties": {"b": {"type": "integer"}}}},
    }
    _, reasked = asked(Contract(compile_schema(schema)), '{"a": {"b": "x", "c": 1}}')
    assert parts(reasked) == ("/a",)
    assert "- /a/b: " in reasked.message


def test_too_many_parts_are_the_whole() -> None:
    steps = [{"do": [number]} for number in range(17)]
    _, reasked = asked(CONTRACT, json.dumps({"title": "t", "steps": steps}))
    assert reasked.contract is CONTRACT


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_message_is_short_whatever_the_answer_says(size: int) -> None:
    answers = [{"title": ["x" * size], "steps": [{"do": ["y" * size]}] * 9}, "z" * size, ["w" * size]]
    for answer in answers:
        _, reasked = asked(CONTRACT, json.dumps(answer))
        assert len(reasked.message) < MAX_ERRORS + 3_000


def test_the_schema_of_a_part_is_told_unless_it_is_long() -> None:
    short, long = {"type": "integer"}, {"type": "integer", "description": "how many there are. " * 100}
    for schema, told in ((short, True), (long, False)):
        contract = Contract(compile_schema({"type": "object", "properties": {"n": schema}}))
        _, reasked = asked(contract, '{"n": "x"}')
        assert ("JSON Schema of /n" in reasked.message) is told
        assert contract.schema != reasked.contract.schema


def test_a_correction_can_be_asked_for_again() -> None:
    first = meet(CONTRACT, '{"title": "t", "a/b~c": []}')
    assert isinstance(first, Unmet)
    reasked = reask(CONTRACT, first)
    _, again = asked(reasked.contract, '{"/a~1b~0c": {}}')
    assert parts(again) == ("/~1a~01b~00c",)
    correction = meet(reasked.contract, corrected(again, {"/~1a~01b~00c": 2}))
    assert isinstance(correction, Met)
    assert json.loads(reasked.join(correction)) == {"title": "t", "a/b~c": 2}


# --- laws -------------------------------------------------------------------------------------------------------------

KEYS = st.text(st.sampled_from('ab/~"0é'), max_size=3)
VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def pointers(value: Any, path: str = "") -> list[str]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    below = [(f"{path}/{str(key).replace('~', '~0').replace('/', '~1')}", item) for key, item in items]
    return [found for place, item in below for found in (place, *pointers(item, place))]


@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=4), VALUES, st.sampled_from([None, 1]), st.data())
def test_a_join_puts_in_what_was_asked_and_leaves_the_rest(
    answer: dict[str, Any], value: Any, indent: Any, data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(pointers(answer)))
    text = json.dumps(answer, indent=indent)
    whole = json.loads(joined(text, json.dumps({path: value})))
    assert at(whole, path) == value
    expected = json.loads(text)
    steps = path.split("/")[1:]
    parent = at(expected, "".join(f"/{step}" for step in steps[:-1]))
    last = int(steps[-1]) if isinstance(parent, list) else steps[-1].replace("~1", "/").replace("~0", "~")
    parent[last] = value
    assert whole == expected


@given(st.dictionaries(st.sampled_from(list(SCHEMA["properties"])), VALUES, max_size=4))
def test_every_answer_that_fails_can_be_asked_for_again(answer: dict[str, Any]) -> None:
    unmet = meet(CONTRACT, json.dumps(answer))
    if isinstance(unmet, Met):
        return
    reasked = reask(CONTRACT, unmet)
    assert unmet.data is not MISSING
    assert reasked.message
    assert parts(reasked) or reasked.contract is CONTRACT
    assert reasked.contract.check("{}").violations


# --- instructions -----------------------------------------------------------------------------------------------------


def test_a_model_is_told_the_form_and_the_conditions() -> None:
    @holdfast.predicate("/title")
    def kind(title: str) -> bool:
        """the title is kind"""
        return True

    conditions = [
        OnText(Length("words", min=2, max=1_000)),
        AtField("/title", Length("characters", max=9)),
        AtField("/title", Matches("[a-z]+")),
        AtField("/steps/*/do", Phrases("stops_before", ["As an AI"])),
        OnText(Phrases("includes", ["Holdfast"])),
        kind,
    ]
    told = describe(Contract(compile_schema(SCHEMA), conditions))
    assert json.dumps(SCHEMA, separators=(",", ":")) in told
    for rule in (
        "- it has at least 2 and at most 1,000 words",
        "- of /title: it has at most 9 characters",
        "- of /title: it matches the regular expression [a-z]+ from start to end",
        '- of /steps/*/do: it does not hold "As an AI"',
        '- it holds "Holdfast"',
        "- of /title: the title is kind",
    ):
        assert rule in told


@pytest.mark.parametrize(
    ("contract", "said"),
    [
        (Contract(ChoiceForm(["yes", "no"])), "- yes\n- no"),
        (Contract(PatternForm("[0-9]+")), "[0-9]+"),
        (Contract(GrammarForm('start: "a"')), 'start: "a"'),
        (Contract(compile_schema(True)), "JSON only"),
        (Contract(compile_schema({"type": "object"})), "one JSON object"),
    ],
    ids=range(5),
)
def test_a_model_is_told_each_form(contract: Contract, said: str) -> None:
    assert said in describe(contract)


def test_where_anything_will_do_nothing_is_told() -> None:
    assert describe(Contract(AnyText())) == ""
    assert describe(Contract(AnyText(), [OnText(Length("words"))])) == ""


def test_instructions_are_bounded() -> None:
    choices = [f"the answer number {number}" for number in range(20_000)]
    assert len(describe(Contract(ChoiceForm(choices)))) < 40_000
