"""Contracts as files and references."""

import json
import sys

import pytest

from holdfast.contracts.load import load_contract, make_contract
from holdfast.errors import ConfigError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to write files to, whose modules are forgotten after the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def load(folder, name, text):
    (folder / name).write_text(text)
    return load_contract(name, folder)


def keywords(contract, text):
    return [one.keyword for one in contract.check(text).violations]


def problem(folder, source, text=None):
    if text is not None:
        (folder / source).write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_contract(source, folder)
    return refused.value.problems[0]


def test_a_json_file_is_a_json_schema(folder):
    contract = load(folder, "answer.json", '{"type": "object", "required": ["a"]}')
    assert contract.name == "answer.json"
    assert contract.check('{"a": 1}').value == {"a": 1}
    assert keywords(contract, "{}") == ["required"]


def test_a_lark_file_is_a_grammar(folder):
    assert keywords(load(folder, "answer.lark", 'start: "a"+'), "ab") == ["grammar"]


def test_a_toml_file_says_everything_else(folder):
    (folder / "kelp_checks.py").write_text("def polite(text): return 'please' in text or 'it is not polite'\n")
    contract = load(
        folder,
        "answer.toml",
        """
        pattern = "[a-z ]+"
        predicates = "kelp_checks:polite"
        stops_before = ["as an ai"]
        words = { max = 4 }
        tokens = { min = 1, max = 10 }
        """,
    )
    assert contract.check("please wait").value == "please wait"
    assert keywords(contract, "NO") == ["pattern"]
    assert keywords(contract, "as an ai i can not say") == ["words", "stops_before", "predicate"]


def test_conditions_go_on_top_of_a_schema_and_its_fields(folder):
    (folder / "schema.json").write_text('{"properties": {"tags": {"type": "array"}}}')
    contract = load(
        folder,
        "answer.toml",
        """
        schema = "schema.json"
        [fields."/summary"]
        words = { max = 2 }
        [fields."/tags/*"]
        pattern = "[a-z]+"
        stops_at = "z"
        """,
    )
    checked = contract.check('{"summary": "one two three", "tags": ["a", "B", "za"]}')
    assert [(one.path, one.keyword) for one in checked.violations] == [
        ("/summary", "words"),
        ("/tags/2", "stops_at"),
        ("/tags/1", "pattern"),
    ]
    assert contract.keys == ("tags",)


def test_lengths_and_phrases_on_the_whole_are_of_the_answer_as_it_is_written(folder):
    contract = load(folder, "answer.toml", "schema = true\ncharacters = { max = 8 }\nincludes = ': '")
    assert contract.check('{"a": 1}').ok
    assert keywords(contract, '{ "a": 1 }') == ["characters"]
    assert keywords(contract, '{"a":1}') == ["includes"]


def test_json_may_say_what_toml_says(folder):
    contract = load(folder, "answer.json", json.dumps({"contract": {"choice": ["yes", "no"]}}))
    assert contract.check("no").ok
    assert keywords(contract, "maybe") == ["choice"]


@pytest.mark.parametrize(
    "text", ["grammar = 'start: \"a\"'", 'choice = ["a"]', 'pattern = "a"', 'schema = { const = "a" }\nformats = false']
)
def test_each_form_can_be_said_in_toml(folder, text):
    contract = load(folder, "answer.toml", text)
    answer = '"a"' if text.startswith("schema") else "a"
    assert contract.check(answer).value == "a"
    assert not contract.check("b").ok


def test_references_name_models_schemas_predicates_and_contracts(folder):
    (folder / "kelp_app.py").write_text(
        """
import holdfast
from pydantic import BaseModel
from holdfast.contracts.base import Contract
from holdfast.contracts.forms.text import ChoiceForm

class Answer(BaseModel):
    text: str

SCHEMA = {"type": "integer"}
CHOICE = Contract(ChoiceForm(["a"]))

@holdfast.predicate
def short(text):
    return len(text) < 5

def words(text):
    return len(text.split())
"""
    )
    assert type(load_contract("kelp_app:Answer", folder).check('{"text": "x"}').value).__name__ == "Answer"
    assert load_contract("kelp_app:SCHEMA", folder).check("3").value == 3
    assert load_contract("kelp_app:CHOICE", folder).check("a").ok
    assert keywords(load_contract("kelp_app:short", folder), "too long") == ["predicate"]
    toml = 'model = "kelp_app:Answer"\n[fields."/text"]\ntokens = { max = 1 }\n'
    own = f'count_tokens = "kelp_app:words"\n{toml}'
    assert keywords(load(folder, "a.toml", toml), '{"text": "one and two"}') == ["tokens"]
    assert keywords(load(folder, "b.toml", own), '{"text": "oneandtwo"}') == []


@pytest.mark.parametrize(
    ("name", "text", "key", "told"),
    [
        ("a.json", '{\n"type": }', "", "not JSON"),
        ("a.json", "[]", "", "is an object, or true or false"),
        ("a.json", '{"type": "strin"}', "/type", "not valid under any"),
        ("a.json", '{"contract": {"choice": "a"}}', "choice", "Expected `array"),
        ("a.toml", "choice = ", "", "not TOML"),
        ("a.toml", "chioce = ['a']", "", "unknown field `chioce`"),
        ("a.toml", "choice = ['a']\npattern = 'a'", "", "at most one of"),
        ("a.toml", "choice = []", "choice", "expected one text or more"),
        ("a.toml", "pattern = '('", "pattern", "linear time"),
        ("a.toml", "schema = 'nope.json'", "", "nope.json can't be read: No such file"),
        ("a.toml", "model = 'kelp_nope:Answer'", "", 'there is no module "kelp_nope"'),
        ("a.toml", "predicates = 'json:dumps_'", "", 'json has no "dumps_"'),
        ("a.toml", "predicates = 'json:tool'", "", "."),
        ("a.toml", "predicates = 'math:pi'", "predicates", "no predicate"),
        ("a.toml", "count_tokens = 'math:pi'\ntokens = {max=1}", "count_tokens", "can't be called"),
        ("a.toml", "words = { min = 2, max = 1 }", "words", "min <= max"),
        ("a.toml", "[fields.'/a']\nwords = { max = 1 }", "", "fields need a schema or a model"),
        ("a.toml", "schema = true\n[fields.a]\nwords = { max = 1 }", "fields", "JSON pointer"),
        ("a.lark", "start: (", "grammar", "Expected token"),
        ("a.yaml", "type: object", "", "expected a file that ends in"),
    ],
)
def test_what_is_wrong_is_told_with_its_file_and_key(folder, name, text, key, told):
    import re

    found = problem(folder, name, text)
    assert found.file == name
    assert found.key == key
    assert re.search(told, found.message), found.message


def test_a_mistake_in_json_has_a_line(folder):
    assert problem(folder, "a.json", '{\n"type": }').line == 2


def test_a_file_that_is_not_there_or_not_text_is_told(folder):
    assert "can't be read: No such file" in problem(folder, "nope.json").message
    (folder / "b.json").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in problem(folder, "b.json").message


def test_a_reference_to_nothing_is_told(folder):
    assert "there is no module" in problem(folder, "kelp_missing:Answer").message


def test_python_values_stand_for_contracts():
    assert make_contract({"type": "integer"}).check("1").ok
    assert make_contract(int).check("1").value == 1
    contract = make_contract(False)
    assert make_contract(contract) is contract
    assert not contract.check("1").ok


def test_a_plain_function_is_no_contract():
    with pytest.raises(ConfigError, match=r"make it one with @holdfast\.predicate"):
        make_contract(len)


def test_without_the_extra_the_error_names_it(monkeypatch, folder):
    monkeypatch.setitem(sys.modules, "jsonschema_rs", None)
    assert 'of the extra "contracts"' in problem(folder, "a.json", "{}").message
    monkeypatch.setitem(sys.modules, "llguidance", None)
    assert 'of the extra "contracts"' in problem(folder, "a.lark", 'start: "a"').message
