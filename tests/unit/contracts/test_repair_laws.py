"""What holds of every text: of valid JSON, of JSON with mistakes put in, and of anything at all."""

import json
import re
from typing import Any

from hypothesis import assume, example, given
from hypothesis import strategies as st

from damaged import DAMAGED, DUMPS, KEYS, SCALARS, VALUES
from holdfast.contracts.ledger import Refused, Repaired, replay
from holdfast.contracts.repairs.repair import repair
from holdfast.contracts.shape import ANY, Shape, fits
from holdfast.events import Repair

SHAPES = st.sampled_from(
    [
        ANY,
        Shape.of_keys({"reasoning": "string", "answer": "string"}),
        Shape(
            {
                "type": "object",
                "properties": {"a": {"type": "integer"}, "b": {"enum": ["Yes", "No"]}},
                "required": ["a"],
            }
        ),
        Shape({"type": "array", "items": {"type": ["number", "null"]}}),
    ]
)


@given(VALUES, DUMPS)
def test_valid_json_comes_out_unchanged(value: Any, style: Any) -> None:
    text = json.dumps(value, **style)
    assert repair(text) == Repaired(text)


@given(VALUES, SHAPES)
def test_a_value_that_fits_its_shape_comes_out_unchanged(value: Any, shape: Shape) -> None:
    assume(fits(value, shape))
    text = json.dumps(value)
    assert repair(text, shape) == Repaired(text)


@given(DAMAGED | st.text(), SHAPES)
@example('{"answer": tru', Shape.of_keys({"answer": "string"}))
def test_every_text_becomes_json_or_is_refused_and_the_ledger_replays_to_it(text: str, shape: Shape) -> None:
    result = repair(text, shape)
    if isinstance(result, Refused):
        assert 0 <= result.offset <= len(text)
        assert result.message
    else:
        json.loads(result.text)
        assert replay(text, result.ledger) == result.text


@given(DAMAGED | VALUES.map(json.dumps) | VALUES.map(repr), SHAPES)
def test_a_repair_is_idempotent(text: str, shape: Shape) -> None:
    result = repair(text, shape)
    if isinstance(result, Repaired):
        assert repair(result.text, shape) == Repaired(result.text)


@given(DAMAGED | VALUES.map(repr), SHAPES)
def test_nothing_that_was_said_is_dropped_or_added_inside_of_a_value(text: str, shape: Shape) -> None:
    result = repair(text, shape)
    if isinstance(result, Repaired):
        for entry in result.ledger:
            assert entry.kind in ("fence", "prose", "passed_over", "comment") or said(entry, after=False) == said(
                entry, after=True
            )


def said(entry: Repair, *, after: bool) -> str:
    """Return the letters and digits of one side of a repair, escapes read."""
    text = entry.after if after else entry.before
    if entry.kind == "control":
        return json.loads(f'"{text}"') if after else text
    if entry.kind == "literal":
        return {"none": "null"}.get(text.lower(), text.lower())
    if entry.kind == "number":
        return str(float(text))
    if entry.kind == "bare_string":
        text = json.loads(text) if after else text
    return "".join(re.findall(r"\w", text)).casefold()


@given(st.dictionaries(KEYS, SCALARS, min_size=1, max_size=4))
def test_a_dictionary_as_python_writes_it_is_read_as_it_is(value: dict[str, Any]) -> None:
    text = repr(value)
    assume(not re.search(r"\\[xuU]|\\'", text))
    result = repair(text)
    assert isinstance(result, Refused) or json.loads(result.text) == value


@given(st.dictionaries(KEYS, SCALARS, min_size=1), st.data())
def test_a_text_that_is_cut_is_refused_or_closed_after_a_whole_value(
    value: dict[str, Any], data: st.DataObject
) -> None:
    whole = json.dumps(value)
    text = whole[: data.draw(st.integers(0, len(whole) - 1))]
    result = repair(text)
    if isinstance(result, Repaired):
        assert [entry.kind for entry in result.ledger] == ["closed"]
        assert json.loads(result.text).items() <= value.items()


@given(VALUES.filter(lambda value: isinstance(value, dict)), st.sampled_from(["", "Sure!\n", "Here it is: "]))
def test_a_fenced_object_comes_out_byte_for_byte(value: dict[str, Any], prose: str) -> None:
    text = json.dumps(value, indent=1)
    for fenced in (f"{prose}```json\n{text}\n```", f"{prose}```\n{text}\n```\nI hope it helps."):
        result = repair(fenced)
        assert isinstance(result, Repaired)
        assert result.text == text


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
def test_control_characters_in_strings_are_kept(first: str, second: str) -> None:
    value = {"reasoning": first, "answer": second}
    raw = re.sub(r"(?<!\\)((?:\\\\)*)\\n", r"\1\n", json.dumps(value, ensure_ascii=False))
    result = repair(raw)
    assert isinstance(result, Repaired)
    assert json.loads(result.text) == value


SPOKEN = st.lists(
    st.sampled_from(["so", '"hi"', '64"', '("x")', '"', ".", ", ", "}", "it's", "\n", "[1]"]), max_size=8
).map(" ".join)


@given(SPOKEN, SPOKEN, SHAPES)
def test_quotes_inside_of_strings_are_read_right_or_not_at_all(first: str, second: str, shape: Shape) -> None:
    value = {"reasoning": first, "answer": second}
    result = repair(json.dumps(value).replace('\\"', '"'), shape)
    assert isinstance(result, Refused) or json.loads(result.text) == value
