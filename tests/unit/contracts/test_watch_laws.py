"""What holds of every text: nothing is objected to that passes in the end, and how it is split makes no difference."""

import gzip
import json
import os
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.contracts.answer import Met, meet
from holdfast.contracts.base import Contract, Violation
from holdfast.contracts.conditions import AtField, Length, OnText, Phrases
from holdfast.contracts.forms.grammar import GrammarForm
from holdfast.contracts.forms.schema import compile_schema
from holdfast.contracts.forms.text import AnyText, ChoiceForm, PatternForm
from holdfast.contracts.streaming.watch import Watch
from holdfast.errors import ConfigError

SUITE = Path(__file__).parents[2] / "data/json-schema-test-suite/suite.json.gz"
OUTPUTS = sorted((Path(os.environ.get("HOLDFAST_DATA", "no such folder")) / "outputs").glob("gsm-*.jsonl.gz"))

KEYS = ["a", "b", "answer", "a/b~", 'q"']
PATTERNS = ["^[a-y]*$", "^x", "[0-9]{1,3}(\\.[0-9]+)?", "(yes|no)( really)?", r"\w+\s\d", r"[^\d]+", r"\S.\D*", "é|ß"]
LEAVES: list[dict[str, Any]] = [
    {"type": "string"},
    {"type": "string", "maxLength": 3},
    {"type": "string", "pattern": "^[a-y]*$"},
    {"type": ["string", "null"]},
    {"type": ["number", "string"], "maxLength": 2},
    {"enum": ["Yes", "No", 1]},
    {"enum": ['say "x"', 'a", "b', "tall\\times"]},
    {"type": "string", "minLength": 4},
    {"type": "integer", "minimum": 0},
    {"type": "number", "maximum": 10},
    {"type": "boolean"},
    {"anyOf": [{"type": "string", "maxLength": 2}, {"type": "null"}]},
    {"const": "x"},
    {"not": {"type": "string"}},
    {"$ref": "#/$defs/one"},
    {"$ref": "#/$defs/one", "maxLength": 1},
    {},
]
KEYED = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(LEAVES), max_size=3)


@st.composite
def around(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> Any:
    if draw(st.booleans()):
        named = draw(st.dictionaries(st.sampled_from(KEYS), inner, max_size=3))
        schema: dict[str, Any] = {"type": "object", "properties": named}
        schema |= draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "required": st.just(sorted(named)) | st.just(["a"]),
                    "additionalProperties": st.just(False) | inner,
                    "maxProperties": st.integers(0, 3),
                    "minProperties": st.just(2),
                    "patternProperties": st.just({"^a": {"type": "string"}}),
                    "allOf": st.just([{"maxProperties": 2}]) | inner.map(lambda one: [one]),
                },
            )
        )
        return schema
    schema = {"type": "array", "items": draw(inner)}
    limits = {"maxItems": st.integers(0, 3), "minItems": st.just(1), "uniqueItems": st.just(True)}
    tuples = {"prefixItems": inner.map(lambda one: [one])}
    return schema | draw(st.fixed_dictionaries({}, optional=limits | tuples))


PARTS = st.recursive(st.sampled_from(LEAVES), lambda inner: around(inner), max_leaves=6)
SCHEMAS = st.tuples(around(PARTS), st.sampled_from(LEAVES[:12])).map(lambda both: both[0] | {"$defs": {"one": both[1]}})
SCALARS = st.sampled_from(
    [
        None,
        True,
        0,
        1,
        5,
        -1,
        2.5,
        11,
        "",
        "x",
        "yes",
        "YES ",
        "No",
        "1",
        " 5",
        "true",
        "abc",
        "tall\times",
        "a\nb",
        "é😀",
    ]
) | st.text(max_size=4)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=6,
)


def fitting(schema: Any, root: Any) -> st.SearchStrategy[Any]:
    """Return values of which many fit a schema."""
    if "$ref" in schema:
        schema = root["$defs"]["one"]
    if "properties" in schema:
        named = {key: fitting(inner, root) for key, inner in schema["properties"].items()}
        return st.fixed_dictionaries(named) | st.fixed_dictionaries({}, optional=named | {"b": VALUES, "c": VALUES})
    if "items" in schema:
        return st.lists(fitting(schema["items"], root), max_size=3)
    by_type: dict[str, Any] = {
        "string": st.text('abcx"', max_size=6), "null": st.none(), "integer": st.integers(0, 9) | st.just("7"),
        "number": st.sampled_from([0, 2.5, 1e3, "3"]), "boolean": st.sampled_from([True, "False"]),
    }  # fmt: skip
    declared = schema.get("type", [])
    types = [declared] if isinstance(declared, str) else declared
    choices = st.sampled_from([*schema.get("enum", []), schema.get("const", "x"), "yes"])
    return st.one_of(*(by_type[name] for name in types if name in by_type), choices)


MARKS = [
    *"\"'\\\n ,:{}[]#0e-+.",
    "```",
    "```json\n",
    "\n```",
    '"a"',
    '"answer": ',
    "\\u00e9",
    "\\ud83d",
    "\\(",
    "true",
    "nul",
]


@st.composite
def cases(draw: st.DrawFn) -> tuple[Contract, str]:
    schema = draw(SCHEMAS)
    dumped = draw(st.sampled_from([{}, {"ensure_ascii": False}, {"indent": 1}]))
    values = draw(st.lists(fitting(schema, schema) | VALUES, min_size=1, max_size=2))
    text = draw(st.sampled_from(["\n", "\nNo, sorry:\n", " "])).join(json.dumps(value, **dumped) for value in values)
    text = draw(st.sampled_from(["{}", "{}", "```json\n{}\n```", "So: {}", " {}", "{}."])).replace("{}", text)
    if draw(st.booleans()):
        text = text.replace('\\"', '"').replace("\\\\", "\\")
    for _ in range(draw(st.integers(0, 2))):
        at, end = draw(st.integers(0, len(text))), draw(st.integers(0, 2))
        text = text[:at] + draw(st.sampled_from(["", *MARKS])) + text[at + end :]
    conditions = [AtField("/a", Length("characters", max=2)), AtField("/*/answer", Phrases("includes", ["x"]))]
    return Contract(compile_schema(schema), conditions if draw(st.booleans()) else ()), text


def verdict(contract: Contract, pieces: list[str], *, strict: bool) -> tuple[Violation | None, int | None]:
    watch = Watch(contract, strict=strict)
    for piece in pieces:
        watch.feed(piece)
    return watch.feed(""), watch.stopped


def split(text: str, data: st.DataObject) -> list[str]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def holds(contract: Contract, text: str, data: st.DataObject) -> None:
    for strict in (True, False):
        found = verdict(contract, [text], strict=strict)
        assert found == verdict(contract, list(text), strict=strict)
        assert found == verdict(contract, split(text, data), strict=strict)
        if contract.check(text).ok or (not strict and isinstance(meet(contract, text), Met)):
            assert found == (None, None)


@settings(max_examples=250)
@given(cases(), st.data())
def test_no_json_that_passes_in_the_end_is_objected_to_however_it_is_split(
    case: tuple[Contract, str], data: st.DataObject
) -> None:
    holds(*case, data)


SPOKEN = st.lists(
    st.sampled_from(
        ["so", '"hi"', '64"', '("x")', '"', ".", ", ", "}", "it's", "\\n", "[1]", '", "b": ', '": "', '"answer":', "//"]
    ),
    max_size=6,
).map(" ".join)
ENDS = {"type": "string", "pattern": "END$", "minLength": 4}
SPEECHES = [
    Contract(compile_schema({"type": "object", "properties": {"reasoning": ENDS, "answer": ENDS}})),
    Contract(compile_schema({"type": "object", "properties": {"reasoning": {"items": ENDS}, "answer": ENDS}})),
]


@settings(max_examples=400)
@given(st.sampled_from(SPEECHES), SPOKEN, SPOKEN, st.booleans(), st.data())
def test_a_string_is_judged_only_when_no_quote_in_it_can_be_meant_to_stand_there(
    contract: Contract, first: str, second: str, listed: bool, data: st.DataObject
) -> None:
    first, second = f"{first}END", f"{second}END"
    text = json.dumps({"reasoning": [first, second] if listed else first, "answer": second})
    holds(contract, text.replace('\\"', '"'), data)


CONDITIONS = st.lists(
    st.sampled_from(
        [
            OnText(Length("characters", max=4)),
            Length("words", max=2),
            Length("tokens", max=2),
            Phrases("stops_at", ["no", "ea"]),
            OnText(Phrases("stops_before", ["lly", "0.0"])),
        ]
    ),
    max_size=2,
)
WORDS = st.lists(
    st.sampled_from(
        [
            "yes",
            "YES",
            "no",
            " really",
            "ß",
            "SS",
            "a b",
            "1",
            "0.05",
            "x",
            "\n",
            " ",
            '"',
            "**",
            "`",
            "```",
            "~~~",
            "é",
        ]
    )
    | st.text(max_size=2),
    max_size=6,
).map("".join)
FORMS = [
    AnyText(),
    *(PatternForm(pattern) for pattern in PATTERNS),
    ChoiceForm(["yes", "no", "No really", "straße", '"', "a b", "a", "~x", "```"]),
    ChoiceForm(["Yes"]),
    GrammarForm('start: WORD (" " WORD)*\nWORD: /[a-zé]+/\n'),
]  # fmt: skip


@settings(max_examples=250)
@given(st.sampled_from(FORMS), CONDITIONS, WORDS, st.data())
def test_no_text_that_passes_in_the_end_is_objected_to_however_it_is_split(
    form: Any, conditions: list[Any], text: str, data: st.DataObject
) -> None:
    holds(Contract(form, conditions), text, data)


@given(st.data())
def test_what_matches_a_pattern_is_never_objected_to(data: st.DataObject) -> None:
    pattern = data.draw(st.sampled_from(PATTERNS))
    text = data.draw(st.from_regex(pattern, fullmatch=True))
    holds(Contract(PatternForm(pattern)), text, data)


@settings(max_examples=100)
@given(cases(), st.booleans())
def test_what_is_known_is_json_at_any_moment_and_in_the_end_all_of_it(case: tuple[Contract, str], strict: bool) -> None:
    contract, text = case
    watch, before = Watch(contract, strict=strict), ()
    for char in text:
        watch.feed(char)
        partial = watch.partial()
        assert json.loads(json.dumps(partial.value, allow_nan=False)) == partial.value
        json.dumps(partial.value, ensure_ascii=False).encode()
        assert partial.complete[: len(before)] == before
        before = partial.complete
        assert all(reached(partial.value, pointer) for pointer in before)
    if contract.check(text).ok:
        assert (partial.value, partial.complete[-1]) == (json.loads(text), "")


def reached(value: Any, pointer: str) -> bool:
    for step in pointer.split("/")[1:]:
        value = value[int(step)] if isinstance(value, list) else value[step.replace("~1", "/").replace("~0", "~")]
    return True


@cache
def suite() -> Any:
    with gzip.open(SUITE) as file:
        return json.load(file)


@pytest.mark.parametrize("draft", ["draft4", "draft6", "draft7", "draft2020-12"])
def test_no_valid_instance_of_the_official_suite_is_objected_to_and_most_invalid_ones_are(draft: str) -> None:
    found: Counter[tuple[bool, bool]] = Counter()
    for file, groups in suite()["tests"][draft].items():
        for group in groups if "format" not in file and "cross-draft" not in file else ():
            try:
                form = compile_schema(group["schema"], draft=draft.removeprefix("draft"), formats=False)
            except ConfigError:  # it refers to a document that isn't there
                continue
            for test in group["tests"]:
                objection, _ = verdict(Contract(form), [json.dumps(test["data"]) + " "], strict=True)
                found[test["valid"], objection is not None] += 1
    assert not found[True, True]
    assert found[False, True] > 0.95 * found[False, False]


TIGHT = {
    "properties": {"reasoning": {"type": "string", "maxLength": 600}, "answer": {"pattern": "^[0-9.,$% ]+$"}},
    "required": ["reasoning", "answer"],
    "additionalProperties": False,
}


@pytest.mark.skipif(not OUTPUTS, reason="HOLDFAST_DATA names no folder with outputs/")
@pytest.mark.parametrize("schema", [{"required": ["reasoning", "answer"]}, TIGHT], ids=["loose", "tight"])
def test_no_output_of_a_real_model_that_is_recovered_is_objected_to(schema: dict[str, Any]) -> None:
    contract = Contract(compile_schema({"type": "object"} | schema))
    objections = 0
    for path in OUTPUTS:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            texts = [json.loads(line).get("output", "") for line in lines][::10]
        for text in texts:
            found = verdict(contract, [text], strict=False)
            assert found == verdict(contract, [text[at : at + 4] for at in range(0, len(text), 4)], strict=False)
            assert found[0] is None or not isinstance(meet(contract, text), Met)
            objections += found[0] is not None
    assert schema is not TIGHT or objections > 50
