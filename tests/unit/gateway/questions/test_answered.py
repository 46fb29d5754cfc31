"""Files of answered examples."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.contracts.base import Contract
from holdfast.contracts.forms.schema import compile_schema
from holdfast.contracts.forms.text import ChoiceForm
from holdfast.gateway.questions.answered import MAX_FAULTS, Example, read_examples

LABEL = Contract(
    compile_schema({"type": "object", "properties": {"label": {"enum": ["a", "b"]}}, "required": ["label"]})
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def line(**found: object) -> str:
    return json.dumps(found)


def read(*lines: str, contract: Contract | None = None) -> list[Example]:
    examples, faults = read_examples("\n".join(lines), contract)
    assert faults == []
    return examples


def fault(text: str, contract: Contract | None = None) -> str:
    """What is said of the one line of a file."""
    examples, ((at, message),) = read_examples(text, contract)
    assert (examples, at) == ([], 1)
    return message


def said(example: Example) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in example.messages]


def test_a_question_and_its_answer_become_two_messages() -> None:
    (example,) = read('{"input": "Where?", "output": "There.\\n", "id": 7}')
    assert said(example) == [("user", "Where?"), ("assistant", "There.\n")]
    assert (example.input, example.output, example.id, example.line) == ("Where?", "There.\n", "7", 1)


def test_a_conversation_stays_one() -> None:
    turns = [("user", "Hi"), ("assistant", "Hello."), ("user", "Where?"), ("assistant", "There.")]
    (example,) = read(line(messages=[{"role": role, "content": text} for role, text in turns]))
    assert said(example) == turns
    assert (example.input, example.output) == ("Where?", "There.")


@pytest.mark.parametrize(
    ("output", "written"),
    [
        ({"b": 1, "a": [True, None, 0.5]}, '{"b":1,"a":[true,null,0.5]}'),
        (["ü", "漢"], '["ü","漢"]'),
        (123456789012345678901234567890, "123456789012345678901234567890"),
        (False, "false"),
        (0, "0"),
        ('{"a": 1}', '{"a": 1}'),
    ],
)
def test_an_answer_that_is_no_text_is_written_as_json(output: object, written: str) -> None:
    asked = {"role": "user", "content": "x"}
    given, turn = read(line(input="x", output=output), line(messages=[asked, {"role": "assistant", "content": output}]))
    assert given.output == turn.output == written


def test_tokens_are_a_quarter_of_the_bytes_of_each_message() -> None:
    assert read(line(input="12345", output="漢漢"))[0].tokens == 2 + 2


def test_empty_lines_and_marks_of_byte_order_are_no_examples() -> None:
    examples = read("\ufeff" + line(input="a", output="b"), "", "  \r", "\ufeff" + line(input="c", output="d") + "\r")
    assert [example.line for example in examples] == [1, 4]


def test_separators_of_lines_that_json_does_not_know_stay_in_their_text() -> None:
    assert read('{"input": "a\u2028b\x85c", "output": "d"}')[0].input == "a\u2028b\x85c"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("where?", "not JSON: "),
        ("[]", 'expected an object such as {"input": "...", "output": "..."}'),
        ('"text"', "expected an object"),
        ('{"input": "a"}', "output: required, but missing"),
        ("{}", "input: required, but missing"),
        ('{"input": "a", "outptu": "b"}', 'unknown key "outptu" (did you mean "output"?)'),
        ('{"input": "a", "output": "b", "xyzzy": 1}', 'unknown key "xyzzy"'),
        ('{"input": 1, "output": "b"}', "input: expected text"),
        ('{"input": null, "output": "b"}', "input: expected text"),
        ('{"input": " ", "output": "b"}', "input: there is nothing in it"),
        ('{"input": "a", "output": ""}', "output: there is nothing in it"),
        ('{"input": "a", "output": null}', "output: expected text, or JSON other than null"),
        ('{"input": "a", "output": "b", "id": true}', "id: expected text or a whole number"),
        ('{"input": "a", "output": "b", "id": [1]}', "id: expected text or a whole number"),
        ('{"input": "a", "input": "b", "output": "c"}', 'the key "input" stands twice'),
        ('{"input": "\\ud800", "output": "c"}', "not JSON: "),
        ('{"input": "a", "output": 1e999}', "not JSON: "),
        ('{"input": "a", "output": NaN}', "not JSON: "),
        ('{"input": "a", "output": "b"} {"input"', "not JSON: "),
        ('{"input": "a", "output": ' + "[" * 10_000 + "]" * 10_000 + "}", "nested more than 128 deep"),
        ('{"input": "a", "output": ' + "9" * 10_000 + "}", ""),
        ('{"messages": [], "input": "a"}', "expected either messages, or input and output"),
        ('{"messages": "hello"}', "messages: expected an array"),
        ('{"messages": []}', "messages: expected an array that ends with a question and its answer"),
        ('{"messages": ["a", "b"]}', 'messages[0]: expected {"role": "...", "content": "..."}'),
    ],
)
def test_what_is_wrong_with_a_line_is_told(text: str, message: str) -> None:
    assert message in fault(text)


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        (["user", "user"], "messages: expected the user's question first, and the assistant's answer last"),
        (["assistant", "assistant"], "expected the user's question first"),
        (["user", "assistant", "assistant"], "messages[2]: expected the user and the assistant in turn"),
        (["user", "user", "assistant"], "messages[1]: expected the user and the assistant in turn"),
        (["system", "user", "assistant"], 'messages[0].role: expected "user" or "assistant": instructions go into the'),
        (["user", "tool"], 'messages[1].role: expected "user" or "assistant"'),
        (["user", None], 'messages[1].role: expected "user" or "assistant"'),
        (["user", {}], 'messages[1].role: expected "user" or "assistant"'),
    ],
)
def test_a_conversation_is_the_user_and_the_assistant_in_turn(roles: list[object], message: str) -> None:
    assert message in fault(line(messages=[{"role": role, "content": "x"} for role in roles]))


def test_every_mistake_is_told_with_its_line() -> None:
    lines = [line(input="a", output="b", id="x"), "?", "", line(input="c", output="d", id="x"), line(input="e")]
    examples, faults = read_examples("\n".join(lines))
    assert [example.line for example in examples] == [1]
    assert [at for at, _ in faults] == [2, 4, 5]
    assert faults[1][1] == 'the id "x" stands twice, first in line 1'


def test_a_file_without_an_example_is_a_mistake() -> None:
    assert read_examples("\n \n") == ([], [(0, "there is no example in it")])


def test_a_file_full_of_mistakes_is_not_read_to_its_end() -> None:
    _, faults = read_examples("?\n" * 10_000)
    assert len(faults) == MAX_FAULTS + 1
    assert faults[-1] == (MAX_FAULTS, "100 lines are wrong: what follows was not read")


def test_answers_must_meet_the_contract() -> None:
    lines = [{"label": "a"}, {"label": "c"}, '{"label": "b"}', "b", {}]
    examples, faults = read_examples("\n".join(line(input="x", output=output) for output in lines), LABEL)
    assert [example.line for example in examples] == [1, 3]
    assert [at for at, _ in faults] == [2, 4, 5]
    assert faults[0][1].startswith("the answer does not meet the contract: /label: ")
    assert faults[1][1].startswith("the answer does not meet the contract: not JSON")


def test_under_a_contract_for_text_an_answer_is_taken_to_the_letter() -> None:
    contract = Contract(ChoiceForm(["yes", "no"]))
    assert read(line(input="x", output="yes"), contract=contract)
    assert "does not meet the contract" in fault(line(input="x", output="yes "), contract)


def test_only_the_first_of_many_violations_are_told() -> None:
    contract = Contract(compile_schema({"type": "array", "items": {"type": "string"}}))
    assert fault(line(input="x", output=[1] * 9), contract).endswith("; and 6 more")


def test_a_line_of_a_megabyte_is_an_example_like_others() -> None:
    assert len(read(line(input="x" * 2**20, output="y"))[0].input) == 2**20


@given(
    st.text(max_size=60) | JSON.map(json.dumps) | st.fixed_dictionaries({"input": JSON, "output": JSON}).map(json.dumps)
)
def test_no_text_is_too_strange_to_be_read(text: str) -> None:
    examples, faults = read_examples(text, LABEL)
    assert examples or faults


@given(JSON.filter(lambda value: value is not None and not isinstance(value, str)))
def test_an_answer_in_json_keeps_its_value(value: object) -> None:
    examples, _ = read_examples(line(input="x", output=value))
    assert not examples or json.loads(examples[0].output) == value
