"""What `holdfast check` tells of contracts."""

import json
import re

import pytest
from click.testing import CliRunner

from configurations import GPT
from holdfast.cli import main

MODELS = (
    GPT
    + """
[models.house]
provider = "vllm"
base_url = "http://10.0.0.5:8000/v1"

[models.other]
provider = "openai"
base_url = "http://10.0.0.6:8000/v1"
"""
)
FEATURE = """
[features.answer]
models = ["gpt", "house", "other"]
contract = "answer.toml"
"""
CONTRACT = """
characters = { max = 900 }

[schema]
type = "object"
required = ["reasoning", "answer"]
properties.reasoning = { type = "string", minLength = 1 }
properties.answer = { type = "string" }

[fields."/answer"]
words = { max = 3 }
"""


@pytest.fixture
def check(tmp_path, monkeypatch):
    def run(contract: str, *args: str, toml: str = MODELS + FEATURE) -> str:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "holdfast.toml").write_text(toml)
        (tmp_path / "answer.toml").write_text(contract)
        result = CliRunner().invoke(main, ["check", "--no-secrets", *args])
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


def test_each_keyword_is_told_to_be_enforced_or_checked_for_each_model(check):
    told = check(CONTRACT)
    rows = [re.split(r"\s{2,}", line.strip()) for line in told.partition("servers enforce:")[2].splitlines() if line]
    assert rows == [
        ["keyword", "where", "gpt", "house", "other"],
        ["minLength", "/properties/reasoning", "checked", "enforced", "checked"],
        ["properties", "(whole)", "enforced", "enforced", "checked"],
        ["required", "(whole)", "enforced", "enforced", "checked"],
        ["type", "(whole), /properties/answer, /properties/reasoning", "enforced", "enforced", "checked"],
        ["checked for every model: it has at most 900 characters"],
        ["checked for every model: of /answer: it has at most 3 words"],
    ]


def test_a_model_that_can_not_be_held_to_the_contract_is_told_with_the_reason(check):
    told = check(CONTRACT.replace(', "answer"]', "]"))
    assert "gpt can't be held to it: the root has properties that may be left out" in told


def test_json_has_every_place_and_what_the_server_is_asked_for(check):
    told = json.loads(check(CONTRACT, "--json"))["contracts"]["answer"]
    assert told["contract"] == "answer.toml"
    assert told["conditions"] == ["it has at most 900 characters", "of /answer: it has at most 3 words"]
    assert told["models"]["gpt"]["asked"] == told["models"]["other"]["asked"] == "schema"
    assert told["models"]["gpt"]["checked"] == [{"path": "/properties/reasoning", "keyword": "minLength"}]
    assert told["models"]["other"]["enforced"] == []
    assert told["models"]["house"]["checked"] == []


@pytest.mark.parametrize(
    ("contract", "row"),
    [
        ('pattern = "^[a-z]+$"', ["pattern", "(whole)", "checked", "enforced", "checked"]),
        ('choice = ["yes", "no"]', ["choice", "(whole)", "checked", "enforced", "checked"]),
        ("grammar = 'start: \"1\"'", ["grammar", "(whole)", "checked", "enforced", "checked"]),
    ],
)
def test_so_are_constraints_that_are_no_schema(check, contract, row):
    assert row in [re.split(r"\s{2,}", line.strip()) for line in check(contract).splitlines()]


def test_conditions_without_a_form_are_all_that_is_told(check):
    told = check('includes = "sources"')
    assert 'checked for every model: it holds "sources"' in told
    assert "keyword" not in told


def test_many_places_of_one_keyword_are_shortened(check):
    fields = "".join(f'properties.f{i} = {{ type = "string" }}\n' for i in range(9))
    told = check(f'[schema]\ntype = "object"\n{fields}')
    assert "(whole), /properties/f0, /properties/f1 and 7 more" in told


def test_without_a_contract_nothing_is_told_of_any(check):
    toml = MODELS + FEATURE.replace('contract = "answer.toml"', "")
    assert "contract" not in check("", toml=toml)
    assert json.loads(check("", "--json", toml=toml))["contracts"] == {}
