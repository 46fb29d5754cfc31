import json

import pytest

from holdfast.contracts.ledger import Refused, Repaired, replay
from holdfast.contracts.repairs.candidates import MAX_STARTS
from holdfast.contracts.repairs.reader import MAX_DEPTH
from holdfast.contracts.repairs.repair import MAX_LENGTH, repair
from holdfast.contracts.shape import ANY, Shape
from holdfast.events import Repair

ANSWER = Shape.of_keys({"reasoning": "string", "answer": "string"})


def repaired(text: str, shape: Shape = ANY) -> str:
    result = repair(text, shape)
    assert isinstance(result, Repaired), result
    assert replay(text, result.ledger) == result.text
    assert repair(result.text, shape) == Repaired(result.text)
    json.loads(result.text)
    return result.text


def kinds(text: str, shape: Shape = ANY) -> list[str]:
    result = repair(text, shape)
    assert isinstance(result, Repaired), result
    return [entry.kind for entry in result.ledger]


def refused(text: str, shape: Shape = ANY) -> Refused:
    result = repair(text, shape)
    assert isinstance(result, Refused), result
    assert 0 <= result.offset <= len(text)
    assert result.message
    return result


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1}',
        " [1,\t2 ]\n",
        '"x"',
        "42",
        "null",
        '{"a": 1, "a": 2}',
        '{"a": "\\u00e9\\/\\ud83d\\ude00"}',
        "[1e999]",
    ],
)
def test_valid_json_is_returned_byte_for_byte(text: str) -> None:
    assert repair(text) == Repaired(text)


def test_a_value_that_does_not_fit_its_shape_is_still_returned_byte_for_byte() -> None:
    for text in ('{"reasoning": 1.50e3}', "[]", '{"reasoning": null, "answer": true}'):
        value = repair(text, Shape.of_keys({"reasoning": "object", "answer": "string"}))
        assert value == Repaired(text)


@pytest.mark.parametrize(
    ("text", "expected", "kind"),
    [
        ('```json\n{"a": 1}\n```', '{"a": 1}', "fence"),
        ('``` json\n{"a": 1}', '{"a": 1}', "fence"),
        ("```\n42\n```", "42", "fence"),
        ('Here it is:\n\n{"a": 1}\n\nI hope it helps {or so}.', '{"a": 1}', "prose"),
        ('\ufeff{"a": 1}', '{"a": 1}', "prose"),
        ('{"a": "1\n2\t3\x00"}', '{"a": "1\\n2\\t3\\u0000"}', "control"),
        ('{"a": "\\( x \\)"}', '{"a": "\\\\( x \\\\)"}', "escape"),
        ('{"a": "\\d+\\u12"}', '{"a": "\\\\d+\\\\u12"}', "escape"),
        ('{"a": "it\\\'s"}', '{"a": "it\'s"}', "escape"),
        ('{"a": "64" tall"}', '{"a": "64\\" tall"}', "inner_quote"),
        ('{"a": "is 67".", "b": 1}', '{"a": "is 67\\".", "b": 1}', "inner_quote"),
        ('{"a": "the "Bells": 3", "b": 1}', '{"a": "the \\"Bells\\": 3", "b": 1}', "inner_quote"),
        ('{"a": "use {"x"} here"}', '{"a": "use {\\"x\\"} here"}', "inner_quote"),
        ('["64" tall"]', '["64\\" tall"]', "inner_quote"),
        ("{'a': 'it's \"so\"'}", '{"a": "it\'s \\"so\\""}', "quotes"),
        ("{“a”: “b”}", '{"a": "b"}', "quotes"),
        ('{"a": """x\n"y" z"""}', '{"a": "x\\n\\"y\\" z"}', "quotes"),
        ('{"a": """x\\""""}', '{"a": "x\\""}', "quotes"),
        ('{"a": `x`}', '{"a": "x"}', "quotes"),
        ("{a: 1, b_2: 2}", '{"a": 1, "b_2": 2}', "bare_key"),
        ('{"a": "b" +\n  "c"}', '{"a": "bc"}', "joined"),
        ('{"a": "b"\n "c": 1}', '{"a": "b",\n "c": 1}', "comma"),
        ('{"a": 1 "c": 2}', '{"a": 1, "c": 2}', "comma"),
        ("[[1] [2]]", "[[1], [2]]", "comma"),
        ('{"a": [1, 2,],}', '{"a": [1, 2]}', "trailing_comma"),
        ('{"a": 1, /* of\n2 */ "b": 2 // "two"\n}', '{"a": 1,  "b": 2 \n}', "comment"),
        ("[1, # one\n2]", "[1, \n2]", "comment"),
        ("[True, FALSE, None]", "[true, false, null]", "literal"),
        ("[.5, +1, 2., -.5e3]", "[0.5, 1, 2, -0.5e3]", "number"),
        ('{"a": {"b": ["c"', '{"a": {"b": ["c"]}}', "closed"),
        ('```json\n{"a": "b"\n```\nDone.', '{"a": "b"}', "closed"),
        ('{"a": [{"b": 1], "c": 2}', '{"a": [{"b": 1}], "c": 2}', "closed"),
        ("[true", "[true]", "closed"),
    ],
)
def test_a_mistake_of_form_is_repaired(text: str, expected: str, kind: str) -> None:
    assert repaired(text) == expected
    assert kind in kinds(text)


def test_every_change_is_in_the_ledger() -> None:
    text = 'Sure:\n{\'a\': [1,], b: "c"d"}'
    assert repair(text) == Repaired(
        '{"a": [1], "b": "c\\"d"}',
        (
            Repair("prose", 0, "Sure:\n", ""),
            Repair("quotes", 7, "'", '"'),
            Repair("quotes", 9, "'", '"'),
            Repair("trailing_comma", 14, ",", ""),
            Repair("bare_key", 18, "b", '"b"'),
            Repair("inner_quote", 23, '"', '\\"'),
        ),
    )


def test_a_ledger_of_another_text_is_not_replayed() -> None:
    with pytest.raises(ValueError, match="the text at 3"):
        replay("abcd", [Repair("comma", 3, "x", ",")])


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "b',
        '{"a": "b\\',
        '{"a": "b\\"',
        '{"a": "said "hi',
        '{"a": ',
        '{"a":',
        '{"a"',
        '{"a',
        '{"a": 1,',
        '{"a": "b",\n',
        '["a", ',
        "[1, 2",
        '{"a": 1.5',
        '{"a": tru',
        "{",
        '{"a": {',
        '```json\n{"a": "b\n```',
        '{"items": [{"a": 1}, {"a": 2}, {"a": ',
        '{"done": "yes", "text": "so far',
        '{"a": """b"',
        '{"a": \'b',
    ],
)
def test_an_answer_cut_inside_a_value_is_never_completed(text: str) -> None:
    assert refused(text).reason == "cut"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no_json"),
        ("I can't say.", "no_json"),
        ("The answer is 42.", "no_json"),
        ('{"a": NaN}', "malformed"),
        ('{"a": -Infinity}', "malformed"),
        ('{"a": undefined}', "malformed"),
        ('{"a": maybe}', "malformed"),
        ("[1, 2, ...]", "malformed"),
        ('{"a": 1_000}', "malformed"),
        ('{"a": 0x1F}', "malformed"),
        ('{"a": 1,, "b": 2}', "malformed"),
        ("[1 2]", "malformed"),
        ('{1: "a"}', "malformed"),
        ('{"a": "\\ud800"}', "malformed"),
        ('{"a": "\ud800"}', "malformed"),
        ('{"a": 007}', "ambiguous"),
        ('["a" "b"]', "ambiguous"),
        ('["he said "hi", "b"]', "ambiguous"),
        ('{"a": "b"; "c": "d"}', "ambiguous"),
        ('{"a": "b" c: "d"}', "ambiguous"),
        ('{"a": "he said "yes": "no" or so"}', "ambiguous"),
        ('{"a": "b" // it\'s "b"\n}', "ambiguous"),
        ("{'a': 1, 'a': 2}", "ambiguous"),
        ('{"a": [1, 2}, "b": 3}', "ambiguous"),
        ('{"a": """, "b": """}', "ambiguous"),
        ('{"a": 1}, {"a": 2}', "ambiguous"),
        ('{"a": 1}\n{"a": 2}', "ambiguous"),
    ],
)
def test_what_would_be_a_guess_is_refused(text: str, reason: str) -> None:
    assert refused(text).reason == reason


def test_a_refusal_says_where() -> None:
    assert refused('Here: {"a": 1, "b": @}').offset == 20
    assert refused('{"a": "b').offset == 8


def test_duplicate_keys_stay_where_nothing_else_is_wrong() -> None:
    assert repaired('```\n{"a": 1, "a": 2}\n```') == '{"a": 1, "a": 2}'


def test_commands_of_latex_are_no_escapes_where_the_text_has_backslashes_of_its_own() -> None:
    text = r'{"a": "\(9 \times \frac{1}{2}\) \neq 4.\nSo \textbf{no}\n"}'
    assert json.loads(repaired(text)) == {"a": "\\(9 \\times \\frac{1}{2}\\) \\neq 4.\nSo \\textbf{no}\n"}


def test_escapes_stay_escapes_in_valid_json() -> None:
    text = r'{"a": "9 \times 2"}'
    assert repaired(text) == text


def test_a_path_of_windows_holds_no_escapes() -> None:
    assert json.loads(repaired(r'{"a": "in C:\Users\new\table.\nYes"}'))["a"] == "in C:\\Users\\new\\table.\\nYes"


def test_the_last_value_that_fits_is_meant() -> None:
    first, second = '{"reasoning": "r", "answer": "1"}', '{"reasoning": "r", "answer": "2"}'
    text = f"```json\n{first}\n```\nThat was wrong. Corrected:\n```json\n{second}\n```\nSee [1] and {{}}."
    assert repaired(text, ANSWER) == second
    assert kinds(text, ANSWER) == ["passed_over", "passed_over"]


def test_an_object_is_meant_rather_than_a_list() -> None:
    assert repaired('See [1]: {"a": 1}. And [2].') == '{"a": 1}'


def test_a_list_is_meant_where_the_shape_says_so() -> None:
    assert repaired('Of {"a": 1} come [1, 2].', Shape({"type": "array"})) == "[1, 2]"


def test_values_are_not_merged() -> None:
    assert refused('{"reasoning": "r"}\n{"answer": "1"}', ANSWER).reason == "ambiguous"


def test_a_later_value_stands_for_one_that_was_given_up() -> None:
    text = '{"reasoning": "Let me see.\n\n```json\n{"reasoning": "r", "answer": "1"}\n```'
    assert repaired(text, ANSWER) == '{"reasoning": "r", "answer": "1"}'


def test_a_value_inside_of_a_string_does_not_stand_for_it() -> None:
    for gap in (" ", "\n"):
        text = f'{{"reasoning": "Not{gap}{{"reasoning": "a", "answer": "3"}}{gap}but", "answer": "4"}}'
        assert refused(text, ANSWER).reason == "ambiguous"


def test_an_earlier_value_does_not_stand_for_one_that_was_cut() -> None:
    text = '{"reasoning": "r", "answer": "1"}\nNo:\n{"reasoning": "s", "answer": "2'
    assert refused(text, ANSWER).reason == "cut"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"reasoning": "so 5."\n"answer": "5"}', '{"reasoning": "so 5.",\n"answer": "5"}'),
        ('{"reasoning": "so 5." "answer": "5"}', '{"reasoning": "so 5.", "answer": "5"}'),
        ('{"reasoning": "so 5.\n\n "answer": "5"}', '{"reasoning": "so 5.",\n\n "answer": "5"}'),
        ('{"reasoning": "so 5.\nAnswer: "answer": "5"\n```', '{"reasoning": "so 5.\\nAnswer:", "answer": "5"}'),
        ('{"reasoning": "so 5, "answer": "5"}', '{"reasoning": "so 5", "answer": "5"}'),
        ('{"reasoning": "r", "answer": (1 + 2) * 3}', '{"reasoning": "r", "answer": "(1 + 2) * 3"}'),
        ('{"reasoning": "r", "answer": $4,000}', '{"reasoning": "r", "answer": "$4,000"}'),
        ('{"reasoning": "r", "answer": 4,000}', '{"reasoning": "r", "answer": "4,000"}'),
        ('{"reasoning": "r", "answer": f("x")\n}', '{"reasoning": "r", "answer": "f(\\"x\\")"\n}'),
        ('{"reasoning": "r", "answer": 1.50}', '{"reasoning": "r", "answer": "1.50"}'),
    ],
)
def test_a_shape_decides_what_would_be_a_guess_without_it(text: str, expected: str) -> None:
    assert repaired(text, ANSWER) == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"reasoning": "The "answer": "5" is right."}',
        '{"reasoning": "The "answer": "5" is right.", "answer": "7"}',
        '{"reasoning": "r", "answer": 42',
        '{"reasoning": "r", "answer": }',
        '{"reasoning": "r", "answer": f(\n1)}',
        '{"reasoning": "r", "answer": 42"}',
        '{"reasoning": "r", "answer": "42\n}',
        '{"reasoning": "Say ``` json\n{\n "answer": "6"\n}',
    ],
)
def test_no_answer_is_invented(text: str) -> None:
    result = repair(text, ANSWER)
    assert (
        isinstance(result, Refused)
        or "answer" not in json.loads(result.text)
        or "reasoning" not in json.loads(result.text)
    )


@pytest.mark.parametrize(
    ("schema", "text", "expected", "kind"),
    [
        ({"type": "integer"}, '"42"', "42", "string_to_number"),
        ({"type": "number"}, '" -4.5e3 "', "-4.5e3", "string_to_number"),
        ({"type": "boolean"}, '"True"', "true", "string_to_boolean"),
        ({"type": "string"}, "42.10", '"42.10"', "number_to_string"),
        ({"enum": ["Yes", "No"]}, '"yes "', '"Yes"', "enum_case"),
        ({"type": ["integer", "null"]}, '"42"', "42", "string_to_number"),
    ],
)
def test_a_scalar_is_written_in_the_type_that_is_wanted(schema: object, text: str, expected: str, kind: str) -> None:
    assert repaired(text, Shape(schema)) == expected
    assert kinds(text, Shape(schema)) == [kind]
    within = Shape({"type": "object", "properties": {"a": schema}})
    assert repaired(f"{{'a': {text}}}", within) == f'{{"a": {expected}}}'


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "integer"}, '"4.2"'),
        ({"type": "integer"}, '"007"'),
        ({"type": "integer"}, '"1,000"'),
        ({"type": "integer"}, '"forty"'),
        ({"type": ["integer", "string"]}, '"42"'),
        ({"type": "boolean"}, '"1"'),
        ({"type": "string"}, "true"),
        ({"type": "string"}, "null"),
        ({"enum": ["a", "A"]}, '"á"'),
        ({"enum": ["ab", "AB"]}, '"Ab"'),
        ({"enum": ["a", "b"]}, '"c"'),
    ],
)
def test_a_scalar_that_says_something_else_stays(schema: object, text: str) -> None:
    assert repair(text, Shape(schema)) == Repaired(text)


def test_limits_are_refusals() -> None:
    assert refused("[" * (MAX_DEPTH + 1)).reason == "too_deep"
    assert refused('{"a": ' * 100_000).reason == "too_deep"
    assert refused("[1] " * (MAX_STARTS + 1)).reason == "too_many"
    assert refused("x" * (MAX_LENGTH + 1)).reason == "too_long"
    assert refused('{"a": "' + "\n" * 200_000 + '"}').reason == "too_many"


def test_valid_json_that_nests_too_deep_for_any_reader_is_refused() -> None:
    assert refused("[" * 100_000 + "]" * 100_000).reason == "too_deep"


@pytest.mark.parametrize(
    "text", ['{"a": "so "}" it", "b": "c"}', '{"a": "so", "b": "x "} y"}', "{'a': 'so '} it', 'b': 1}"]
)
def test_an_object_is_not_closed_by_a_bracket_inside_of_a_string(text: str) -> None:
    assert refused(text).reason in ("ambiguous", "cut")


def test_a_reference_leads_into_an_array_too() -> None:
    sizes = {"anyOf": [{"type": "string"}, {"type": "integer"}]}
    schema = {"type": "object", "properties": {"size": sizes, "count": {"$ref": "#/properties/size/anyOf/1"}}}
    assert repaired('{"size": "42", "count": "42"}', Shape(schema)) == '{"size": "42", "count": 42}'
