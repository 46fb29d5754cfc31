import json
import threading
import time
from typing import Any

import pytest

from holdfast.contracts.answer import HEAVY, HEAVY_GRAMMAR, MISSING, Met, Unmet, heavy, meet
from holdfast.contracts.base import Contract
from holdfast.contracts.conditions import Length, OnText, Phrases
from holdfast.contracts.forms.grammar import GrammarForm
from holdfast.contracts.forms.model import ModelForm
from holdfast.contracts.forms.schema import compile_schema
from holdfast.contracts.forms.text import AnyText, ChoiceForm, PatternForm
from holdfast.contracts.ledger import replay

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"score": {"type": "integer", "maximum": 10}, "why": {"type": "string"}},
    "required": ["score"],
}
SCORE = Contract(compile_schema(SCHEMA))
YES_NO = Contract(ChoiceForm(["Yes", "No"]))
DATE = Contract(PatternForm("[0-9]{4}-[0-9]{2}-[0-9]{2}"))
SUM = Contract(GrammarForm('start: NUMBER ("+" NUMBER)*\nNUMBER: /[0-9]+/\n'))


def met(contract: Contract, text: str, *, cut: bool = False) -> Met:
    result = meet(contract, text, cut=cut)
    assert isinstance(result, Met), result
    assert contract.check(result.text).ok
    assert replay(text, result.ledger) == result.text
    assert meet(contract, result.text) == Met(result.text, result.value)
    return result


def unmet(contract: Contract, text: str, *, cut: bool = False) -> Unmet:
    result = meet(contract, text, cut=cut)
    assert isinstance(result, Unmet), result
    assert result.violations
    return result


def kinds(result: Met) -> list[str]:
    return [entry.kind for entry in result.ledger]


@pytest.mark.parametrize(
    ("contract", "text"),
    [
        (SCORE, ' {"score":  3,\n"other": [1.50, "\\u00e9"]} \n'),
        (YES_NO, "Yes"),
        (DATE, "2026-11-21"),
        (SUM, "1+2"),
        (Contract(AnyText(), [OnText(Length("words", max=3))]), "  one two\n"),
    ],
)
def test_a_valid_answer_comes_out_byte_for_byte(contract: Contract, text: str) -> None:
    assert met(contract, text) == Met(text, contract.check(text).value)


def test_a_repaired_answer_has_its_value_and_its_ledger() -> None:
    result = met(SCORE, "Sure:\n```json\n{'score': '7',}\n```")
    assert (result.text, result.value) == ('{"score": 7}', {"score": 7})
    assert kinds(result) == ["prose", "quotes", "quotes", "string_to_number", "trailing_comma", "fence"]


def test_the_value_of_an_answer_under_a_model_is_its_instance() -> None:
    pydantic = pytest.importorskip("pydantic")
    answer = pydantic.create_model("Answer", score=(int, ...))
    assert met(Contract(ModelForm(answer)), "```\n{'score': 3}\n```").value == answer(score=3)


def test_an_answer_that_fails_says_where_and_what_it_says() -> None:
    result = unmet(SCORE, 'Here: {"score": 11,}')
    assert [violation.path for violation in result.violations] == ["/score"]
    assert (result.text, result.data) == ('{"score": 11}', {"score": 11})


@pytest.mark.parametrize("text", ["", "I can't say.", '{"score": @}', '{"score": 1, "score": 2}', "\ud800", "[" * 500])
def test_an_answer_that_is_no_json_has_no_data(text: str) -> None:
    result = unmet(SCORE, text)
    assert (result.text, result.data) == (text, MISSING)


def test_a_refused_repair_says_why() -> None:
    (violation,) = unmet(SCORE, '{"score": 1, "why": "so').violations
    assert (violation.path, violation.keyword) == ("", "cut")
    assert "ends inside the string that begins at 20" in violation.message


# --- what an answer begins with ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ['{"score": 11}', '```json\n{"score": 11}\n```\n', "{'score': 11,}", "{}"])
def test_nothing_stands_for_a_complete_value_at_the_head_that_does_not_meet_the_contract(head: str) -> None:
    result = unmet(SCORE, f'{head}\nNo, I was wrong:\n{{"score": 9}}')
    assert {violation.keyword for violation in result.violations} <= {"maximum", "required"}
    assert result.data in ({"score": 11}, {})


@pytest.mark.parametrize("head", ['{"score": 8}', '```json\n{"score": 8}\n```\n'])
def test_the_last_of_several_values_is_meant_where_the_first_meets_the_contract_too(head: str) -> None:
    assert met(SCORE, f'{head}\nNo, I was wrong:\n{{"score": 9}}').value == {"score": 9}


@pytest.mark.parametrize("prose", ['Is it {"score": 11}? No:', "[1] says that", "{so} it is", "[Note] well,"])
def test_below_prose_the_last_value_that_fits_is_meant(prose: str) -> None:
    assert met(SCORE, f'{prose}\n{{"score": 9}}').value == {"score": 9}


def test_a_list_at_the_head_is_no_prose_where_lists_are_wanted() -> None:
    several = Contract(compile_schema({"type": "array", "items": {"type": "integer"}, "minItems": 2}))
    assert unmet(several, "[1]\nor rather\n[1, 2]").data == [1]
    assert met(several, "See [1]:\n[1, 2]").value == [1, 2]


@pytest.mark.parametrize(("score", "stands"), [("8", True), ("11", False)])
def test_a_value_stands_for_a_broken_one_unless_a_stream_would_have_been_given_up_for_that(
    score: str, stands: bool
) -> None:
    text = f'{{"score": {score}, "why": @}}\nOnce more:\n{{"score": 9}}'
    assert isinstance(meet(SCORE, text), Met) is stands


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ['{"score": 3', '{"score": 3, "why": "so"', '{"score": 3, "why": "s', "{"])
def test_an_answer_that_a_limit_cut_is_not_completed(text: str) -> None:
    assert unmet(SCORE, text, cut=True).violations[0].keyword == "cut"


@pytest.mark.parametrize("text", ['{"score": 3}', '{"score": 3} which is', '```json\n{"score": 3,}\n'])
def test_an_answer_that_was_complete_before_the_limit_is_met(text: str) -> None:
    assert met(SCORE, text, cut=True).value == {"score": 3}


def test_a_number_at_a_limit_may_not_be_complete() -> None:
    number = Contract(compile_schema({"type": "integer"}))
    assert met(number, "42").value == 42
    assert met(number, "```\n42\n```").value == 42
    for text in ("42", "```\n42"):
        assert unmet(number, text, cut=True).violations[0].keyword == "cut"
    assert met(Contract(compile_schema({"type": "boolean"})), "true", cut=True).value is True


@pytest.mark.parametrize(("contract", "text"), [(YES_NO, "No"), (DATE, "2026-11-21"), (SUM, "1+2"), (YES_NO, "no")])
def test_text_does_not_end_by_itself(contract: Contract, text: str) -> None:
    assert unmet(contract, text, cut=True).violations[0].keyword == "cut"


# --- text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contract", "text", "expected", "repairs"),
    [
        (YES_NO, " Yes\n", "Yes", ["space", "space"]),
        (YES_NO, "yes", "Yes", ["enum_case"]),
        (YES_NO, '"Yes"', "Yes", ["quotes", "quotes"]),
        (YES_NO, "“ no ”", "No", ["quotes", "enum_case", "quotes"]),
        (YES_NO, "**Yes**\n", "Yes", ["quotes", "space", "quotes"]),
        (YES_NO, "```\nYES\n```", "Yes", ["fence", "enum_case", "fence"]),
        (YES_NO, "```text\n'no'\n```\n", "No", ["fence", "quotes", "enum_case", "quotes", "fence", "space"]),
        (DATE, "\n2026-11-21 ", "2026-11-21", ["space", "space"]),
        (DATE, "```\n2026-11-21\n```", "2026-11-21", ["fence", "fence"]),
        (SUM, "~~~\n1+2\n~~~", "1+2", ["fence", "fence"]),
    ],
)
def test_what_stands_around_a_text_is_taken_off(
    contract: Contract, text: str, expected: str, repairs: list[str]
) -> None:
    result = met(contract, text)
    assert (result.text, result.value) == (expected, expected)
    assert sorted(kinds(result)) == sorted(repairs)


@pytest.mark.parametrize(
    ("contract", "text"),
    [
        (YES_NO, "maybe"),
        (YES_NO, "Yes."),
        (YES_NO, "Yes or No"),
        (YES_NO, "'Yes\""),
        (YES_NO, '""'),
        (YES_NO, " "),
        (Contract(ChoiceForm(["ab", "AB"])), "Ab"),
        (DATE, '"2026-11-21"'),
        (DATE, "```\n2026-11-21\n```\n```\n2026-11-22\n```"),
        (SUM, "the sum is 1+2"),
    ],
)
def test_a_text_that_says_something_else_is_refused_as_it_came(contract: Contract, text: str) -> None:
    result = unmet(contract, text)
    assert (result.text, result.data) == (text, MISSING)
    assert result.violations == contract.check(text).violations


def test_a_choice_that_has_quotes_or_space_of_its_own_is_met_first() -> None:
    assert met(Contract(ChoiceForm(['"a"', "a"])), '"a"').value == '"a"'
    assert met(Contract(ChoiceForm([" a", "a"])), " a").value == " a"


def test_an_answer_without_a_form_is_not_repaired() -> None:
    short = Contract(AnyText(), [OnText(Length("characters", max=3)), Phrases("stops_before", ["x"])])
    assert unmet(short, "abc ").violations[0].keyword == "characters"
    assert met(short, " b ").text == " b "


# --- bounds -----------------------------------------------------------------------------------------------------------

SIZE = 2**20 - 100


@pytest.mark.parametrize(
    "text",
    [
        "[" * SIZE,
        '{"score": ' * (SIZE // 10),
        '{"why": "' + '", ' * (SIZE // 3),
        "{'why': '" + "'" * SIZE,
        "[" + "1," * (SIZE // 2) + "]",
        ('x {"a":[' + "1," * 450 + "1]}\n") * (SIZE // 912),
        '{"a": "b' * (SIZE // 8),
        "{" + ",".join(f"\"{i}\": '{i}'" for i in range(60_000)) + "}",
        '{"score": 1, ' + ",".join(f'"{i}": {i}' for i in range(70_000)) + "}",
        '{"score": 1, ' + '"k": 1, ' * 120_000 + '"z": 1}',
        "```" * (SIZE // 3),
        "\n" * SIZE,
        '"' * SIZE,
    ],
    ids=lambda text: text[:12],
)
@pytest.mark.parametrize("allow", [(), ("drop_unknown", "duplicate_keys", "complete", "merge")], ids=["", "allowed"])
def test_a_megabyte_made_to_be_slow_is_decided_in_bounded_time(text: str, allow: tuple[Any, ...]) -> None:
    closed = {**SCHEMA, "additionalProperties": False}
    contracts = [Contract(compile_schema(closed), allow=allow)]
    contracts += [] if allow else [YES_NO, DATE, SUM]
    for contract in contracts:
        started = time.process_time()
        result = meet(contract, text)
        assert time.process_time() - started < 3  # about one second, on a machine with other work
        assert isinstance(result, Met) or result.violations


def test_long_answers_are_for_a_thread() -> None:
    assert not heavy(SCORE, "x" * HEAVY)
    assert heavy(SCORE, "x" * (HEAVY + 1))
    assert heavy(SUM, "x" * (HEAVY_GRAMMAR + 1))
    assert not heavy(DATE, "x" * (HEAVY_GRAMMAR + 1))
    costly = Contract(compile_schema({"anyOf": [{"pattern": f"x{{1,{n}}}y"} for n in range(500, 600)]}))
    assert heavy(costly, "x" * 1_000)


def test_threads_may_share_a_contract() -> None:
    contract = Contract(compile_schema({**SCHEMA, "additionalProperties": {"type": "string"}}))
    texts = [f"{{'score': '{n % 10}', 'k{n}': {n}}}" for n in range(200)]
    found: list[list[Any]] = []
    threads = [
        threading.Thread(target=lambda: found.append([meet(contract, text) for text in texts])) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(results == found[0] for results in found)
    assert json.loads(found[0][3].text) == {"score": 3, "k3": "3"}
