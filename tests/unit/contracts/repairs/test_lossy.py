import json
from typing import Any

import pytest

from holdfast.contracts.answer import Met, Unmet, meet
from holdfast.contracts.base import Contract
from holdfast.contracts.forms.schema import compile_schema
from holdfast.contracts.ledger import Lossy, replay
from holdfast.contracts.load import parse_contract
from holdfast.contracts.repairs.lossy import composed
from holdfast.errors import ConfigError
from holdfast.events import Repair

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "size": {"type": "integer"},
        "kind": {"enum": ["Big", "Small"]},
        "owner": {"type": "object", "properties": {"id": {"type": "string"}}, "additionalProperties": False},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name"],
    "additionalProperties": False,
}


def under(*allow: Lossy, schema: Any = None) -> Contract:
    return Contract(compile_schema(schema or SCHEMA), allow=allow)


def met(contract: Contract, text: str, *, cut: bool = False) -> Met:
    result = meet(contract, text, cut=cut)
    assert isinstance(result, Met), result
    assert replay(text, result.ledger) == result.text
    assert meet(contract, result.text) == Met(result.text, result.value)
    return result


CASES: list[tuple[Lossy, str, str]] = [
    ("drop_unknown", '{"name": "x", "zz": 1}', '{"name": "x"}'),
    ("drop_unknown", '{"zz": {"a": [1]}, "name": "x"}', '{"name": "x"}'),
    (
        "drop_unknown",
        '{"zz": 1, "yy": 2, "name": "x", "xx": 3, "ww": 4, "size": 5, "vv": 6}',
        '{"name": "x", "size": 5}',
    ),
    ("drop_unknown", '{"name": "x", "owner": {"zz": 1, "id": "y"}}', '{"name": "x", "owner": {"id": "y"}}'),
    ("drop_unknown", '{"name": "x", "owner": {"zz": 1}}', '{"name": "x", "owner": {}}'),
    ("drop_unknown", "Sure: {'zz': 'a', name: 'x', 'size': '3', 'yy': True,}", '{"name": "x", "size": 3}'),
    ("duplicate_keys", '{"name": "x", "name": "y"}', '{"name": "y"}'),
    ("duplicate_keys", '{"name": "x", "size": 1, "name": "y", "size": 2}', '{"name": "y", "size": 2}'),
    ("duplicate_keys", '{"name": "x", "n\\u0061me": "y"}', '{"n\\u0061me": "y"}'),
    ("duplicate_keys", "{'name': 'x', 'name': 'y', 'size': 1}", '{"name": "y", "size": 1}'),
    ("complete", '{"name": "x', '{"name": "x"}'),
    ("complete", "{'name': 'x y", '{"name": "x y"}'),
    ("complete", '{"name": "x\n', '{"name": "x\\n"}'),
    ("complete", '{"name": "x\\', '{"name": "x"}'),
    ("complete", '{"name": "x\\\\', '{"name": "x\\\\"}'),
    ("complete", '{"name": "x\\u00e', '{"name": "x"}'),
    ("complete", '{"name": "x\\u00e9', '{"name": "x\\u00e9"}'),
    ("complete", '{"name": "x\\ud83d\\ude', '{"name": "x"}'),
    ("complete", '{"name": "x", "size": 4', '{"name": "x"}'),
    ("complete", '{"name": "x", "size": ', '{"name": "x"}'),
    ("complete", '{"name": "x", "si', '{"name": "x"}'),
    ("complete", '{"name": "x", ', '{"name": "x"}'),
    ("complete", '{"name": "x", "size": 4, "own', '{"name": "x", "size": 4}'),
    ("complete", '{"name": "x", "kind": "Bi', '{"name": "x"}'),
    ("complete", '{"name": "x", "kind": "big', '{"name": "x"}'),
    ("complete", '{"name": "x", "size": "4', '{"name": "x"}'),
    ("complete", '{"name": "x", "owner": {"id": "y', '{"name": "x", "owner": {"id": "y"}}'),
    ("complete", '{"name": "x", "owner": {"id": "y","', '{"name": "x", "owner": {"id": "y"}}'),
    ("complete", '{"name": "x", "tags": ["a", "b', '{"name": "x", "tags": ["a", "b"]}'),
    ("complete", '```json\n{"name": "x", "tags": ["a", "b"', '{"name": "x", "tags": ["a", "b"]}'),
    ("merge", '{"name": "x"}\n{"size": 3}', '{"name": "x", "size": 3}'),
    ("merge", 'First {"size": 3,} and\n```\n{\'name\': "x"}\n``` Done.', '{"size": 3, "name": "x"}'),
]


@pytest.mark.parametrize(("name", "text", "expected"), CASES)
def test_a_repair_that_loses_something_is_made_where_it_is_allowed_by_name(
    name: Lossy, text: str, expected: str
) -> None:
    result = met(under(name), text)
    assert result.text == expected
    assert result.value == json.loads(expected)


@pytest.mark.parametrize(("name", "text", "expected"), CASES)
def test_without_its_name_it_is_not_made(name: Lossy, text: str, expected: str) -> None:
    others: set[Lossy] = {"drop_unknown", "duplicate_keys", "complete", "merge"} - {name}
    for contract in (under(), under(*others)):
        result = meet(contract, text)
        assert isinstance(result, Unmet) or name not in [entry.kind for entry in result.ledger]
        assert isinstance(result, Unmet) or result.text != expected or "closed" in [e.kind for e in result.ledger]


def test_the_ledger_names_what_was_lost() -> None:
    result = met(under("drop_unknown", "duplicate_keys"), '{"zz": 1, "name": "x", "name": "y"}')
    assert result.ledger == (
        Repair("drop_unknown", 1, '"zz": 1, ', ""),
        Repair("duplicate_keys", 10, '"name": "x", ', ""),
    )
    assert met(under("complete"), '{"name": "x", "si').ledger == (Repair("complete", 12, ', "si', "}"),)


def test_repairs_go_together() -> None:
    everything = under("drop_unknown", "duplicate_keys", "complete", "merge")
    result = met(
        everything, "So:\n{'zz': 1, 'name': 'x', 'name': 'y'}\n{'owner': {'id': 'a\n', 'q': {'r': 's', 't': 'u"
    )
    assert result.value == {"name": "y", "owner": {"id": "a\n"}}


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "x", "si',
        '{"name": "x',
        '{"name": "x", "zz": {"y": "z"',
    ],
)
def test_an_answer_cut_by_a_limit_is_completed_only_by_name(text: str) -> None:
    assert met(under("complete", "drop_unknown"), text, cut=True).value == {"name": "x"}
    assert isinstance(meet(under("drop_unknown"), text, cut=True), Unmet)


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "x, "y": z',
        '{"name": "he said "hi',
        '{"name": "x\n```',
        '{"name": """x',
        '{"na',
        "{",
        '{"size": 4, "na',
        '{"name": "a"}\nNo:\n{"name": "b", "size": 1',
    ],
)
def test_what_would_be_a_guess_is_not_completed(text: str) -> None:
    result = meet(under("complete"), text)
    assert isinstance(result, Unmet) or result.value == {"name": "b"}


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "x"}\n{"name": "y"}',
        '{"name": "x", "size": 1}\n{"size": 2}',
        '{"size": 1}\n{"other": 2}',
        '{"size": 1} [2]',
        '{"size": 1\n```\n{"name": "x"}',
        '{"size": 1}\n{"name": "x"',
    ],
)
def test_objects_are_merged_only_where_nothing_is_said_twice_or_left_out(text: str) -> None:
    result = meet(under("merge"), text)
    assert isinstance(result, Unmet) or "merge" not in [entry.kind for entry in result.ledger] or text.endswith('"x"')


@pytest.mark.parametrize("twice", ['"zz": 1, "zz": 2', '"zz": {"a": 1, "a": 2}', '"zz": 1, "name": "y"'])
def test_a_key_that_stands_twice_is_refused_also_where_it_would_be_dropped(twice: str) -> None:
    assert isinstance(meet(under("drop_unknown"), f'{{"name": "x", {twice}}}'), Unmet)
    assert "zz" not in met(under("drop_unknown", "duplicate_keys"), f'{{"name": "x", {twice}}}').value


def test_keys_that_may_be_there_stay() -> None:
    for schema in (
        {"type": "object", "properties": {"a": {"type": "integer"}}},
        {"additionalProperties": False, "patternProperties": {"^z": {}}, "properties": {"a": {"type": "integer"}}},
    ):
        result = met(under("drop_unknown", schema=schema), '{"a": "1", "zz": 2}')
        assert result.value == {"a": 1, "zz": 2}


def test_ledgers_are_composed_where_they_touch() -> None:
    original = "abcdefghij"
    first = (Repair("x", 1, "b", "BBB"), Repair("x", 3, "", "+"), Repair("x", 5, "fg", ""), Repair("x", 8, "i", "II"))
    text = replay(original, first)
    assert text == "aBBBc+dehIIj"
    for start in range(len(text)):
        for end in range(start + 1, len(text) + 1):
            second = (Repair("y", start, text[start:end], "-"),)
            assert replay(original, composed(original, first, second)) == replay(text, second)


def test_what_a_contract_allows_is_written_in_its_file() -> None:
    source = json.dumps({"contract": {"schema": SCHEMA, "allow": ["drop_unknown", "merge"]}})
    assert parse_contract("answer.json", source).allow == {"drop_unknown", "merge"}
    assert parse_contract("answer.json", json.dumps(SCHEMA)).allow == frozenset()


@pytest.mark.parametrize("contract", [{"schema": {}, "allow": ["drop"]}, {"choice": ["a"], "allow": ["complete"]}])
def test_what_can_not_be_allowed_is_a_problem(contract: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="allow"):
        parse_contract("answer.json", json.dumps({"contract": contract}))
