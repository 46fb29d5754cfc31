"""When an answer is objected to, character by character, and what is known of it until then."""

import json
import time
from typing import Any

import pytest

from holdfast import predicate
from holdfast.contracts.base import MAX_TEXT, Contract
from holdfast.contracts.conditions import AtField, Length, OnText, Phrases
from holdfast.contracts.forms.cost import MAX_DEPTH
from holdfast.contracts.forms.grammar import GrammarForm
from holdfast.contracts.forms.schema import compile_schema
from holdfast.contracts.forms.text import AnyText, ChoiceForm, PatternForm
from holdfast.contracts.load import make_contract
from holdfast.contracts.repairs.repair import MAX_LENGTH
from holdfast.contracts.streaming.watch import Partial, Watch

STEP = {"type": "object", "required": ["do", "why"], "properties": {"do": {"type": "string"}, "why": {}}}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["title"],
    "maxProperties": 5,
    "properties": {
        "title": {"type": "string", "maxLength": 5},
        "language": {"enum": ["de", "En"]},
        "sure": {"type": "number", "maximum": 1},
        "done": {"type": "boolean"},
        "steps": {"type": "array", "maxItems": 2, "items": {"$ref": "#/$defs/step"}},
        "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]+$"}, "uniqueItems": True},
        "pair": {"prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False},
        "note": {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}]},
        "both": {"allOf": [{"type": "object"}, {"properties": {"x": {"const": 1}}}]},
        "open": {"additionalProperties": {"type": "integer"}},
    },
    "$defs": {"step": STEP},
}
ANSWER = Contract(compile_schema(SCHEMA))
LENIENT = {"strict": False}
STRICT = {"strict": True}


def stopped(contract: Contract, text: str, *, strict: bool = False) -> tuple[str, str, str]:
    """Return what was read of a text until it was objected to, and the path and keyword of the objection."""
    watch = Watch(contract, strict=strict)
    for number, char in enumerate(text, 1):
        if violation := watch.feed(char):
            assert watch.stopped == number
            return text[:number], violation.path, violation.keyword
    return text, "", "nothing"


@pytest.mark.parametrize(
    ("until", "rest", "path", "keyword"),
    [
        ('{"title": 5,"done":', "true}", "", "nothing"),  # a number becomes a string
        ('{"title": {', "}}", "/title", "type"),
        ('{"title": [', "]}", "/title", "type"),
        ('{"steps": "', '"}', "/steps", "type"),
        ('{"steps": {', "}}", "/steps", "type"),
        ('{"both": [', "]}", "/both", "type"),
        ('{"title": "abcdef', 'ghi"}', "/title", "maxLength"),
        ('{"title": "ab\\u00e9\\ud83d\\ude00e\\"', 'ghi"}', "/title", "maxLength"),
        ('{"language": "fr"}', " ", "/language", "enum"),
        ('{"language": "fr", "done":', "true}", "/language", "enum"),
        ('{"language": " EN ", "sure": "0.5", "done": "True", "title": 7}', "", "", "nothing"),
        ('{"sure": "1.5", "done":', "true}", "/sure", "maximum"),
        ('{"sure": 2}', " ", "/sure", "maximum"),
        ('{"sure": 2, "done":', "true}", "/sure", "maximum"),
        ('{"steps": [{"do": "a"}', "]}", "/steps/0", "required"),
        ('{"steps": [{"do": "a", "why": 1}, {"do": "b", "why": 1}, {', "}]}", "/steps", "maxItems"),
        ('{"tags": ["ab", "A", "', 'c"]}', "/tags/1", "pattern"),
        ('{"tags": ["ab", "A"]', "}", "/tags/1", "pattern"),
        ('{"tags": ["ab", "ab"]', "}", "/tags", "uniqueItems"),
        ('{"pair": ["1", "', 'x"]}', "/pair/0", "type"),
        ('{"pair": [1, {', "}]}", "/pair/1", "type"),
        ('{"pair": [1, "x", 2]', "}", "/pair/2", "falseSchema"),
        ('{"note": "abcd"}', " ", "/note", "anyOf"),
        ('{"both": {"x": 2}', "}", "/both/x", "const"),
        ('{"open": {"any": 1, "other": "x"}', "}", "/open/other", "type"),
        ('{"titel":', '"a"}', "", "additionalProperties"),
        ('{"title": "a", "title":', '"b"}', "", "json"),
        ('{"both": {"x": 1, "y": 1, "y":', "2}}", "/both", "json"),
        ('{"done": true}', "", "", "required"),
        ("{}", "", "", "required"),
        ('{"title":"a","done":true,"sure":1,"note":null,"open":{},"tags":', "[]}", "", "maxProperties"),
        (' \n```json\n{"titel":', '"a"}\n```', "", "additionalProperties"),
        ('~~~\n{"titel":', '"a"}\n~~~', "", "additionalProperties"),
    ],
)
def test_what_no_repair_can_mend_is_objected_to_once_it_is_certain(
    until: str, rest: str, path: str, keyword: str
) -> None:
    assert stopped(ANSWER, until + rest) == (until if keyword != "nothing" else until + rest, path, keyword)


@pytest.mark.parametrize(
    "text",
    [
        'Sure! {"titel": 1}',
        '[1] says {"titel": 1}',
        '{titel: 1, "language": "fr"}',
        '{"title": "a "b" c", "language": "fr"}',
        '{"language": "fr" + "x"}',
        '{"title": "abcde   ,  ',
        '{"title": "abcde" // {"titel":',
        '{"title": "\\(x\\) abcdefghi"}',
        '{"title": "a"} {"titel": 1}',
        '{"tags": ["ab", "A" and',
        '```json\n{"title": "a",}\n{"titel": 1}',
        "``` {no json {",
        "`" * 1000 + '{"titel":',
        '{"' + "k" * 201 + '": 1, "language": "fr", "done": 1}',
        '{"tit\\u006ce": "a", "language": "fr", "done": 1}',
    ],
)
def test_what_a_repair_may_read_in_another_way_is_not_objected_to(text: str) -> None:
    assert stopped(ANSWER, text)[2] == "nothing"


def test_a_string_with_escapes_that_may_be_no_escapes_is_judged_by_its_length_alone() -> None:
    contract = Contract(
        compile_schema({"properties": {"a": {"pattern": "^x$"}, "b": {"type": "string", "maxLength": 3}}})
    )
    assert stopped(contract, '{"a": "\\times", "b": 1}')[2] == "nothing"
    assert stopped(contract, '{"a": "\\\\times", "b": 1}')[::2] == ('{"a": "\\\\times", "b":', "pattern")
    assert stopped(contract, '{"b": "\\times')[::2] == ('{"b": "\\time', "maxLength")


def test_an_answer_in_an_array_is_objected_to_once_it_is_no_prose_with_a_bracket() -> None:
    contract = Contract(compile_schema({"type": "array", "items": {"type": "object"}, "maxItems": 2}))
    assert stopped(contract, '["x" and more')[2] == "nothing"
    assert stopped(contract, '["x", {}]') == ('["x", {', "/0", "type")
    assert stopped(contract, '["x"]') == ('["x"]', "/0", "type")
    assert stopped(contract, "[{}, {}, {}]") == ("[{}, {}, {", "", "maxItems")


@pytest.mark.parametrize(
    ("allow", "text", "keyword"),
    [
        ("drop_unknown", '{"titel": [1], "title": "a"}', "nothing"),
        ("drop_unknown", '{"titel": [1], "language": "fr"}', "enum"),
        ("duplicate_keys", '{"title": {}, "title": "a"}', "nothing"),
        ("merge", '{"language": "fr"} {"title": "a"}', "nothing"),
        ("complete", '{"title": "a", "titel": 5', "nothing"),
    ],
)
def test_what_a_contract_allows_to_be_repaired_is_not_objected_to(allow: Any, text: str, keyword: str) -> None:
    contract = Contract(compile_schema(SCHEMA), allow=[allow])
    assert stopped(contract, text)[2] == keyword


@pytest.mark.parametrize(
    ("until", "rest", "path", "keyword"),
    [
        ("S", "ure", "", "json"),
        ("`", "``", "", "json"),
        ("\ufeff", "{}", "", "json"),
        ('{"title": "a"} x', "", "", "json"),
        ('{"title": "a",}', "", "", "json"),
        ('{"title": "a\n', "", "", "json"),
        ('{"title": "\\x', "", "", "json"),
        ('{"title": "\\ud83dx', "", "", "json"),
        ('{"title": "\\ude', "00", "", "json"),
        ('{"title": "\ud83d', "", "", "json"),
        ('{"sure": 01', "", "", "json"),
        ('{"sure": 1.e', "", "", "json"),
        ('{"sure": -}', "", "", "json"),
        ('{"sure": 1e999,', "", "", "json"),
        ('{"done": tx', "", "", "json"),
        ('{"done": n', "ull}", "/done", "type"),
        ('{"title": 5', "", "/title", "type"),
        ('{"sure": "', '1"}', "/sure", "type"),
        ('{"title": "abcde ', '"}', "/title", "maxLength"),
        ('{"language": "fr"', "}", "/language", "enum"),
        ('{"language": "EN"', "}", "/language", "enum"),
        ('{"titel"', ": 1}", "", "additionalProperties"),
        ('{"title": "a", "title"', ": 1}", "", "json"),
        ("{}", "", "", "required"),
    ],
)
def test_strictly_anything_is_objected_to_that_the_check_refuses(
    until: str, rest: str, path: str, keyword: str
) -> None:
    assert not ANSWER.check(until + rest).ok
    assert stopped(ANSWER, until + rest, strict=True) == (until, path, keyword)


def test_strictly_a_scalar_can_be_the_whole_answer() -> None:
    contract = Contract(compile_schema({"type": "integer", "maximum": 9}))
    assert stopped(contract, " 12 ", strict=True) == (" 12 ", "", "maximum")
    assert stopped(contract, " 7 ", strict=True)[2] == "nothing"


def test_nesting_that_no_check_takes_is_objected_to_strictly() -> None:
    anything = Contract(compile_schema(True))
    assert stopped(anything, "[" * 200, strict=True)[0] == "[" * (MAX_DEPTH + 1)
    assert stopped(anything, "[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH, strict=True)[2] == "nothing"
    assert stopped(anything, '{"a":' * 200)[::2] == ('{"a":' * MAX_DEPTH + "{", "json")


def test_conditions_on_fields_are_looked_at_when_the_field_is_complete() -> None:
    @predicate("/items/*/price")
    def positive(price: Any) -> object:
        return price > 0 or f"{price} is not a price"

    schema = {"properties": {"items": {"items": {"properties": {"price": {"type": "number"}}}}}}
    contract = Contract(compile_schema(schema), [positive, AtField("/name", Length("words", max=1))])
    assert stopped(contract, '{"items": [{"price": 1}, {"price": -1}, {}]}') == (
        '{"items": [{"price": 1}, {"price": -1}', "/items/1/price", "predicate"
    )  # fmt: skip
    assert stopped(contract, '{"items": [{"price": "3"}]}')[2] == "nothing"
    assert stopped(contract, '{"name": "a b"}', strict=True) == ('{"name": "a b"', "/name", "words")


def test_a_pydantic_model_is_watched_by_its_schema() -> None:
    pydantic = pytest.importorskip("pydantic")
    model = pydantic.create_model("Answer", title=(str, ...), sure=(float, ...))
    assert stopped(make_contract(model), '{"title": "a"}') == ('{"title": "a"}', "", "required")


@pytest.mark.parametrize(
    ("condition", "until", "rest", "keyword"),
    [
        (Length("characters", max=3), "abcd", "e", "characters"),
        (Length("words", max=2), "one  two\nt", "hree", "words"),
        (Length("tokens", max=1), "abé.", "e", "tokens"),
        (Phrases("stops_at", ["END", "no"]), "it is. END.", "..", "stops_at"),
        (Phrases("stops_before", ["<eos>", "s>"]), "a <eos>", " b", "stops_before"),
        (Phrases("includes", ["x"]), "abc", "", "nothing"),
        (Length("tokens", max=1, count=len), "abc", "", "nothing"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda one: one, OnText])
def test_limits_on_a_text_are_objected_to_at_the_first_character_beyond(
    condition: Any, until: str, rest: str, keyword: str, wrap: Any
) -> None:
    assert stopped(Contract(AnyText(), [wrap(condition)]), until + rest)[::2] == (until, keyword)


def test_limits_on_the_text_of_json_are_objected_to_strictly_alone() -> None:
    contract = Contract(compile_schema({}), [OnText(Length("characters", max=3)), Length("characters", max=1)])
    assert stopped(contract, '{"a": 1}', strict=True) == ('{"a"', "", "characters")
    assert stopped(contract, '{"a": 1}')[2] == "nothing"


@pytest.mark.parametrize(
    ("text", "strictly", "leniently"),
    [
        ("maybe", "m", "m"),
        ("yes!", "yes!", "yes!"),
        ("yesterday", "yest", "yest"),
        ("Yes", "Y", None),
        (" **yes**\n", " ", None),
        ('"No way"', '"', None),
        ("no  way", "no  ", "no  w"),
        ("```\nmaybe\n```", "`", None),
        ("yes, no", "yes,", "yes,"),
    ],
)
def test_a_text_that_begins_no_choice_is_objected_to(text: str, strictly: str, leniently: str | None) -> None:
    contract = Contract(ChoiceForm(["yes", "no way", "no"]))
    assert stopped(contract, text, strict=True) == (strictly, "", "choice")
    assert stopped(contract, text) == ((leniently, "", "choice") if leniently else (text, "", "nothing"))


@pytest.mark.parametrize(
    ("text", "strictly", "leniently"),
    [
        ("2026-11-21", None, None),
        ("2026-1x-21", "2026-1x", "2026-1x"),
        ("2026-11-211", "2026-11-211", "2026-11-211"),
        (" 2026-11-21\n", " ", None),
        ("```\nnone\n```", "`", None),
        ("Today", "T", "T"),
        ("  Today", " ", "  T"),
        ("2026-11-21 is it", "2026-11-21 ", "2026-11-21 i"),
        ("20\ud83d", "20\ud83d", "20\ud83d"),
    ],
)
@pytest.mark.parametrize(
    "form",
    [PatternForm(r"^\d{4}-[0-9]{2}-\d\d$"), GrammarForm("start: /[0-9]{4}/ (/-[0-9]{2}/)~2\n")],
    ids=["pattern", "grammar"],
)
def test_a_text_that_begins_nothing_that_is_wanted_is_objected_to(
    form: Any, text: str, strictly: str | None, leniently: str | None
) -> None:
    for strict, until in ((True, strictly), (False, leniently)):
        found = stopped(Contract(form), text, strict=strict)
        assert found[0] == (until or text)
        assert (found[2] == "nothing") == (until is None)


@pytest.mark.parametrize("pattern", [r"\bab\b", r"[\D]a", r"\p{L}+", "(?<x>a)", "[a&&b]", "a$|b"])
def test_a_pattern_that_can_be_understood_in_two_ways_is_left_to_the_check(pattern: str) -> None:
    assert stopped(Contract(PatternForm(pattern)), "!" * 500, strict=True)[2] == "nothing"


# --- what is known ----------------------------------------------------------------------------------------------------


def known(text: str, *, strict: bool = False, contract: Contract = ANSWER) -> Partial:
    watch = Watch(contract, strict=strict)
    for char in text:
        watch.feed(char)
    return watch.partial()


@pytest.mark.parametrize(
    ("text", "value", "complete"),
    [
        ("", None, ()),
        (" ", None, ()),
        ("{", {}, ()),
        ('{"tit', {}, ()),
        ('{"title":', {}, ()),
        ('{"title": "', {"title": ""}, ()),
        ('{"title": "ab', {"title": "ab"}, ()),
        ('{"title": "ab\\', {"title": "ab"}, ()),
        ('{"title": "ab\\u00', {"title": "ab"}, ()),
        ('{"title": "ab\\ud83d', {"title": "ab"}, ()),
        ('{"title": "ab\\ud83d\\ude00', {"title": "ab😀"}, ()),
        ('{"title": "ab"', {"title": "ab"}, ("/title",)),
        ('{"title": "ab", "sure": 0.', {"title": "ab"}, ("/title",)),
        ('{"title": "ab", "sure": 0.5', {"title": "ab"}, ("/title",)),
        ('{"title": "ab", "sure": 0.5,', {"title": "ab", "sure": 0.5}, ("/title", "/sure")),
        ('{"done": tru', {}, ()),
        ('{"done": true', {"done": True}, ("/done",)),
        ('{"steps": [{"do": "x', {"steps": [{"do": "x"}]}, ()),
        ('{"steps": [{"do": ""}', {"steps": [{"do": ""}]}, ("/steps/0/do",)),
        ('{"both": {"x": 1}', {"both": {"x": 1}}, ("/both/x", "/both")),
        ('{"tags": ["a", "b', {"tags": ["a", "b"]}, ("/tags/0",)),
        ('{"title": "ab"}', {"title": "ab"}, ("/title", "")),
    ],
)  # fmt: skip
def test_strictly_what_is_known_grows_with_every_character(text: str, value: Any, complete: tuple[str, ...]) -> None:
    assert known(text, strict=True) == Partial(value, complete)


def test_a_string_counts_as_complete_only_when_no_repair_can_make_it_longer() -> None:
    assert known('```json\n{"title": "ab"') == Partial({"title": "ab"}, ())
    assert known('```json\n{"title": "ab", "sure":') == Partial({"title": "ab"}, ("/title",))
    assert known('{"title": "ab"}').complete == ("/title", "")
    assert known('{"title": "the "word').value == {"title": "the "}


def test_what_was_known_when_it_was_objected_to_stays_known() -> None:
    assert known('{"done": true, "title": "abcdefgh') == Partial({"done": True, "title": "abcdef"}, ("/done",))


def test_pointers_are_escaped_and_those_of_too_many_values_are_left_out() -> None:
    anything = Contract(compile_schema(True))
    assert known('{"a/b~": [1]}', strict=True, contract=anything).complete == ("/a~1b~0/0", "/a~1b~0", "")
    long = known('{"' + "k" * 2_000 + '": [1], "x": 1}', strict=True, contract=anything)
    assert long.complete == ("/" + "k" * 2_000, "/x", "")


def test_of_an_answer_that_is_no_json_the_text_is_known() -> None:
    assert known("ye", contract=Contract(ChoiceForm(["yes"]))) == Partial("ye", ())
    assert known("", contract=Contract(AnyText())) == Partial(None, ())


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strict", [True, False])
def test_a_text_longer_than_is_checked_is_objected_to(strict: bool) -> None:
    for contract in (Contract(AnyText()), Contract(compile_schema({}))):
        watch = Watch(contract, strict=strict)
        violation = watch.feed('"' + "x" * MAX_TEXT)
        assert violation is not None
        assert (violation.keyword, watch.stopped) == ("limit", MAX_TEXT + 1)


@pytest.mark.parametrize("head", ["so ", "```\n{", '{"a": "\n', "{a"])
def test_a_text_too_long_to_be_repaired_is_objected_to_if_it_needs_repair(head: str) -> None:
    contract = Contract(compile_schema({}))
    watch = Watch(contract)
    assert watch.feed(head + "x" * (MAX_LENGTH - len(head))) is None
    assert watch.feed("xx") is not None
    assert watch.stopped == MAX_LENGTH + 1
    whole = Watch(contract)
    assert whole.feed(head + "x" * MAX_LENGTH) == watch.feed("")
    assert whole.stopped == watch.stopped
    assert Watch(contract).feed('{"a": "' + "x" * MAX_LENGTH) is None


MILLION = 10**6
HOSTILE = {
    "a long string": '{"a": "' + "x" * MILLION,
    "a long text of escapes": '{"a": "' + "\\n" * (MILLION // 2),
    "a long text of pairs": '{"a": "' + "\\ud83d\\ude00" * (MILLION // 12),
    "a long number": '{"a": 1.' + "1" * MILLION,
    "a long key": '{"' + "k" * MILLION,
    "white space": " " * MILLION,
    "white space inside": "{" + " " * MILLION,
    "numbers": "[" + "1," * (MILLION // 2),
    "brackets": "[" * MILLION,
    "keys": "{" + ",".join(f'"k{number}":1' for number in range(MILLION // 12)),
    "a long path": '{"' + "k" * (MILLION // 2) + '":[' + "1," * (MILLION // 4),
    "fences": "`" * MILLION,
    "backslashes": '{"a": "' + "\\" * MILLION,
    "nesting that is looked at again": '{"a":' * 100 + "[" + "1," * 10_000 + "1]" + "}" * 100,
}
ONCE_MORE = {"$defs": {"n": {"minProperties": 1, "properties": {"a": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("strict", [True, False])
def test_no_text_however_hostile_takes_long_in_one_piece_or_in_many(text: str, strict: bool) -> None:
    contract = Contract(compile_schema(ONCE_MORE))
    started = time.process_time()
    whole = Watch(contract, strict=strict)
    whole.feed(text)
    whole.partial()
    assert time.process_time() - started < 1
    pieces = Watch(contract, strict=strict)
    for at in range(0, len(text), 50):
        pieces.feed(text[at : at + 50])
    assert (pieces.feed(""), pieces.stopped) == (whole.feed(""), whole.stopped)
    assert time.process_time() - started < 3


def test_choices_and_patterns_take_long_texts_in_linear_time() -> None:
    long = "x" * MILLION
    forms = [ChoiceForm([long, long[1:] + "y", "no"]), PatternForm("x*"), AnyText()]
    started = time.process_time()
    for form in forms:
        watch = Watch(Contract(form, [OnText(Length("words", max=5)), OnText(Phrases("stops_at", ["xy", "y"]))]))
        for at in range(0, MILLION, 1_000):
            assert watch.feed(long[at : at + 1_000]) is None
    assert time.process_time() - started < 6


def test_a_watch_tells_the_first_reason_and_keeps_to_it() -> None:
    watch = Watch(ANSWER)
    first = watch.feed('{"language": "fr", "titel": 1}')
    assert first is not None
    assert watch.feed('{"title": "a"}') is first
    assert json.loads(json.dumps(watch.partial().value)) == {"language": "fr"}


@pytest.mark.parametrize(
    "text", ["[ ]", "{ }", ' [ \n[ ] , { } , "a" , -1.5e+3 , true ] ', '{ "a" : [ ] , "b" : { "c" : null } }', " null "]
)
def test_json_is_read_alike_wherever_it_is_cut(text: str) -> None:
    anything = Contract(compile_schema(True))
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            watch = Watch(anything, strict=True)
            for piece in (text[:first], text[first:second], text[second:]):
                assert watch.feed(piece) is None
            assert watch.partial().value == json.loads(text)
            assert watch.partial().complete[-1] == ""


def test_an_escape_is_the_same_wherever_its_text_is_cut() -> None:
    contract = Contract(compile_schema({"properties": {"a": {"const": "x"}}}))
    for text in ('{"a": "\\\\n"}', '{"a": "\\\\\\n"}', '{"a": "\\ud83d\\ude00\\n"}'):
        for cut in range(len(text)):
            whole, pieces = Watch(contract), Watch(contract)
            whole.feed(text)
            pieces.feed(text[:cut])
            pieces.feed(text[cut:])
            assert (pieces.feed(""), pieces.stopped) == (whole.feed(""), whole.stopped)
