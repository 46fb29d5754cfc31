"""`holdfast up` without a configuration, as a newcomer starts it."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest

from holdfast.log.base import Filter
from holdfast.log.sqlite import SqliteLog

UP = [sys.executable, "-m", "holdfast", "up", "--port", "0"]
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in KEYS}


@pytest.fixture
def up(tmp_path) -> Iterator[subprocess.Popen]:
    """The demo, where the environment names an HTTP proxy that does not answer."""
    environment = ENVIRONMENT | {"http_proxy": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"}
    with subprocess.Popen(UP, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.send_signal(signal.SIGTERM)


def test_the_demo_answers_its_first_call_whatever_proxy_the_environment_names(up, tmp_path):
    greeting = next(line for line in up.stdout if "first call" in line)
    assert "Hello!" in greeting
    up.send_signal(signal.SIGTERM)
    assert up.wait() == 0
    log = SqliteLog.read(tmp_path / ".holdfast" / "log.db")
    ((call,),) = log.scan(Filter())
    snapshot = log.snapshot(call.config)
    assert 0 < call.at_us - snapshot.at_us < 60e6
    log.close()


def test_a_key_that_no_header_can_carry_is_told_without_a_traceback(tmp_path):
    environment = ENVIRONMENT | {"OPENAI_API_KEY": "clé"}
    run = subprocess.run(UP, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30)
    assert run.returncode == 2
    assert "models.gpt-5: OPENAI_API_KEY holds characters that no header can carry" in run.stderr
    assert "Traceback" not in run.stderr
    assert "clé" not in run.stderr


@pytest.mark.parametrize("file", ["log.db", "state.db", "keyring.db"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_gateway_does_not_say_that_it_serves_where_its_state_can_not_be_opened(tmp_path, workers, file):
    (tmp_path / "holdfast.toml").write_text('[models.m]\nprovider = "simulated"\n')
    (tmp_path / ".holdfast").mkdir()
    (tmp_path / ".holdfast" / file).write_bytes(b"no database" * 1000)
    serve = [sys.executable, "-m", "holdfast", "serve", "--port", "0", "--workers", workers]
    ended = subprocess.run(serve, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert file in ended.stderr


def test_the_demo_answers_keys_that_have_a_budget_in_money(tmp_path):
    create = [sys.executable, "-m", "holdfast", "keys", "create", "--tenant", "acme", "--budget", "50usd/day"]
    made = subprocess.run(create, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=True)
    body = json.dumps({"model": "answer", "messages": [{"role": "user", "content": "Hello!"}]}).encode()
    head = {"authorization": f"Bearer {made.stdout.strip()}", "content-type": "application/json"}
    with subprocess.Popen(UP, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        address = next(found[0] for line in process.stdout if (found := re.findall(r"http://127\.0\.0\.1:\d+", line)))
        request = urllib.request.Request(f"{address}/v1/chat/completions", body, head)
        with urllib.request.urlopen(request, timeout=30) as response:
            assert json.load(response)["choices"][0]["message"]["content"]
        process.send_signal(signal.SIGTERM)
