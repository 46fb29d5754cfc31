import base64
import json
import re

import jsonschema_rs
import pytest
from click.testing import CliRunner

from holdfast.cli import main
from holdfast.clock import SystemClock
from holdfast.config.schema import schema
from holdfast.privacy.custody import open_custody
from holdfast.privacy.settings import PrivacySettings

VALID = """
[models.gpt]
provider = "openai"
name = "gpt-4o-mini"
api_key = { env = "HOLDFAST_TEST_KEY" }

[models.house]
provider = "vllm"
base_url = "http://10.0.0.5:8000/v1"
price = { input = 0.5, output = 1.25 }

[models.spare]
provider = "ollama"

[features.answer]
models = ["gpt", "house"]
"""


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Run `holdfast check` in a folder with this holdfast.toml."""

    def run(toml: str | None, *args: str):
        monkeypatch.chdir(tmp_path)
        if toml is not None:
            (tmp_path / "holdfast.toml").write_text(toml)
        return CliRunner().invoke(main, ["check", *args])

    return run


def rows(output: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line.strip()) for line in output.splitlines() if line.strip()]


def test_a_valid_file_shows_what_each_feature_calls_and_what_that_costs(check, monkeypatch):
    monkeypatch.setenv("HOLDFAST_TEST_KEY", "sk-secret-secret-secret")
    result = check(VALID)
    assert result.exit_code == 0, result.stderr
    assert "holdfast.toml is valid" in result.stdout
    assert rows(result.stdout)[2:] == [
        ["answer", "gpt", "openai", "gpt-4o-mini", "https://api.openai.com/v1", "0.15", "0.6", "found"],
        ["house", "vllm", "house", "http://10.0.0.5:8000/v1", "0.5", "1.25", "none"],
        ["-", "spare", "ollama", "spare", "http://127.0.0.1:11434/v1", "unknown", "unknown", "none"],
        ["answer asks gpt, then house, each at most 3 times. Its last resort: an error"],
    ]
    assert "sk-secret" not in result.output


def test_what_is_wrong_goes_to_standard_error_a_line_each_and_the_exit_code_is_2(check):
    result = check(VALID.replace('"house"]', '"hous"]').replace("base_url", "base_uri"), "--no-secrets")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "holdfast.toml:7: models.house.base_url: required, but missing: provider vllm has no address of its own",
        'holdfast.toml:9: models.house.base_uri: unknown key (did you mean "base_url"?)',
        'holdfast.toml:16: features.answer.models[1]: there is no model "hous" (did you mean "house"?)',
    ]


def test_a_secret_that_is_not_there_is_wrong_unless_nobody_looks(check, monkeypatch):
    monkeypatch.delenv("HOLDFAST_TEST_KEY", raising=False)
    result = check(VALID)
    assert result.exit_code == 2
    assert result.stderr == "holdfast.toml:5: models.gpt.api_key: environment variable HOLDFAST_TEST_KEY is not set\n"
    assert check(VALID, "--no-secrets").exit_code == 0


MASTER = """[models.house]
provider = "simulated"

[privacy]
seal = true
master_key = { file = "secrets/master.key" }
"""


def test_a_master_key_that_is_not_there_is_wrong_unless_nobody_looks(check, tmp_path):
    result = check(MASTER)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("holdfast.toml:6: privacy.master_key.file: secrets/master.key: there is no master")
    told = json.loads(check(MASTER, "--json").stdout)
    assert [(problem["line"], problem["key"]) for problem in told["problems"]] == [(6, "privacy.master_key.file")]
    assert check(MASTER, "--no-secrets").exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["holdfast.toml"]


@pytest.mark.parametrize(("mode", "code"), [(0o600, 0), (0o640, 2), (0o604, 2)])
def test_a_master_key_that_others_may_read_is_wrong(check, tmp_path, mode, code):
    key = tmp_path / "secrets/master.key"
    key.parent.mkdir()
    key.write_text(base64.b64encode(bytes(range(32))).decode())
    key.chmod(mode)
    result = check(MASTER)
    assert result.exit_code == code, result.output
    assert (f"mode {mode:04o}" in result.stderr) == (code == 2)


def test_a_variable_that_should_hold_the_master_key_is_looked_at(check, monkeypatch):
    toml = MASTER.replace('file = "secrets/master.key"', 'env = "HOLDFAST_TEST_MASTER"')
    monkeypatch.delenv("HOLDFAST_TEST_MASTER", raising=False)
    assert "holdfast.toml:6: privacy.master_key.env: The environment variable" in check(toml).stderr
    monkeypatch.setenv("HOLDFAST_TEST_MASTER", bytes(range(32)).hex())
    assert check(toml).exit_code == 0


def test_the_own_master_key_may_be_missing_before_the_first_start_alone(check, tmp_path):
    toml = MASTER.replace('master_key = { file = "secrets/master.key" }\n', "")
    assert check(toml).exit_code == 0
    assert not (tmp_path / ".holdfast").exists()
    open_custody(PrivacySettings(), tmp_path, tmp_path / ".holdfast", SystemClock()).keyring.close()
    assert check(toml).exit_code == 0
    key = tmp_path / ".holdfast/master.key"
    key.write_text(base64.b64encode(bytes(range(32))).decode())
    assert "holdfast.toml:4: privacy.master_key: " in check(toml).stderr  # that of another keyring
    key.unlink()
    assert "the master key is gone" in check(toml).stderr


def test_json_says_what_is_called(check):
    result = check(VALID, "--json", "--no-secrets")
    assert result.exit_code == 0
    shown = json.loads(result.stdout)
    assert shown["valid"] is True
    assert shown["features"] == {"answer": ["gpt", "house"]}
    assert shown["models"]["gpt"] == {
        "provider": "openai",
        "name": "gpt-4o-mini",
        "base_url": "https://api.openai.com/v1",
        "key": "not checked",
        "input_usd_per_million": 0.15,
        "output_usd_per_million": 0.6,
    }


def test_json_says_what_is_wrong(check):
    result = check("[models]\n", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout) == {
        "valid": False,
        "problems": [
            {
                "file": "holdfast.toml",
                "line": 1,
                "key": "models",
                "message": "at least one is needed: a table [models.NAME]",
            }
        ],
    }


def test_without_a_file_there_is_nothing_to_check(check, tmp_path):
    result = check(None)
    assert result.exit_code == 2
    assert result.stderr == (
        f"holdfast.toml: there is no such file. It was looked for in {tmp_path}. "
        "Without one, `holdfast up` runs a demo.\n"
    )


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ('models = [["gpt", "house"], "spare"]', "gpt or house, then spare, each at most 3 times. "),
        ('models = ["gpt"]\nretries = 1', "gpt, each at most twice. "),
        ('models = ["gpt"]\nretries = 0\non_refusal = "next"', "gpt, each once. A refusal goes to the next model. "),
        (
            'models = ["gpt", "house"]\nhedge = "500ms"',
            "gpt, then house, each at most 3 times; the next one too when the first token comes after 0.5s. ",
        ),
        (
            'models = ["gpt", "house"]\nhedge = true',
            "gpt, then house, each at most 3 times; the next one too when the first token comes later than usual. ",
        ),
    ],
)
def test_it_tells_who_is_asked_after_whom(check, settings, told):
    result = check(VALID.partition("[features")[0] + "[features.answer]\n" + settings, "--no-secrets")
    assert result_line(result.stdout) == f"answer asks {told}Its last resort: an error"


@pytest.mark.parametrize(
    ("written", "told", "resort"),
    [
        ('{ message = "Später." }', 'the message "Später."', {"message": "Später."}),
        ('{ file = "sorry.md" }', "the file sorry.md", {"file": "sorry.md"}),
        ('{ object = { reply = "no" } }', 'the object {"reply": "no"}', {"object": {"reply": "no"}}),
        ('{ function = "operator:concat" }', "the function operator:concat", {"function": "operator:concat"}),
    ],
)
def test_it_tells_the_last_resort_of_each_feature(check, tmp_path, written, told, resort):
    (tmp_path / "sorry.md").write_text("Sorry.")
    toml = VALID + f"last_resort = {written}\n"
    assert result_line(check(toml, "--no-secrets").stdout).endswith(f"Its last resort: {told}")
    policies = json.loads(check(toml, "--no-secrets", "--json").stdout)["policies"]
    assert policies == {"answer": {"retries": 2, "hedge": False, "on_refusal": "fail", "last_resort": resort}}


def test_the_variables_that_each_prompt_needs_are_listed(check, tmp_path):
    (tmp_path / "p.md").write_text("Answer in {{ language }} for {{ shop }}.")
    toml = VALID + 'prompt = "p.md"\n'
    assert result_line(check(toml, "--no-secrets").stdout) == "The prompt of answer needs the variables: language, shop"
    assert json.loads(check(toml, "--no-secrets", "--json").stdout)["variables"] == {"answer": ["language", "shop"]}


def result_line(output: str) -> str:
    return output.splitlines()[-1]


LIMITED = """
[models.free]
provider = "ollama"

[models.bounded]
provider = "ollama"
max_output = 100

[models.paid]
provider = "ollama"
price = { input = 1, output = 2 }
context = 8000

[tenants.acme]
budget = "5usd/day"
requests = "5/min"

[features.answer]
models = ["paid", "free"]
tokens = "1M/day"
"""


def test_what_limits_need_to_know_of_models_is_told(check):
    result = check(LIMITED)
    assert result.exit_code == 0, result.stderr
    told = [line for line in result.stdout.splitlines() if "where a" in line]
    assert told == [
        "free can't be called where a budget in money holds (tenant acme: 5 usd/day): set its `price`.",
        "bounded can't be called where a budget in money holds (tenant acme: 5 usd/day): set its `price`.",
        (
            "Chats with free have to bring max_tokens where a limit in money or tokens holds "
            "(tenant acme: 5 usd/day, feature answer: 1000000 tokens/day): set its `max_output`."
        ),
    ]
    assert json.loads(check(LIMITED, "--json").stdout)["warnings"] == told


def test_without_limits_nothing_is_told_of_them(check):
    assert "where a" not in check(VALID, "--no-secrets").stdout


def test_a_command_that_does_not_exist_is_told_with_the_one_that_is_meant():
    result = CliRunner().invoke(main, ["cals"])
    assert result.exit_code == 2
    assert "There is no command 'cals': did you mean 'calls'?" in result.stderr
    assert "did you mean" not in CliRunner().invoke(main, ["qqqq"]).stderr


def test_another_file_is_checked_when_it_is_named(check, tmp_path):
    (tmp_path / "prod.toml").write_text("[models.a\n")
    result = check(VALID, "--config", str(tmp_path / "prod.toml"))
    assert result.exit_code == 2
    assert result.stderr.startswith(f"{tmp_path / 'prod.toml'}:1: not TOML: ")


def test_the_schema_is_printed_without_any_file(check):
    result = check(None, "--schema")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == schema()
    jsonschema_rs.meta.validate(json.loads(result.stdout))
