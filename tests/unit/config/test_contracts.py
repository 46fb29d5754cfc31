"""Contracts in a configuration: the files that they are, and what is wrong with them."""

import json
import textwrap
from pathlib import Path

import pytest

from holdfast.config import Reloader, load, parse
from holdfast.config.contracts import contract_of
from holdfast.errors import ConfigError

BASE = '[models.a]\nprovider = "simulated"\n[features.answer]\nmodels = ["a"]\n'
SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "answer.json").write_text(json.dumps(SCHEMA))
    return tmp_path


def write(folder: Path, feature: str) -> Path:
    path = folder / "holdfast.toml"
    path.write_text(BASE + textwrap.dedent(feature))
    return path


def told(folder: Path, feature: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(write(folder, feature))
    return [f"{problem.line}: {problem.key}: {problem.message}" for problem in caught.value.problems]


def test_the_file_of_a_contract_is_part_of_the_configuration(folder):
    configuration = load(write(folder, 'contract = "answer.json"'))
    assert list(configuration.files) == ["holdfast.toml", "answer.json"]
    before = configuration.hash
    (folder / "answer.json").write_text(json.dumps(SCHEMA | {"additionalProperties": False}))
    assert load(folder / "holdfast.toml").hash != before


def test_so_is_every_file_that_it_names(folder):
    (folder / "contracts").mkdir()
    (folder / "contracts" / "whole.toml").write_text('schema = "answer.json"\ncharacters = { max = 90 }')
    (folder / "sum.toml").write_text('grammar = "sum.lark"')
    (folder / "sum.lark").write_text('start: "1" "+" "1"')
    path = write(
        folder,
        """
        contract = "contracts/whole.toml"
        [features.sum]
        models = ["a"]
        contract = "sum.toml"
        """,
    )
    configuration = load(path)
    assert set(configuration.files) == {"holdfast.toml", "contracts/whole.toml", "answer.json", "sum.toml", "sum.lark"}


def test_a_worker_compiles_the_same_contract_from_the_texts_alone(folder):
    (folder / "whole.toml").write_text('schema = "answer.json"\nincludes = "ok"')
    configuration = load(write(folder, 'contract = "whole.toml"'))
    for name in ("whole.toml", "answer.json"):
        (folder / name).unlink()
    rebuilt = parse(configuration.files, folder)
    assert rebuilt.hash == configuration.hash
    contract = contract_of("whole.toml", rebuilt)
    assert contract.check('{"answer": "ok"}').ok
    assert not contract.check('{"answer": "no"}').ok


def test_a_change_of_a_file_that_a_contract_names_makes_a_new_configuration(folder):
    (folder / "whole.toml").write_text('schema = "answer.json"')
    reloader = Reloader(load(write(folder, 'contract = "whole.toml"')))
    (folder / "answer.json").write_text('{"type": "array"}')
    changed = reloader.check(force=True)
    assert changed is not None
    assert not isinstance(changed, ConfigError)
    assert changed.text("answer.json") == '{"type": "array"}'


def test_a_contract_may_be_an_object_in_python(folder, monkeypatch):
    (folder / "app_of_contracts.py").write_text(f"ANSWER = {SCHEMA!r}\ndef no(): ...\n")
    monkeypatch.syspath_prepend(str(folder))
    configuration = load(write(folder, 'contract = "app_of_contracts:ANSWER"'))
    assert list(configuration.files) == ["holdfast.toml"]
    assert contract_of("app_of_contracts:ANSWER", configuration).schema == SCHEMA
    assert told(folder, 'contract = "app_of_contracts:ANSWERS"') == [
        (
            '5: features.answer.contract: app_of_contracts has no "ANSWERS" (did you mean "ANSWER"?); '
            "it was imported before: a change of it needs a restart"
        )
    ]
    assert "a function is no contract" in told(folder, 'contract = "app_of_contracts:no"')[0]


def test_nothing_is_imported_to_rebuild_a_configuration(folder):
    files = {"holdfast.toml": BASE + 'contract = "no_such_module:ANSWER"'}
    assert parse(files, folder).config.features["answer"].contract == "no_such_module:ANSWER"


@pytest.mark.parametrize(
    ("contract", "content", "problem"),
    [
        ("missing.json", None, "missing.json: there is no such file"),
        ("empty.json", " ", "empty.json: the file is empty"),
        ("wrong.json", '{\n  "type": "objec"\n}', "wrong.json: /type: "),
        ("wrong.json", '{\n  "type": \n}', "wrong.json:3: not JSON: "),
        ("wrong.json", "[1]", "wrong.json: a JSON Schema is an object, or true or false"),
        ("wrong.toml", 'schema = "none.json"', "wrong.toml: none.json can't be read: there is no such file"),
        ("wrong.toml", '# hm\npattern = "("', "wrong.toml:2: pattern: "),
        ("wrong.toml", "choice = 1", "wrong.toml:1: choice: "),
        ("wrong.toml", "choice = [", "wrong.toml: not TOML: "),
        ("wrong.lark", "start: nothing", "wrong.lark: grammar: "),
        (
            "answer.yaml",
            None,
            'expected "package.module:name", got "answer.yaml", or a file that ends in .json, .toml or',
        ),
        ("none.such:Answer", None, 'there is no module "none", neither in'),
    ],
)
def test_what_is_wrong_with_a_contract_is_told_where_it_is_named_and_where_it_stands(
    folder, contract, content, problem
):
    if content is not None:
        (folder / contract).write_text(content)
    (mistake,) = told(folder, f"contract = {json.dumps(contract)}")
    assert mistake.startswith(f"5: features.answer.contract: {problem}"), mistake


def test_it_is_told_with_all_that_is_wrong_elsewhere(folder):
    mistakes = told(folder, 'contract = "missing.json"\nrollout = 2')
    assert [mistake.partition(": ")[0] for mistake in mistakes] == ["5", "6"]


@pytest.mark.parametrize(
    ("resort", "problem"),
    [
        ('{ message = "Später." }', "message: does not meet the contract: not JSON: "),
        ("{ object = { answer = 1 } }", 'object: does not meet the contract: /answer: 1 is not of type "string"'),
        ('{ file = "sorry.json" }', 'file: does not meet the contract: "answer" is a required property'),
    ],
)
def test_a_last_resort_that_does_not_meet_the_contract_is_refused(folder, resort, problem):
    (folder / "sorry.json").write_text("{}")
    (mistake,) = told(folder, f'contract = "answer.json"\nlast_resort = {resort}')
    assert mistake.startswith(f"6: features.answer.last_resort.{problem}"), mistake


@pytest.mark.parametrize(
    "resort", ['{ object = { answer = "no" } }', '{ file = "sorry.json" }', '{ function = "operator:concat" }']
)
def test_one_that_meets_it_is_taken_and_so_is_one_that_is_found_anew_each_time(folder, resort):
    (folder / "sorry.json").write_text('{"answer": "later"}')
    load(write(folder, f'contract = "answer.json"\nlast_resort = {resort}'))


def test_objects_are_streamed_of_json_only(folder):
    (folder / "yes.toml").write_text('choice = ["yes", "no"]')
    assert told(folder, 'contract = "yes.toml"\nstream = "object"') == [
        '6: features.answer.stream: "object" needs a contract whose answer is JSON, which yes.toml is not'
    ]
    load(write(folder, 'contract = "answer.json"\nstream = "object"'))


def test_objects_are_not_streamed_without_a_contract(folder):
    (mistake,) = told(folder, 'stream = "object"')
    assert mistake.startswith('5: features.answer.stream: "object" needs a contract; ')
    assert told(folder, 'contract = 1\nstream = "object"') == [
        "5: features.answer.contract: expected a string, got an integer"
    ]


def test_a_vote_is_not_about_what_the_contract_has_no_room_for(folder):
    closed = SCHEMA | {"additionalProperties": False}
    (folder / "closed.json").write_text(json.dumps(closed))
    (folder / "patterns.json").write_text(json.dumps(closed | {"patternProperties": {"^x": True}}))
    assert told(folder, 'contract = "closed.json"\nvote = { on = ["/answer", "/anwser/0"] }') == [
        (
            '6: features.answer.vote.on[1]: the contract has no "anwser" (did you mean "answer"?), '
            "and allows no other properties"
        )
    ]
    for contract in ("answer.json", "patterns.json"):
        load(write(folder, f'contract = "{contract}"\nvote = {{ on = ["/other"] }}'))
    load(write(folder, 'contract = "closed.json"\nvote = { on = ["", "/answer/0"] }'))


def test_a_pointer_that_is_none_is_told_with_one_that_is(folder):
    assert told(folder, 'vote = { on = ["answer"] }') == [
        '5: features.answer.vote.on[0]: expected a JSON pointer such as "/category"'
    ]


@pytest.mark.parametrize("vote", ["{}", "{ samples = 3 }", "{ temperature = 0 }"])
def test_a_vote_on_answers_that_are_all_the_same_is_refused(folder, vote):
    (mistake,) = told(folder, f"reproducible = true\nvote = {vote}")
    assert mistake.startswith(
        "6: features.answer.vote: has no effect on a reproducible feature without a `temperature` above 0"
    )


def test_a_vote_of_a_reproducible_feature_has_a_temperature_of_its_own(folder):
    load(write(folder, "reproducible = true\nvote = { temperature = 0.8 }"))


@pytest.mark.parametrize("feature", ['replay_ttl = "1h"', 'replay_ttl = "1h"\nreproducible = false'])
def test_answers_that_are_not_given_again_have_no_time_for_that(folder, feature):
    assert told(folder, feature) == ["5: features.answer.replay_ttl: has no effect without reproducible = true"]


def test_examples_are_checked_against_the_contract(folder):
    (folder / "shots.jsonl").write_text('{"input": "a", "output": {"answer": "b"}}\n{"input": "a", "output": {}}\n')
    (mistake,) = told(folder, 'contract = "answer.json"\nexamples = "shots.jsonl"')
    assert mistake.startswith("6: features.answer.examples: shots.jsonl:2: ")
