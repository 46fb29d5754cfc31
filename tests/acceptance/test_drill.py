"""`holdfast drill` as its user runs it: on the demo, and on a configuration with a model on each wire."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from configurations import CLAUDE, GPT

SECONDS = 100.0
BARE = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
THREE_WIRES = (
    GPT
    + 'headers = { x-team = { env = "ANOTHER_ONE" } }\n'
    + CLAUDE
    + """
[models.gemini]
provider = "google"
name     = "gemini-2.5-flash"
api_key  = { file = "no-such-file" }

[log]
path = "elsewhere/log.db"

[telemetry]
endpoint = "http://127.0.0.1:1"

[features.ask]
models      = ["gpt", "claude"]
deadline    = "10s"
last_resort = { message = "Later." }

[features.greet]
models   = ["claude", "gemini"]
prompt   = "greeting.md"
deadline = "10s"

[features.sum]
models  = ["gemini", "gpt"]
rollout = 0.0
"""
)


def drill(directory: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "holdfast", "drill", *args]
    return subprocess.run(
        command, cwd=directory, env=BARE, capture_output=True, text=True, timeout=SECONDS, check=False
    )


@pytest.fixture
def three_wires(tmp_path) -> Path:
    (tmp_path / "holdfast.toml").write_text(THREE_WIRES)
    (tmp_path / "greeting.md").write_text("Greet {{ name }}.\n")
    return tmp_path


def test_the_demo_keeps_every_promise_and_leaves_nothing_behind_but_the_page(tmp_path):
    result = drill(tmp_path, "--html", "drill.html")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "answer: sim-primary, then sim-backup, within 10 s" in result.stdout
    assert "Every promise was kept" in result.stdout
    assert "BROKEN" not in result.stdout
    assert "\x1b" not in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["drill.html"]
    assert "<h1>Every promise was kept.</h1>" in (tmp_path / "drill.html").read_text()


def test_every_wire_is_drilled_without_a_secret_and_without_touching_the_users_log(three_wires):
    chosen = ("none", "throttled", "silence", "stalled", "cut_no_prefill", "too_long", "refused", "hang_up", "all_down")
    result = drill(three_wires, "--json", *[word for name in chosen for word in ("--fault", name)])
    assert result.returncode == 0, result.stdout + result.stderr
    told = json.loads(result.stdout)
    assert told["passed"]
    assert told["summary"]["broken"] == 0
    rows = {(row["feature"], row["fault"], row["mode"]): row for row in told["rows"]}
    assert {feature for feature, _, _ in rows} == {"ask", "greet", "sum"}
    for feature, first, second in (("ask", "gpt", "claude"), ("greet", "claude", "gemini"), ("sum", "gemini", "gpt")):
        for mode in ("whole", "stream"):
            assert rows[feature, "none", mode]["answered_by"] == first
            assert rows[feature, "throttled", mode]["answered_by"] == second
            assert rows[feature, "too_long", mode]["answered_by"] == second
            assert rows[feature, "refused", mode]["note"] == "content_refused"
            assert rows[feature, "hang_up", mode]["end"] == "cancelled"
    assert rows["ask", "all_down", "stream"]["end"] == "last_resort"
    assert rows["greet", "all_down", "stream"]["end"] == "error"
    assert sorted(path.name for path in three_wires.iterdir()) == ["greeting.md", "holdfast.toml"]


def test_one_feature_and_some_faults_can_be_chosen(three_wires):
    result = drill(three_wires, "--feature", "ask", "--fault", "cut", "--fault", "silence")
    assert result.returncode == 0
    lines = [line.split("\t")[0] for line in result.stdout.splitlines() if "\t" in line]
    assert lines == ["fault", "silence", "cut inside the answer"]


def test_a_pipeline_that_wants_answers_fails_on_errors_and_last_resorts(three_wires):
    lonely = three_wires / "lonely.toml"
    lonely.write_text(
        '[models.gpt]\nprovider = "ollama"\n[features.ask]\nmodels = ["gpt"]\nlast_resort = { message = "Later." }\n'
    )
    chosen = ("--config", "lonely.toml", "--fault", "throttled")
    assert drill(three_wires, *chosen, "--fail-on", "error").returncode == 0
    strict = drill(three_wires, *chosen, "--fail-on", "last_resort")
    assert strict.returncode == 1
    assert "2 of them fail it (--fail-on last_resort)" in strict.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--config", "nowhere.toml"), "nowhere.toml: there is no such file"),
        (("--feature", "answer"), "there is no feature 'answer': there are ask, greet, sum"),
        (("--fault", "stale"), "there is no fault 'stale': did you mean"),
        (("--config", "greeting.md"), "not TOML"),
        (("--html", "no/such/place.html", "--feature", "ask", "--fault", "none"), "can't be written"),
    ],
)
def test_what_can_not_be_drilled_is_told_in_a_line_with_exit_code_2(three_wires, args, message):
    result = drill(three_wires, *args)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_models_are_drilled_by_their_own_names_where_there_is_no_feature(tmp_path):
    (tmp_path / "holdfast.toml").write_text('[models.house]\nprovider = "vllm"\nbase_url = "http://10.0.0.5:8000/v1"\n')
    result = drill(tmp_path, "--fault", "none", "--json")
    assert [row["answered_by"] for row in json.loads(result.stdout)["rows"]] == ["house", "house"]


def test_the_faults_can_be_listed(tmp_path):
    result = drill(tmp_path, "--list")
    assert result.returncode == 0
    assert "stalled\tThe first model falls silent inside the answer, for good." in result.stdout


CONTRACTS = """
[models.gpt]
provider = "ollama"
[models.claude]
provider = "ollama"
[features.ticket]
models   = ["gpt", "claude"]
contract = "app:Ticket"
deadline = "10s"
[features.sum]
models   = ["gpt", "claude"]
contract = "app:adds_up"
[features.plain]
models   = ["gpt", "claude"]
"""
APP = """
import holdfast
from pydantic import BaseModel

class Ticket(BaseModel):
    urgent: bool
    summary: str

@holdfast.predicate
def adds_up(answer):
    "it is the answer"
    return "42" in answer
"""


@pytest.fixture
def contracts(tmp_path) -> Path:
    (tmp_path / "holdfast.toml").write_text(CONTRACTS)
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def test_contracts_are_met_by_the_models_or_said_to_be_off(contracts):
    chosen = ("--fault", "wrong_shape", "--fault", "hang_up", "--fault", "none")
    result = drill(contracts, *chosen, "--html", "drill.html")
    assert result.returncode == 0, result.stdout + result.stderr
    tables = result.stdout.split("\n\n")
    assert ["wrong shape for good" in table for table in tables[:3]] == [True, False, False]
    assert "The contract app:adds_up is off for this drill: no answer could be made up that meets it." in tables[1]
    assert "Without its contract: sum." in tables[3]
    assert "sum: The contract app:adds_up is off for this drill" in (contracts / "drill.html").read_text()


def test_faults_that_can_befall_no_feature_are_told_with_exit_code_2(contracts):
    result = drill(contracts, "--feature", "sum", "--feature", "plain", "--fault", "fenced")
    assert result.returncode == 2
    assert "none of these faults can befall sum, plain: they are about contracts or streams" in result.stderr
    assert "sum: The contract app:adds_up is off for this drill" in result.stderr
