"""Reading, checking and reading again of `holdfast.toml`."""

import copy
import os
import string
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema_rs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.config import Configuration, Reloader, checks, load, parse
from holdfast.config.collect import did_you_mean
from holdfast.config.locate import Lines
from holdfast.config.schema import schema
from holdfast.errors import ConfigError, Problem
from holdfast.gateway.settings import LastResort
from holdfast.http.base import Timeouts
from holdfast.settings import Duration, Secret, Size

DESIGN = """\
[models.gpt]
provider = "openai"
name     = "gpt-5-mini"
api_key  = { env = "HOLDFAST_TEST_KEY" }

[models.house]                       # any OpenAI-compatible server
provider = "openai"
base_url = "http://10.0.0.5:8000/v1"
name     = "house-8b"
headers  = { x-team = "search", authorization = { file = "secrets/token" } }
timeouts = { connect = "250ms" }

[features.answer]
models      = ["gpt", "house"]
prompt      = "prompts/answer.md"
deadline    = "8s"
last_resort = { message = "Not right now." }
rollout     = 1.0
enabled     = true

[gateway]
max_body = "10MB"

[log]
durability = "sync"
"""
MINIMAL = '[models.a]\nprovider = "simulated"\n'


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with a valid configuration and everything that it names."""
    monkeypatch.setenv("HOLDFAST_TEST_KEY", "sk-environment-0123456789")
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts/answer.md").write_text("Answer {{ tone }}.\n")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/token").write_text("Bearer file-0123456789\n")
    (tmp_path / "holdfast.toml").write_text(DESIGN)
    return tmp_path


def mistakes(toml: str, files: dict[str, str] | None = None) -> tuple[Problem, ...]:
    """What is wrong with a file."""
    try:
        parse({"holdfast.toml": toml} | (files or {}))
    except ConfigError as error:
        return error.problems
    return ()


def problems(toml: str, files: dict[str, str] | None = None) -> list[str]:
    """What is said of a file."""
    return [str(problem) for problem in mistakes(toml, files)]


def only(toml: str) -> str:
    """The one thing that `parse` says of a file, without the file's name."""
    (problem,) = problems(toml)
    return problem.removeprefix("holdfast.toml:")


# --- a valid one


def test_the_file_becomes_typed_settings_with_defaults(folder):
    config = load(folder / "holdfast.toml").config
    assert config.models["gpt"].api_key == Secret(env="HOLDFAST_TEST_KEY")
    assert config.models["house"].headers == {"x-team": "search", "authorization": Secret(file="secrets/token")}
    assert config.models["house"].timeouts == Timeouts(connect=Duration(0.25))
    answer = config.features["answer"]
    assert answer.models == ("gpt", "house")
    assert answer.deadline == 8.0
    assert answer.last_resort.message == "Not right now."
    assert (answer.rollout, answer.enabled, answer.store) == (1.0, True, "all")
    assert config.gateway.max_body == Size(10_000_000)
    assert config.gateway.max_deadline == 600
    assert config.log.durability == "sync"


def test_the_configuration_keeps_the_text_of_every_file_it_names(folder):
    configuration = load(folder / "holdfast.toml")
    assert dict(configuration.files) == {"holdfast.toml": DESIGN, "prompts/answer.md": "Answer {{ tone }}.\n"}
    assert configuration.text("prompts/answer.md") == configuration.text("./prompts/../prompts/answer.md")
    assert configuration.text(str(folder / "prompts/answer.md")) == "Answer {{ tone }}.\n"


def test_a_worker_rebuilds_the_same_configuration_from_the_texts_alone(folder, monkeypatch):
    loaded = load(folder / "holdfast.toml")
    monkeypatch.delenv("HOLDFAST_TEST_KEY")
    for file in ("holdfast.toml", "prompts/answer.md", "secrets/token"):
        (folder / file).unlink()
    sent = msgspec.json.decode(msgspec.json.encode(loaded.files))
    assert parse(sent, loaded.base, loaded.at_us) == loaded


def test_the_hash_stands_for_the_names_and_texts_and_nothing_else(folder):
    first = load(folder / "holdfast.toml")
    assert len(first.hash) == 32
    assert load(folder / "holdfast.toml").hash == first.hash
    (folder / "prompts/answer.md").write_text("Answer shortly.\n")
    assert load(folder / "holdfast.toml").hash != first.hash
    moved = {"a.toml": "x = 1", "b": "y"}, {"a.toml": "x = 1b", "": "y"}
    assert len({parse({"h.toml": MINIMAL} | files).hash for files in moved}) == 2


def test_the_snapshot_explains_calls_and_holds_no_secret(folder):
    configuration = load(folder / "holdfast.toml")
    snapshot = configuration.snapshot()
    assert (snapshot.hash, snapshot.at_us) == (configuration.hash, configuration.at_us)
    assert snapshot.files == dict(configuration.files)
    for shown in (msgspec.json.encode(snapshot).decode(), repr(configuration)):
        assert "sk-environment" not in shown
        assert "file-0123456789" not in shown


def test_a_byte_order_mark_and_windows_lines_are_read(folder):
    (folder / "holdfast.toml").write_bytes(b"\xef\xbb\xbf" + DESIGN.replace("\n", "\r\n").encode())
    assert load(folder / "holdfast.toml").config == parse({"holdfast.toml": DESIGN, "prompts/answer.md": "x"}).config


def test_loading_imports_neither_the_parser_for_lines_nor_the_price_list(folder):
    program = (
        "import sys; from pathlib import Path; from holdfast.config import load; load(Path(sys.argv[1]));"
        "print({'tree_sitter', 'genai_prices', 'asyncio', 'opentelemetry'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", program, folder / "holdfast.toml"]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout == "set()\n"


# --- what is wrong


def test_every_mistake_is_told_at_once_in_the_order_of_the_file():
    assert problems("""\
[model.gpt]
provider = "openai"

[models.gpt]
provider = "opnai"
timeouts = { conect = "5s", idle = "0s" }

[models.house]
provider = "vllm"
price.input = -1

[features.answer]
models = ["gtp",
  "house",
  3]
deadline = "8 secs"
rollout = 2
store = "some"
last_resort = "sorry"
enabled = "yes"

[features.empty]
models = []

[gateway]
max_body = "1XB"

[log]
flush_ms = 0
queue = 1.5
""") == [
        'holdfast.toml:1: model: unknown key (did you mean "models"?)',
        'holdfast.toml:5: models.gpt.provider: unknown provider "opnai" (did you mean "openai"?)',
        'holdfast.toml:6: models.gpt.timeouts.conect: unknown key (did you mean "connect"?)',
        "holdfast.toml:6: models.gpt.timeouts.idle: must be more than zero",
        "holdfast.toml:10: models.house.price.input: expected a number >= 0.0",
        "holdfast.toml:10: models.house.price.output: required, but missing",
        'holdfast.toml:13: features.answer.models[0]: there is no model "gtp" (did you mean "gpt"?)',
        "holdfast.toml:15: features.answer.models[2]: expected a string or an array, got an integer",
        """holdfast.toml:16: features.answer.deadline: expected a duration such as "8s" or "250ms", got '8 secs'""",
        "holdfast.toml:17: features.answer.rollout: expected a number <= 1.0: 2 % is 0.02",
        """holdfast.toml:18: features.answer.store: expected "all" or "metadata" or "none", got 'some'""",
        'holdfast.toml:19: features.answer.last_resort: expected a table: write last_resort = { message = "..." }',
        "holdfast.toml:20: features.answer.enabled: expected true or false, got a string",
        "holdfast.toml:23: features.empty.models: name at least one model",
        'holdfast.toml:26: gateway.max_body: expected a size such as "512KiB" or "10MB", got \'1XB\'',
        "holdfast.toml:29: log.flush_ms: expected an integer >= 1",
        "holdfast.toml:30: log.queue: expected an integer, got a number",
    ]


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("", "models: required, but missing"),
        ("[models]\n", "1: models: at least one is needed: a table [models.NAME]"),
        ("models = 3\n", "1: models: expected a table, got an integer"),
        ("[models]\na = 3\n", "2: models.a: expected a table, got an integer"),
        ("\n[models.a]\n", "2: models.a.provider: required, but missing"),
        ("[[models]]\nprovider = 'x'\n", "1: models: expected a table, got an array"),
        (MINIMAL + "[features.a]\nmodels = ['a']\n", "3: features.a: there is a model of the same name"),
        (MINIMAL + "[features.b]\nmodels = ['b']\n", '4: features.b.models[0]: "b" is a feature'),
        (MINIMAL + "[gateway]\ndrain = '9999d'\n", "4: gateway.drain: longer than a year"),
        (MINIMAL + f"[gateway]\ndrain = '{'9' * 400}d'\n", "4: gateway.drain: longer than a year"),
        (MINIMAL + f"[gateway]\nmax_body = '{'9' * 400}GB'\n", "4: gateway.max_body: too large"),
        (MINIMAL + "[gateway]\nmax_body = '0B'\n", "4: gateway.max_body: must be more than zero"),
        (MINIMAL + "price = { input = inf, output = 1 }\n", "3: models.a.price.input: expected a finite number"),
        (MINIMAL + "body = { a = [1, inf] }\n", "3: models.a.body.a[1]: expected a finite number"),
        (MINIMAL + "body.x.y = 1979-05-27\n", "3: models.a.body.x.y: dates have no place here"),
        (MINIMAL + "headers = { 'a b' = '1' }\n", "3: models.a.headers.'a b': not a name that a header can have"),
        (MINIMAL + 'headers.ok = "a\\nb"\n', "3: models.a.headers.ok: holds characters that no header can carry"),
        (MINIMAL + "headers.Content-Length = '3'\n", "3: models.a.headers.Content-Length: this header is set by"),
        (
            MINIMAL + "[log]\ndurability = 'snyc'\n",
            """4: log.durability: expected "sync" or "async", got 'snyc' (did you mean "sync"?)""",
        ),
        (MINIMAL + "[telemetry]\nendpoint = 'localhost:4318'\n", "3: telemetry: expected an address such as"),
        (MINIMAL + "[telemetry]\nendpoint = 'http://u:p@h'\n", "4: telemetry.endpoint: a URL must not hold a user"),
        (
            MINIMAL + "[telemetry]\nendpoint = 'http://h'\nheaders.x-api-key = 'abc'\n",
            "5: telemetry.headers.x-api-key: secrets are never written here",
        ),
        (
            MINIMAL + "[features.f]\nmodels = ['a', 'a']\n",
            '4: features.f.models[1]: "a" stands twice: name each model once, and how often it is tried with `retries`',
        ),
        (
            MINIMAL + "[features.f]\nmodels = 'a'\n",
            '4: features.f.models: expected an array, got a string: write models = ["a"]',
        ),
        (
            MINIMAL + "[features.f]\nmodels = ['a']\nrollout = 50\n",
            "5: features.f.rollout: expected a number <= 1.0: 50 % is 0.5",
        ),
        (
            MINIMAL + "[features.f]\nmodels = ['a']\nlast_resort = { message = 'Sorry.', flie = 'a.md' }\n",
            '5: features.f.last_resort.flie: unknown key (did you mean "file"?)',
        ),
        (
            MINIMAL + "[features.f]\nmodels = ['a']\ndeadline = '11m'\n",
            "5: features.f.deadline: 11m is above gateway.max_deadline (600s unless you set it)",
        ),
        (
            MINIMAL + "[gateway]\ndeadline = '30s'\nmax_deadline = '20s'\n",
            "4: gateway.deadline: 30s is above gateway.max_deadline (20s)",
        ),
        (MINIMAL + "[gateway]\nport = 9000\n", "4: gateway.port: unknown key: use --port of"),
        (MINIMAL + "[gateway]\nhost = 'x'\n", "4: gateway.host: unknown key: use --host of"),
        (
            MINIMAL + "price = { input = '0.25', output = 2.0 }\n",
            "3: models.a.price.input: expected a number, got a string",
        ),
        ('[models."a/b"]\nprovider = "simulated"\n', "1: models.'a/b': a name starts with a letter or digit"),
        ('[models."a\\nb"]\nprovider = "simulated"\n', "1: models.'a\\nb': a name starts with a letter or digit"),
        (MINIMAL + "[features.'ü']\nmodels = ['a']\n", "3: features.'ü': a name starts with a letter or digit"),
    ],
)
def test_each_kind_of_mistake_is_told_with_its_line(toml, problem):
    assert only(toml).removeprefix(" ").startswith(problem)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("a:statsu=503", 'there is no "statsu" (did you mean "status"?)'),
        ("a:status=soon", "faults[0].status: "),
        ("a:p=0.5", '"p" belongs after a fault'),
        ("sim-dwon", 'there is no simulated model "sim-dwon" (did you mean "sim-down"?)'),
        ("sim-qqqqqqqq:tps=5", 'there is no simulated model "sim-qqqqqqqq"; there are sim-echo, '),
    ],
)
def test_the_name_of_a_simulated_model_is_checked(name, problem):
    assert only(f'[models.a]\nprovider = "simulated"\nname = "{name}"\n').startswith(f"3: models.a.name: {problem}")


def test_the_name_of_a_simulated_model_may_be_that_of_its_table():
    assert only('[models.sim-dwon]\nprovider = "simulated"\n').startswith("1: models.sim-dwon: there is no simulated")
    assert problems('[models.sim-slow]\nprovider = "simulated"\n') == []


def test_a_simulated_model_has_no_address():
    assert only('[models.a]\nprovider = "simulated"\nbase_url = "http://127.0.0.1:8090/v1"\n') == (
        f"3: models.a.base_url: {checks.NO_ADDRESS}"
    )


# --- models in groups, hedges and limits


FEATURE = MINIMAL + "[models.b]\nprovider = 'simulated'\n[features.f]\n"


def test_models_stand_alone_or_in_groups_of_equals():
    feature = parse({"holdfast.toml": FEATURE + "models = [['a', 'b']]"}).config.features["f"]
    assert (feature.groups, feature.names) == ((("a", "b"),), ("a", "b"))
    feature = parse({"holdfast.toml": FEATURE + "models = ['b', ['a']]"}).config.features["f"]
    assert (feature.groups, feature.names) == ((("b",), ("a",)), ("b", "a"))


@pytest.mark.parametrize(("written", "hedge"), [("false", False), ("true", True), ("'800ms'", Duration(0.8))])
def test_a_hedge_is_a_choice_or_a_time(written, hedge):
    feature = parse({"holdfast.toml": FEATURE + f"models = ['a', 'b']\nhedge = {written}"}).config.features["f"]
    assert feature.hedge == hedge
    assert type(feature.hedge) is type(hedge)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("models = [['a', 'bb'], 'b']", '6: features.f.models[0][1]: there is no model "bb" (did you mean "b"?)'),
        ("models = [['a', 'f'], 'b']", '6: features.f.models[0][1]: "f" is a feature'),
        ("models = [\n'b',\n['a', 'b']]", '8: features.f.models[1][1]: "b" stands twice'),
        ("models = [['a', 'b'],\n'a']", '7: features.f.models[1]: "a" stands twice'),
        ("models = ['a', []]", "6: features.f.models[1]: name at least one model"),
        ("models = [['a', ['b']]]", "6: features.f.models[0][1]: expected a string, got an array"),
        ("models = [['a', 3]]", "6: features.f.models[0][1]: expected a string, got an integer"),
        ("models = ['a', true]", "6: features.f.models[1]: expected a string or an array, got true or false"),
        ("models = [['a', 'b']]\nretries = 11", "7: features.f.retries: expected an integer <= 10"),
        ("models = ['a']\nretries = -1", "7: features.f.retries: expected an integer >= 0"),
        ("models = ['a']\nretries = true", "7: features.f.retries: expected an integer, got true or false"),
        (
            "models = ['a', 'b']\nhedge = 3",
            "7: features.f.hedge: expected true or false, got an integer, or a duration",
        ),
        ("models = ['a', 'b']\nhedge = '0s'", "7: features.f.hedge: must be more than zero"),
        ("models = ['a', 'b']\nhedge = 'p95'", '7: features.f.hedge: expected a duration such as "8s"'),
        ("models = ['a', 'b']\nhedge = []", "7: features.f.hedge: expected true or false, got an array"),
        ("models = ['a']\nhedge = true", "7: features.f.hedge: a hedge starts the next model, and there is only one"),
        ("models = [['a']]\nhedge = '1s'", "7: features.f.hedge: a hedge starts the next model, and there is only one"),
        ("models = ['a', 'b']\nhedge = '2m'", "7: features.f.hedge: 2m is not below the deadline (120s)"),
        (
            "models = ['a', 'b']\ndeadline = '5s'\nhedge = '5s'",
            "8: features.f.hedge: 5s is not below the deadline (5s), so that it never happens",
        ),
        (
            "models = ['a']\non_refusal = 'nxt'",
            """7: features.f.on_refusal: expected "fail" or "next", got 'nxt' (did you mean "next"?)""",
        ),
        ("models = ['a']\n[gateway]\nconcurrency = 0", "8: gateway.concurrency: expected an integer >= 1"),
        ("models = ['a']\n[gateway]\nqueue = -1", "8: gateway.queue: expected an integer >= 0"),
        ("models = ['a']\n[gateway]\nretry_share = 20", "8: gateway.retry_share: expected a number <= 1.0"),
        ("models = ['a']\n[gateway]\nhedge_share = -0.1", "8: gateway.hedge_share: expected a number >= 0.0"),
        ("models = ['a']\n[gateway]\ncaller_idle = '0s'", "8: gateway.caller_idle: must be more than zero"),
        ("models = ['a']\n[models.c]\nprovider = 'simulated'\ncontext = 0", "9: models.c.context: expected an integer"),
        ("models = ['a']\n[models.c]\nprovider = 'simulated'\nconcurrency = 0", "9: models.c.concurrency: expected an"),
        ("models = ['a']\n[models.c]\nprovider = 'simulated'\nprefill = 1", "9: models.c.prefill: expected true or"),
    ],
)
def test_what_is_wrong_with_resilience_is_told_with_its_line(settings, problem):
    assert only(FEATURE + settings).startswith(problem)


def test_no_queue_and_no_budget_are_a_choice():
    gateway = "[gateway]\nqueue = 0\nretry_share = 0\nhedge_share = 0\n"
    settings = parse({"holdfast.toml": MINIMAL + gateway}).config.gateway
    assert (settings.queue, settings.retry_share, settings.hedge_share) == (0, 0, 0)


# --- last resorts


def resort(written: str) -> str:
    return MINIMAL + f"[features.f]\nmodels = ['a']\nlast_resort = {written}\n"


def test_a_last_resort_says_one_of_four_things():
    for form, value in {"message": "", "file": "a.md", "object": {"a": [1, None]}, "function": "operator:add"}.items():
        assert getattr(LastResort(**{form: value}), form) == value


@pytest.mark.parametrize(
    "written", ["{}", "{ message = 'a', file = 'a.md' }", "{ object = {}, function = 'operator:add' }"]
)
def test_a_last_resort_that_says_nothing_or_two_things_is_refused(written):
    (problem,) = problems(resort(written), {"a.md": "A."})
    assert problem.endswith("5: features.f.last_resort: expected exactly one of message, file, object and function")


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("'Sorry.'", '5: features.f.last_resort: expected a table: write last_resort = { message = "..." }'),
        ("{ object = 'a' }", "5: features.f.last_resort.object: expected a table, got a string"),
        ("{ object = [1] }", "5: features.f.last_resort.object: expected a table, got an array"),
        ("{ object = { at = 2026-01-01 } }", "5: features.f.last_resort.object.at: dates have no place here"),
        ("{ object = { x = nan } }", "5: features.f.last_resort.object.x: expected a finite number"),
        ("{ file = 'gone.md' }", "5: features.f.last_resort.file: gone.md: there is no such file"),
        ("{ file = 'empty.md' }", "5: features.f.last_resort.file: empty.md: the file is empty"),
        ("{ file = 'wrong.json' }", "5: features.f.last_resort.file: wrong.json:2: not JSON: Expecting value"),
        ("{ file = 'nan.JSON' }", "5: features.f.last_resort.file: nan.JSON: not JSON: it has no NaN"),
        ("{ file = 'deep.json' }", "5: features.f.last_resort.file: deep.json: not JSON: "),
        ("{ function = 'fallback' }", '5: features.f.last_resort.function: expected "package.module:name", got "fall'),
        ("{ function = 3 }", "5: features.f.last_resort.function: expected a string, got an integer"),
    ],
)
def test_what_is_wrong_with_a_last_resort_is_told_with_its_line(written, problem):
    files = {"empty.md": " \n", "wrong.json": '{\n"a": }', "nan.JSON": "[NaN]", "deep.json": "[" * 100_000}
    (said,) = problems(resort(written), files)
    assert said.removeprefix("holdfast.toml:").startswith(problem)


def test_the_file_of_a_last_resort_is_part_of_the_configuration(tmp_path):
    (tmp_path / "holdfast.toml").write_text(resort("{ file = 'sorry.json' }"))
    (tmp_path / "sorry.json").write_text('["Sorry."]\n')
    configuration = load(tmp_path / "holdfast.toml")
    assert configuration.text("sorry.json") == '["Sorry."]\n'
    assert parse(configuration.files, tmp_path).hash == configuration.hash
    reloader = Reloader(configuration)
    reloader.check()
    (tmp_path / "sorry.json").write_text("[")
    reloader.check()
    assert isinstance(error := reloader.check(), ConfigError)
    assert error.problems[0].message.startswith("sorry.json:1: not JSON")
    (tmp_path / "sorry.json").write_text("[]")
    reloader.check()
    assert isinstance(changed := reloader.check(), Configuration)
    assert changed.text("sorry.json") == "[]"


def test_the_function_of_a_last_resort_is_looked_for_where_it_will_run(tmp_path):
    path = tmp_path / "holdfast.toml"
    path.write_text(resort("{ function = 'resort_of_config:anwser' }"))
    (tmp_path / "resort_of_config.py").write_text("def answer(request, code): return 'Sorry.'\n")
    with pytest.raises(ConfigError) as wrong:
        load(path, resolve_secrets=False)
    assert str(wrong.value) == (
        f'{path}:5: features.f.last_resort.function: resort_of_config has no "anwser" (did you mean "answer"?)'
    )
    path.write_text(resort("{ function = 'resort_of_config:answer' }"))
    assert parse(load(path).files, tmp_path).config.features["f"].last_resort is not None


def test_a_secret_in_what_an_import_says_is_never_repeated(tmp_path):
    path = tmp_path / "holdfast.toml"
    path.write_text(resort("{ function = 'resort_with_secret:answer' }"))
    (tmp_path / "resort_with_secret.py").write_text("raise RuntimeError('no sk-0123456789abcdef')\n")
    with pytest.raises(ConfigError) as wrong:
        load(path)
    assert "importing resort_with_secret failed: RuntimeError: no *** (resort_with_secret.py, line 1)" in str(
        wrong.value
    )


# --- prompts


@pytest.mark.parametrize("wrong", ["{{ first-name }}", "{{ a b }}", "{{}}", "{{ user.name }}", "{{#each}}"])
def test_what_looks_like_a_variable_of_a_prompt_and_is_none_is_told_with_its_line(wrong):
    toml = MINIMAL + "[features.f]\nmodels = ['a']\nprompt = 'p.md'\n"
    said = problems(
        toml, {"p.md": f'Be {{{{ tone }}}}.\nAs {{{{"reply": "..."}}}} or {{"a": {{}}}}.\nHello {wrong}!\n'}
    )
    assert said == [f"holdfast.toml:5: features.f.prompt: p.md:3: {wrong} {checks.NO_VARIABLE}"]


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ('provider = "groq"', '1: models.a.api_key: required, but missing: write api_key = { env = "GROQ_API_KEY" }'),
        ('provider = "vllm"', "1: models.a.base_url: required, but missing: provider vllm has no address of its own"),
        ('provider = "Azur"', '2: models.a.provider: unknown provider "Azur" (did you mean "azure"?)'),
        ('provider = "qqqq"', '2: models.a.provider: unknown provider "qqqq", known are openai, anthropic,'),
        (
            'provider = "vllm"\nbase_url = "10.0.0.5/v1"',
            '3: models.a.base_url: expected a URL such as "https://host/v1"',
        ),
        ('provider = "vllm"\nbase_url = "ftp://h"', '3: models.a.base_url: expected a URL such as "https://host/v1"'),
        ('provider = "vllm"\nbase_url = "http://h:99999"', "3: models.a.base_url: not a URL"),
        ('provider = "vllm"\nbase_url = "http://[::1"', "3: models.a.base_url: not a URL"),
        ('provider = "vllm"\nbase_url = "http://h/a b"', "3: models.a.base_url: a URL can't hold spaces"),
        ('provider = "vllm"\nbase_url = "http://h/?a=b"', "3: models.a.base_url: a URL without ? and #"),
        ('provider = "simulated"\nproxy = "socks5://h"', '3: models.a.proxy: expected a URL such as "https://host/v1"'),
    ],
)
def test_what_a_provider_needs_is_told(model, problem):
    assert only(f"[models.a]\n{model}\n").startswith(problem)


@pytest.mark.parametrize("provider", ["simulated", "ollama", "llamacpp"])
def test_a_provider_with_a_place_of_its_own_needs_nothing_else(provider):
    assert problems(f'[models.a]\nprovider = "{provider}"\n') == []


@pytest.mark.parametrize(
    ("toml", "line"),
    [
        ("[models.a\n", 1),
        ('a = "\\q"\n', 1),
        ("a = 1\nb = [1,\n", 2),
        ("a = 2020-13-01\n", 1),
    ],
)
def test_what_is_not_toml_is_told_with_its_line(toml, line):
    assert only(toml).startswith(f"{line}: not TOML: ")


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("a = 1\na = 2\n", "2: a: stands twice, first in line 1"),
        ("[a]\nb = 1\n\n[a]\n", "4: a: stands twice, first in line 1"),
        ("[a]\nb.c = 1\nb = 3\n", "3: a.b: stands twice, first in line 2"),
        ("[a]\nx = 1\n[a.x]\n", "3: a.x: stands twice, first in line 2"),
        ("[a]\nx = 1\n[a.x.y]\nz = 1\n", "3: a.x: stands twice, first in line 2"),
        ("[a]\nb = 1\nb = [\n1,\n2]\n", "3: a.b: stands twice, first in line 2"),
        ("x = { a = 1, a = 2 }\n", "1: x.a: stands twice"),
    ],
)
def test_a_key_that_stands_twice_is_named_with_both_lines(toml, problem):
    assert only(toml) == problem


@pytest.mark.parametrize(
    "toml",
    ["a = " + "[" * 5000, "a = " + "9" * 5000, ".".join(["a"] * 3_000) + " = 1", "a\ud800 = 1"],
    ids=["deep arrays", "a huge number", "deep keys", "a lone surrogate"],
)
def test_a_hostile_file_is_a_wrong_configuration_and_no_crash(toml):
    assert problems(toml)


def test_no_files_at_all_are_a_wrong_configuration():
    with pytest.raises(ConfigError, match="there is no such file"):
        parse({})


# --- the files that it names


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda file: file.unlink(), "there is no such file"),
        (lambda file: file.write_bytes(b"\xff\xfe"), "not UTF-8 text"),
        (lambda file: file.write_text(" \n"), "the file is empty"),
        (lambda file: file.write_text("x" * (4 * 2**20 + 1)), "larger than 4 MiB"),
        (lambda file: (file.unlink(), file.mkdir()), "not a file"),
        (lambda file: (file.unlink(), os.mkfifo(file)), "not a file"),
    ],
    ids=["missing", "binary", "empty", "huge", "folder", "pipe"],
)
def test_a_prompt_that_cannot_be_used_is_told_where_it_is_named(folder, spoil, complaint):
    spoil(folder / "prompts/answer.md")
    with pytest.raises(ConfigError) as caught:
        load(folder / "holdfast.toml")
    assert str(caught.value) == (f"{folder}/holdfast.toml:15: features.answer.prompt: prompts/answer.md: {complaint}")


@pytest.mark.parametrize("name", ["a\\u0000b", "/dev/zero", "x" * 5000, "..", ""])
def test_a_prompt_of_an_impossible_name_is_told(folder, name):
    (folder / "holdfast.toml").write_text(DESIGN.replace("prompts/answer.md", name))
    with pytest.raises(ConfigError, match=r"holdfast.toml:15: features.answer.prompt: "):
        load(folder / "holdfast.toml")


def test_a_file_that_is_not_text_is_told(tmp_path):
    (tmp_path / "holdfast.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigError, match=r"holdfast\.toml: not UTF-8 text"):
        load(tmp_path / "holdfast.toml")


def test_a_proxy_without_its_extra_is_told(folder, monkeypatch):
    edit(folder, 'name     = "gpt-5-mini"', 'proxy = "http://proxy:3128"')
    assert load(folder / "holdfast.toml")
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r'holdfast.toml:3: models.gpt.proxy: needs an extra: pip install -e "\.\[aiohttp\]"'
    ):
        load(folder / "holdfast.toml")
    assert load(folder / "holdfast.toml", resolve_secrets=False)


# --- secrets


def test_secrets_that_are_not_there_are_told_all_at_once_with_their_lines(folder, monkeypatch):
    monkeypatch.delenv("HOLDFAST_TEST_KEY")
    (folder / "secrets/token").write_text("two\nlines")
    with pytest.raises(ConfigError) as caught:
        load(folder / "holdfast.toml")
    assert [(problem.line, problem.key) for problem in caught.value.problems] == [
        (4, "models.gpt.api_key"),
        (10, "models.house.headers.authorization"),
    ]
    assert "HOLDFAST_TEST_KEY is not set" in str(caught.value)
    assert "two" not in str(caught.value)
    assert load(folder / "holdfast.toml", resolve_secrets=False)


LEAK = "sk-proj-leaked0123456789abcdef"


@pytest.mark.parametrize(
    "line",
    [
        f'api_key = "{LEAK}"',
        'api_key = "no-known-pattern"',
        f'api_key = {{ env = "{LEAK}" }}',
        f'api_key = {{ value = "{LEAK}" }}',
        f'api_kye = "{LEAK}"',
        f'headers = {{ Authorization = "Bearer {LEAK}" }}',
        'headers = { X-Api-Key = "no-known-pattern" }',
        f'headers = {{ innocent = "{LEAK}" }}',
        f'query = {{ key = "{LEAK}" }}',
        f'body = {{ deep = [{{ er = "{LEAK}" }}] }}',
        f'base_url = "https://user:{LEAK}@host/v1"',
        'proxy = "http://user:hunter2@host"',
        f'"{LEAK}" = 1',
        f'timeouts = {{ idle = "{LEAK}" }}',
        f'name = "{LEAK}"',
    ],
)
def test_an_inline_secret_is_refused_and_never_repeated(line):
    told = problems(f'[models.a]\nprovider = "simulated"\n{line}\n')
    assert told
    assert all(problem.startswith("holdfast.toml:3: ") for problem in told)
    for secret in ("leaked", "hunter2", "no-known-pattern"):
        assert secret not in "".join(told)


def test_it_says_how_to_write_a_secret():
    assert only(MINIMAL + 'api_key = "x"\n') == (
        '3: models.a.api_key: secrets are never written here, use { env = "NAME" } or { file = "PATH" }'
    )


@pytest.mark.parametrize(
    ("secret", "complaint"),
    [
        ("{}", 'expected { env = "NAME" } or { file = "PATH" }'),
        ('{ env = "A", file = "b" }', 'expected { env = "NAME" } or { file = "PATH" }'),
        ('{ evn = "A" }', 'unknown key (did you mean "env"?)'),
        ("3", "expected a table, got an integer"),
        ('{ env = "not a name" }', "expected the name of an environment variable, not the secret itself"),
    ],
)
def test_a_secret_that_says_neither_or_both_places_is_told(secret, complaint):
    assert any(complaint in problem for problem in problems(MINIMAL + f"api_key = {secret}\n"))


# --- lines


def test_lines_are_found_in_every_way_that_toml_writes_keys():
    lines = Lines(
        "a.b.'c d' = 1\n"
        "[t]\n"
        "x = { y = 1, z.w = [1, { v = 2 }] }\n"
        '"q\\u0041" = """\n'
        "text\n"
        '"""\n'
        "[[l.m]]\n"
        "k = 1\n"
        "[[l.m]]\n"
        "[l.m.sub]\n"
        "k = [\n"
        "  1, # one\n"
        "  2,\n"
        "]\n"
    )
    assert lines.of(("a", "b", "c d")) == 1
    assert lines.of(("t", "x", "z", "w", 1, "v")) == 3
    assert lines.of(("t", "qA")) == 4
    assert lines.of(("l", "m", 0, "k")) == 8
    assert lines.of(("l", "m", 1)) == 9
    assert lines.of(("l", "m", 1, "sub", "k", 1)) == 13
    assert lines.of(("l", "m", 1, "sub", "missing")) == 10
    assert lines.of(("nowhere", 3)) == 0


keys = st.text(st.sampled_from(string.ascii_letters + "-_ .\"'#é\n"), min_size=1, max_size=6)


@given(st.lists(st.tuples(keys, keys), min_size=1, max_size=8, unique=True))
def test_any_key_is_found_where_it_was_written(pairs):
    quote = msgspec.json.encode
    text = "".join(f"[t{i}.{quote(a).decode()}]\n{quote(b).decode()} = {i}\n" for i, (a, b) in enumerate(pairs))
    assert tomllib.loads(text)
    lines = Lines(text)
    for i, (a, b) in enumerate(pairs):
        assert lines.of((f"t{i}", a, b)) == 2 * i + 2


def test_a_hint_is_given_when_a_word_is_near():
    assert did_you_mean("modles", ["models", "features"]) == ' (did you mean "models"?)'
    assert did_you_mean("OPENAI", ["openai"]) == ' (did you mean "openai"?)'
    assert did_you_mean("zzz", ["models"]) == ""


# --- laws

FILES = {"prompts/answer.md": "Answer."}
VALID = tomllib.loads(DESIGN)
VALID["features"]["answer"].update(models=[["gpt"], "house"], retries=1, hedge="500ms", on_refusal="next")
SCHEMA = schema()


def toml(doc: dict) -> tuple[str, dict[tuple, int]]:
    """Write a document with one line a leaf, and say which line each key is on."""
    text: list[str] = []
    lines: dict[tuple, int] = {}

    def mark(at: tuple) -> None:
        for end in range(1, len(at) + 1):
            lines.setdefault(at[:end], len(text))

    def write(table: dict, at: tuple) -> None:
        leaves = {key: value for key, value in table.items() if not isinstance(value, dict)}
        text.append("[" + ".".join(map(quoted, at)) + "]" if at else "# here")
        mark(at)
        for key, value in leaves.items():
            text.append(f"{quoted(key)} = {msgspec.json.encode(value).decode()}")
            mark((*at, key))
        for key in table.keys() - leaves.keys():
            write(table[key], (*at, key))

    write(doc, ())
    return "\n".join(text) + "\n", lines


def quoted(key: str) -> str:
    return msgspec.json.encode(key).decode()


def places(value: object, at: tuple = ()) -> list[tuple]:
    found = [at] if at else []
    if isinstance(value, dict):
        for key, item in value.items():
            found += places(item, (*at, key))
    return found


def holder(doc: dict, at: tuple) -> dict:
    for key in at[:-1]:
        doc = doc[key]
    return doc


def wrong(doc: dict) -> tuple[list, dict[tuple, int], str]:
    text, lines = toml(doc)
    with pytest.raises(ConfigError) as caught:
        parse({"holdfast.toml": text} | FILES)
    return list(caught.value.problems), lines, text


NAMED = {("models",), ("features",)}
FREE = ("models", "house", "headers")


@given(st.sampled_from([at for at in places(VALID) if at[:-1] not in NAMED and at[:3] != FREE]), st.data())
def test_a_typo_in_any_key_is_told_on_its_line(at, data):
    doc = copy.deepcopy(VALID)
    table = holder(doc, at)
    index = data.draw(st.integers(0, len(at[-1])))
    typo = at[-1][:index] + "x" + at[-1][index:]
    table[typo] = table.pop(at[-1])
    told, lines, _ = wrong(doc)
    assert any(problem.line == lines[(*at[:-1], typo)] and "unknown key" in problem.message for problem in told)


wrong_type = st.sampled_from([3.5, -1, True, [1], [[]], {"a": 1}, [], "\x00", "é" * 3])


@given(st.sampled_from([at for at in places(VALID) if at[:3] != FREE]), wrong_type)
@settings(max_examples=200)
def test_any_value_of_another_type_is_taken_or_told_on_its_line(at, value):
    doc = copy.deepcopy(VALID)
    holder(doc, at)[at[-1]] = value
    text, lines = toml(doc)
    told = {problem.line for problem in mistakes(text, FILES)}
    here = {line for place, line in lines.items() if place[: len(at)] == at}
    holding = {lines[at[:-1]] if at[:-1] else 0}
    referring = {lines["features", "answer", "models"]} if at[0] == "models" else set()
    assert told <= here | holding | referring
    assert not told or told & (here | referring)


@given(
    st.sampled_from([("models",), ("models", "gpt"), ("models", "house", "provider"), ("features", "answer", "models")])
)
def test_deleting_what_is_needed_is_told_where_it_is_missed(at):
    doc = copy.deepcopy(VALID)
    del holder(doc, at)[at[-1]]
    told, lines, _ = wrong(doc)
    missed = {lines.get(at[:-1], 0), lines[("features", "answer")], lines.get(("features", "answer", "models"))}
    assert {problem.line for problem in told} <= missed


@given(
    st.text() | st.lists(st.sampled_from([*"[]{}=.,\"'#\n ", "a", "1", "models", "provider"]), max_size=40).map("".join)
)
@settings(max_examples=300)
def test_any_text_is_a_configuration_or_a_wrong_one(text):
    last = text.count("\n") + 1
    assert all(0 <= problem.line <= last for problem in mistakes(text))


@given(st.integers(0, len(DESIGN) - 1), st.sampled_from([*"[]{}=\"'.\n#x0 ", ""]))
@settings(max_examples=300)
def test_any_single_change_to_a_valid_file_is_taken_or_told(index, character):
    changed = DESIGN[:index] + character + DESIGN[index + 1 :]
    for problem in problems(changed, FILES):
        assert problem.startswith("holdfast.toml:")


@given(st.sampled_from(places(VALID)), st.text(st.sampled_from(string.ascii_letters + string.digits), min_size=20))
@settings(max_examples=100)
def test_a_secret_in_any_place_is_never_repeated(at, tail):
    doc = copy.deepcopy(VALID)
    holder(doc, at)[at[-1]] = secret = f"sk-{tail}"
    told, _, _ = wrong(doc)
    assert told
    assert secret not in "".join(map(str, told))


# --- the schema


def test_the_schema_accepts_what_we_accept():
    jsonschema_rs.meta.validate(SCHEMA)
    validator = jsonschema_rs.validator_for(SCHEMA)
    assert validator.is_valid(VALID)


@pytest.mark.parametrize(
    "change",
    [
        lambda doc: doc.pop("models"),
        lambda doc: doc.update(modles={}),
        lambda doc: doc["models"]["gpt"].pop("provider"),
        lambda doc: doc["models"]["gpt"].update(api_key="sk-1"),
        lambda doc: doc["models"]["gpt"].update(api_key={"env": "A", "file": "b"}),
        lambda doc: doc["models"]["gpt"].update(headers={"a": 3}),
        lambda doc: doc["models"]["house"]["timeouts"].update(connect="5 lightyears"),
        lambda doc: doc["models"]["house"].update(price={"input": -1, "output": 1}),
        lambda doc: doc["features"]["answer"].update(models=[]),
        lambda doc: doc["features"]["answer"].update(models=[["gpt"], []]),
        lambda doc: doc["features"]["answer"].update(rollout=1.5),
        lambda doc: doc["features"]["answer"].update(retries=11),
        lambda doc: doc["features"]["answer"].update(hedge="p95"),
        lambda doc: doc["features"]["answer"].update(hedge=1),
        lambda doc: doc["features"]["answer"].update(on_refusal="continue"),
        lambda doc: doc["features"]["answer"].update(last_resort={}),
        lambda doc: doc["features"]["answer"].update(last_resort={"message": "a", "file": "later.md"}),
        lambda doc: doc["models"]["gpt"].update(concurrency=0),
        lambda doc: doc["gateway"].update(retry_share=2),
        lambda doc: doc["features"]["answer"].update(store="some"),
        lambda doc: doc["gateway"].update(max_body=10),
        lambda doc: doc["log"].update(flush_ms=0),
    ],
)
def test_the_schema_refuses_what_we_refuse(change):
    doc = copy.deepcopy(VALID)
    change(doc)
    assert not jsonschema_rs.validator_for(SCHEMA).is_valid(doc)
    assert wrong(doc)[0]


def test_the_schema_describes_every_key():
    definitions = SCHEMA["$defs"]
    for name, definition in {"": SCHEMA, **definitions}.items():
        for key, about in definition.get("properties", {}).items():
            target = definitions.get(about.get("$ref", "").rpartition("/")[2], {})
            assert about.get("description") or target.get("description"), f"{name}.{key}"


UNITS = ["ms", "s", "m", "h", "d", "B", "KB", "KiB", "MB", "MiB", "GB", "GiB", "iB", "K", "S", ""]
spaces = st.sampled_from(["", " ", "\t"])


@pytest.mark.parametrize("scalar", ["Duration", "Size"])
@given(number=st.sampled_from(["1", "20", "1.5", "1.", ".5", "-1", ""]), unit=st.sampled_from(UNITS), space=spaces)
def test_the_patterns_of_the_schema_agree_with_the_parsers(scalar, number, unit, space):
    text = space + number + space + unit
    parser = {"Duration": Duration, "Size": Size}[scalar]
    validator = jsonschema_rs.validator_for(SCHEMA["$defs"][scalar])
    try:
        parser.parse(text)
    except ValueError:
        assert not validator.is_valid(text)
    else:
        assert validator.is_valid(text)


# --- reading again


@pytest.fixture
def reloader(folder) -> Reloader:
    return Reloader(load(folder / "holdfast.toml"))


def edit(folder: Path, old: str, new: str) -> None:
    file = folder / "holdfast.toml"
    file.write_text(file.read_text().replace(old, new))


def settled(reloader: Reloader):
    """The first thing that is told within a few checks."""
    return next((news for news in [reloader.check() for _ in range(4)] if news is not None), None)


def test_nothing_is_told_while_nothing_changes(reloader):
    assert [reloader.check() for _ in range(5)] == [None] * 5


def test_a_change_is_taken_once_it_has_settled(folder, reloader):
    settled(reloader)
    edit(folder, '"8s"', '"9s"')
    assert reloader.check() is None
    new = reloader.check()
    assert new.config.features["answer"].deadline == 9
    assert reloader.current is new
    assert [reloader.check() for _ in range(4)] == [None] * 4


def test_a_change_before_the_first_check_is_taken(folder):
    loaded = load(folder / "holdfast.toml")
    edit(folder, '"8s"', '"9s"')
    assert settled(Reloader(loaded)).config.features["answer"].deadline == 9


def test_a_prompt_that_changes_makes_a_new_configuration(folder, reloader):
    before = reloader.current.hash
    (folder / "prompts/answer.md").write_text("Answer better.\n")
    new = settled(reloader)
    assert new.text("prompts/answer.md") == "Answer better.\n"
    assert new.hash != before


def test_a_file_that_was_only_touched_changes_nothing(folder, reloader):
    settled(reloader)
    os.utime(folder / "holdfast.toml", ns=(1, 1))
    assert settled(reloader) is None


def test_a_file_that_is_being_written_is_not_read(folder, reloader):
    settled(reloader)
    file = folder / "holdfast.toml"
    for written in range(0, len(DESIGN), 40):
        file.write_text(DESIGN[:written])
        assert reloader.check() is None
    file.write_text(DESIGN.replace('"8s"', '"9s"'))
    assert settled(reloader).config.features["answer"].deadline == 9
    assert reloader.error is None


def test_a_file_that_is_replaced_by_another_is_read(folder, reloader):
    settled(reloader)
    file = folder / "holdfast.toml"
    file.rename(folder / "backup")
    assert reloader.check() is None
    (folder / "new").write_text(DESIGN.replace('"8s"', '"9s"'))
    (folder / "new").rename(file)
    assert settled(reloader).config.features["answer"].deadline == 9


def test_a_wrong_file_is_told_once_and_the_old_one_stays(folder, reloader):
    current = reloader.current
    edit(folder, "deadline", "deadlien")
    error = settled(reloader)
    assert isinstance(error, ConfigError)
    assert 'did you mean "deadline"?' in str(error)
    assert [reloader.check() for _ in range(4)] == [None] * 4
    assert reloader.current is current
    assert reloader.error is error


def test_a_file_that_is_wrong_in_another_way_is_told_again(folder, reloader):
    edit(folder, "deadline", "deadlien")
    first = settled(reloader)
    edit(folder, "deadlien", "deadlein")
    second = settled(reloader)
    assert isinstance(second, ConfigError)
    assert str(second) != str(first)


def test_a_file_that_is_mended_is_taken_and_one_that_is_put_back_changes_nothing(folder, reloader):
    edit(folder, '"8s"', '"8"')
    assert isinstance(settled(reloader), ConfigError)
    edit(folder, '"8"', '"8s"')
    assert settled(reloader) is None
    assert reloader.error is None
    edit(folder, '"8s"', '"8"')
    assert isinstance(settled(reloader), ConfigError)
    edit(folder, '"8"', '"7s"')
    assert settled(reloader).config.features["answer"].deadline == 7


def test_a_missing_file_that_a_new_configuration_names_is_waited_for(folder, reloader):
    edit(folder, "prompts/answer.md", "prompts/new.md")
    assert "prompts/new.md: there is no such file" in str(settled(reloader))
    (folder / "prompts/new.md").write_text("New.\n")
    assert settled(reloader).text("prompts/new.md") == "New.\n"


def test_a_secret_that_changes_in_its_file_makes_a_new_configuration_of_the_same_hash(folder, reloader):
    current = reloader.current
    (folder / "secrets/token").write_text("rotated\n")
    new = settled(reloader)
    assert new is not current
    assert new.hash == current.hash
    (folder / "secrets/token").write_text("")
    assert "secrets/token is empty" in str(settled(reloader))


def test_force_reads_at_once_and_tells_what_is_wrong_again(folder, reloader):
    assert reloader.check(force=True) is None
    edit(folder, '"8s"', '"9s"')
    assert reloader.check(force=True).config.features["answer"].deadline == 9
    edit(folder, "deadline", "deadlien")
    assert isinstance(reloader.check(force=True), ConfigError)
    assert isinstance(reloader.check(force=True), ConfigError)


def test_a_deleted_file_is_told_and_the_old_one_stays(folder, reloader):
    (folder / "holdfast.toml").unlink()
    assert "there is no such file" in str(settled(reloader))
    assert reloader.current.config.features["answer"].deadline == 8
    (folder / "holdfast.toml").write_text(DESIGN)
    assert settled(reloader) is None
    assert reloader.error is None
