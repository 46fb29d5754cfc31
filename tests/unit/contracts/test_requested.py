import json
from typing import Any

import pytest

from holdfast.chat import ResponseFormat, Tool
from holdfast.contracts import requested as module
from holdfast.contracts.answer import Met, Unmet, meet
from holdfast.contracts.base import Contract
from holdfast.contracts.forms.schema import compile_schema
from holdfast.contracts.forms.text import AnyText
from holdfast.contracts.requested import MAX_KEPT, Kept, arguments_of, available, format_of, requested
from holdfast.errors import InvalidRequest

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
FORMATS = [
    (ResponseFormat(type="json"), '{"a": 1}', "[1]"),
    (ResponseFormat(type="schema", schema=SCHEMA, name="answer", strict=True), '{"n": 1}', '{"n": "x"}'),
    (ResponseFormat(type="pattern", pattern="[0-9]+"), "12", "x"),
    (ResponseFormat(type="choice", choices=("yes", "no")), "yes", "maybe"),
    (ResponseFormat(type="grammar", grammar='start: "a"'), "a", "b"),
]


@pytest.mark.parametrize(("format", "right", "wrong"), FORMATS, ids=lambda value: getattr(value, "type", ""))
def test_what_a_call_asks_for_is_a_contract(format: ResponseFormat, right: str, wrong: str) -> None:
    contract = requested(format)
    assert contract is not None
    assert isinstance(meet(contract, right), Met)
    assert isinstance(meet(contract, wrong), Unmet)
    back = format_of(contract)
    assert back is not None
    assert (back.type, back.schema, back.pattern, back.choices, back.grammar) == (
        (format.type, format.schema, format.pattern, format.choices, format.grammar)
    )


def test_a_call_that_asks_for_text_has_no_contract() -> None:
    assert requested(ResponseFormat(type="text")) is None
    assert format_of(Contract(AnyText())) is None


def test_a_schema_may_be_missing() -> None:
    contract = requested(ResponseFormat(type="schema"))
    assert contract is not None
    assert isinstance(meet(contract, "{}"), Met)


def test_a_contract_is_compiled_once() -> None:
    first = requested(ResponseFormat(type="schema", schema={"type": "object", "title": "once"}))
    again = requested(ResponseFormat(type="schema", schema={"title": "once", "type": "object"}))
    other = requested(ResponseFormat(type="schema", schema={"type": "object", "title": "other"}))
    assert first is again
    assert first is not other


def test_it_is_found_by_the_bytes_it_came_in() -> None:
    schema = {"type": "object", "title": "bytes"}
    raw = json.dumps({"type": "json_schema", "json_schema": {"schema": schema}}).encode()
    format = ResponseFormat(type="schema", schema=schema)
    assert requested(format, raw) is requested(format, raw)
    assert requested(format, raw) is not requested(format, raw + b" ")


@pytest.mark.parametrize(
    ("format", "param", "said"),
    [
        (
            ResponseFormat(type="schema", schema={"type": "strin"}),
            "response_format.json_schema.schema",
            '/type: "strin"',
        ),
        (
            ResponseFormat(type="schema", schema={"$ref": "http://x.y/z"}),
            "response_format.json_schema.schema",
            "leads nowhere",
        ),
        (
            ResponseFormat(type="schema", schema={"pattern": "(?=a)"}),
            "response_format.json_schema.schema",
            "linear time",
        ),
        (ResponseFormat(type="pattern", pattern="("), "response_format", "regex"),
        (ResponseFormat(type="choice"), "response_format", "expected one text or more"),
        (ResponseFormat(type="grammar", grammar="start: nothing"), "response_format", "nothing"),
    ],
    ids=range(6),
)
def test_what_is_no_contract_is_the_callers_mistake(format: ResponseFormat, param: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        requested(format)
    assert error.value.param == param
    assert error.value.message.startswith(param)
    assert said in error.value.message


def test_the_arguments_of_a_strict_tool_are_under_a_contract() -> None:
    tool = Tool(name="add", parameters=SCHEMA, strict=True)
    contract = arguments_of(tool)
    assert contract is not None
    assert contract is arguments_of(tool)
    assert contract.name == "add"
    assert isinstance(meet(contract, '{"n": 1}'), Met)
    assert arguments_of(Tool(name="add", parameters=SCHEMA)) is None
    assert arguments_of(Tool(name="add", strict=True)) is None


def test_a_tool_whose_parameters_are_no_schema_is_named() -> None:
    with pytest.raises(InvalidRequest, match="the tool 'add': /type") as error:
        arguments_of(Tool(name="add", parameters={"type": 3}, strict=True))
    assert error.value.param == "tools"


def test_a_format_has_a_name_that_every_wire_takes() -> None:
    for name, expected in (
        ("contracts/answer.json", "answer"),
        ("app.contracts:Köder x", "app_contracts_K_der_x"),
        ("", "answer"),
    ):
        format = format_of(Contract(compile_schema(SCHEMA), name=name))
        assert format is not None
        assert format.name == expected


def test_a_schema_is_no_hint_to_a_server_of_which_nothing_is_known() -> None:
    format = format_of(Contract(compile_schema(SCHEMA)))
    assert format is not None
    assert format.strict is True


def test_what_can_not_be_checked_here_passes_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    assert available()
    monkeypatch.setattr(module, "available", lambda: False)
    assert requested(ResponseFormat(type="schema", schema={"type": "strin"})) is None
    assert arguments_of(Tool(name="add", parameters=SCHEMA, strict=True)) is None


def test_the_least_recently_used_contracts_are_dropped() -> None:
    contract = Contract(AnyText())
    kept = Kept(most=2, most_bytes=10_000)
    for key in (b"a", b"b"):
        kept.put(("format", key), contract)
    assert kept.get(("format", b"a")) is contract
    kept.put(("format", b"c"), contract)
    assert [kept.get(("format", key)) for key in (b"a", b"b", b"c")] == [contract, None, contract]
    kept.put(("format", b"d" * 99), contract)
    assert len(kept) == 2
    kept.put(("format", b"e" * 101), contract)
    assert len(kept) == 0
    kept.put(("format", b'{"pattern": "a{250}"}'), contract)
    assert len(kept) == 0


def test_callers_can_not_fill_the_memory() -> None:
    for number in range(MAX_KEPT + 10):
        requested(ResponseFormat(type="choice", choices=(f"choice {number}",)))
    assert len(module._kept) <= MAX_KEPT
