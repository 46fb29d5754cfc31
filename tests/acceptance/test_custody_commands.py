"""The commands for keys and for data, as processes beside a gateway that serves."""

import json
import os
import random
import signal
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from acceptance.gateways import Gateway, configuration
from acceptance.processes import soon

SECRET = "the kelp forest of Anacapa"
FEATURES = """
[features.same]
models = ["gpt"]
reproducible = true
"""
PASSWORD = "correct horse battery"


@pytest.fixture(params=["1", "2"])
def gateway(request, serve, providers) -> Gateway:
    return serve(configuration(providers, more=FEATURES), "--workers", request.param)


@pytest.fixture
def one_gateway(serve, providers) -> Gateway:
    return serve(configuration(providers, more=FEATURES))


def run(gateway: Gateway, *arguments: str, code: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in the folder of the gateway."""
    command = [sys.executable, "-m", "holdfast", *arguments]
    done = subprocess.run(
        command, cwd=gateway.directory, capture_output=True, text=True, timeout=60, check=False, **options
    )
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def lines(gateway: Gateway, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(gateway, *arguments, "--json").stdout.splitlines()]


def ask(
    gateway: Gateway,
    token: str | None = None,
    *,
    subject: str | None = None,
    text: str = "hello",
    model: str = "answer",
) -> int:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    headers |= {} if subject is None else {"x-holdfast-subject": subject}
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 100}
    return gateway.post("/v1/chat/completions", body, headers)[0]


def create(gateway: Gateway, *options: str, tenant: str = "acme") -> str:
    """Make a key, and wait until all workers know it."""
    token = run(gateway, "keys", "create", "--tenant", tenant, *options).stdout.strip()
    settle(gateway, None, 401)
    settle(gateway, token, 200)
    return token


def settle(gateway: Gateway, token: str | None, status: int) -> None:
    """Wait, a second at most, until whatever worker is asked says the same."""
    soon(lambda: all(knock(gateway, token) == status for _ in range(16)), seconds=1.0)


def knock(gateway: Gateway, token: str | None) -> int:
    """Return what a caller with a key, or without one, is told who calls no model."""
    headers = {} if token is None else {"x-api-key": token}
    request = urllib.request.Request(gateway.url + "/v1/models", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def logged(gateway: Gateway, count: int, *options: str) -> list[dict[str, Any]]:
    """Return the calls in the log, once there are as many."""
    return soon(lambda: len(found := lines(gateway, "calls", *options)) >= count and found)


# --- keys -------------------------------------------------------------------------------------------------------------


def test_from_the_first_key_on_callers_need_one_and_a_revoked_one_is_refused_within_a_second(gateway):
    assert ask(gateway) == 200
    token = create(gateway)
    assert (ask(gateway), ask(gateway, token), ask(gateway, token[:-1] + "!")) == (401, 200, 401)
    run(gateway, "keys", "revoke", token[:11])
    settle(gateway, token, 401)
    assert [row["state"] for row in lines(gateway, "keys", "list")] == ["revoked"]


def test_a_rotated_key_and_its_successor_are_both_valid_until_the_overlap_ends(gateway):
    token = create(gateway)
    successor = run(gateway, "keys", "rotate", token[:11], "--overlap", "2s").stdout.strip()
    settle(gateway, successor, 200)
    assert (ask(gateway, token), ask(gateway, successor)) == (200, 200)
    soon(lambda: ask(gateway, token) == 401)
    assert ask(gateway, successor) == 200


def test_limits_hold_and_the_list_and_the_spend_tell_what_was_used(one_gateway):
    token = create(one_gateway, "--requests", "3", "--budget", "50usd")
    assert [ask(one_gateway, token, model="gpt") for _ in range(4)] == [200, 200, 200, 429]
    [key] = soon(lambda: [row for row in lines(one_gateway, "keys", "list") if row["limits"][1]["spent"] == 3])
    assert 0 < float(key["limits"][0]["spent"]) < 50
    [spent] = soon(lambda: [row for row in lines(one_gateway, "keys", "spend") if row["attempts"] >= 3])
    assert (spent["tenant"], spent["feature"], spent["model"]) == ("acme", "gpt", "gpt")
    assert spent["cost_usd"] == key["limits"][0]["spent"]
    assert "3 requests" in run(one_gateway, "keys", "list").stdout


def test_a_feature_over_its_own_limit_gives_its_last_resort_and_a_key_over_its_own_is_told(serve, providers):
    saving = '[features.saving]\nmodels = ["gpt"]\nrequests = "2/day"\n'
    kind = saving.replace("saving", "kind") + 'last_resort = { message = "Come back tomorrow." }\n'
    gateway = serve(configuration(providers, more=saving + kind))
    token, poor = create(gateway), create(gateway, "--requests", "1", tenant="globex")
    assert [ask(gateway, token, model="saving") for _ in range(3)] == [200, 200, 429]
    assert [ask(gateway, poor, model="kind") for _ in range(2)] == [200, 429]
    assert [ask(gateway, token, model="kind") for _ in range(2)] == [200, 200]
    calls = logged(gateway, 7, "--limit", "100")[::-1]
    assert [(call["outcome"], call["error"]) for call in calls] == [
        *([("answered", None)] * 2),
        ("error", "limit_exceeded"),
        ("answered", None),
        ("error", "limit_exceeded"),
        ("answered", None),
        ("last_resort", "limit_exceeded"),
    ]


def test_a_key_calls_the_features_that_it_is_for(one_gateway):
    token = create(one_gateway, "--features", "same,gpt")
    assert [ask(one_gateway, token, model=model) for model in ("same", "gpt", "answer", "none")] == [200, 200, 403, 403]


def test_an_account_signs_in_until_it_is_removed(one_gateway):
    arguments = ("accounts", "create", "anna", "--role", "admin", "--password-stdin")
    run(one_gateway, *arguments, input=PASSWORD + "\n")
    body = {"name": "anna", "password": PASSWORD}
    origin = {"origin": one_gateway.url}
    assert one_gateway.post("/api/session", body, origin)[0] < 300
    assert one_gateway.post("/api/session", {**body, "password": "another password"}, origin)[0] == 401
    run(one_gateway, "accounts", "remove", "anna")
    assert one_gateway.post("/api/session", body, origin)[0] == 401
    assert [row["action"] for row in lines(one_gateway, "audit", "list", "--limit", "9")][::-1][-5:] == [
        "account.create",
        "sign_in",
        "sign_in_failed",
        "account.remove",
        "sign_in_failed",
    ]


# --- what was said ----------------------------------------------------------------------------------------------------


def test_words_are_masked_unless_they_are_asked_for_and_the_trail_tells_and_verifies(one_gateway):
    token = create(one_gateway)
    ask(one_gateway, token, text=SECRET)
    [call] = logged(one_gateway, 1, "--tenant", "acme", "--outcome", "answered")
    assert SECRET not in run(one_gateway, "calls", "show", call["id"]).stdout
    assert SECRET in run(one_gateway, "calls", "show", call["id"], "--plain").stdout
    assert SECRET not in run(one_gateway, "calls", "search", "ANACAPA").stdout
    assert SECRET in run(one_gateway, "calls", "search", "ANACAPA", "--plain").stdout
    actions = [row["action"] for row in lines(one_gateway, "audit", "list")][::-1]
    assert actions[-4:] == ["key.create", "bodies.read", "bodies.search", "bodies.search"]
    run(one_gateway, "audit", "verify")
    trail = (one_gateway.directory / ".holdfast" / "audit.jsonl").read_text()
    assert not [said for said in (SECRET, "ANACAPA", token) if said in trail]


# --- whose data it is -------------------------------------------------------------------------------------------------


def test_a_subject_is_exported_and_then_erased_while_the_gateway_serves(gateway):
    token, other = create(gateway), create(gateway, tenant="globex")
    for key in (token, other):
        for _ in range(4):
            assert ask(gateway, key, subject="ada", text=SECRET, model="same") == 200
    assert ask(gateway, token, subject="bob", text=SECRET) == 200
    logged(gateway, 9, "--outcome", "answered", "--limit", "100")
    for command in (("export", "--output", "ada.jsonl"), ("erase",)):
        assert "more than one tenant: acme, globex" in run(gateway, *command, "--subject", "ada", code=2).stderr
    run(gateway, "export", "--subject", "ada", "--all-tenants", "--output", "ada.jsonl")
    exported = gateway.directory / "ada.jsonl"
    calls = [json.loads(line) for line in exported.read_text().splitlines()]
    assert sorted(call["tenant"] for call in calls) == ["acme"] * 4 + ["globex"] * 4
    assert all(call["request"]["messages"][0]["parts"][0]["text"] == SECRET for call in calls)
    assert stat.S_IMODE(exported.stat().st_mode) == 0o600

    erased = run(gateway, "erase", "--subject", "ada", "--all-tenants", "--output", "certificate.json")
    found = [line.split("\t") for line in erased.stdout.splitlines()[1:]]
    assert [row[1:4] for row in found if row[2] == "log"] == [["acme", "log", "4"], ["globex", "log", "4"]]
    assert {row[1] for row in found if row[2] == "replay" and int(row[3])} == {"acme", "globex"}
    run(gateway, "erase", "--verify", "certificate.json")
    run(gateway, "export", "--subject", "ada", "--output", "ada.jsonl", "--force")
    assert exported.read_text() == ""
    assert [call["subject"] is None for call in logged(gateway, 1, "--subject", "bob", "--tenant", "acme")] == [False]
    assert_nowhere(gateway, [call["id"] for call in calls])

    assert ask(gateway, token, subject="ada", text=SECRET, model="same") == 200
    assert len(logged(gateway, 1, "--subject", "ada", "--tenant", "acme")) == 1


def assert_nowhere(gateway: Gateway, ids: list[str]) -> None:
    """No file of the state directory holds any of these texts."""
    for file in (gateway.directory / ".holdfast").rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert not [id for id in ids if id.encode() in content], file


def test_an_erasure_that_is_killed_is_finished_by_running_it_again(one_gateway):
    token = create(one_gateway)
    chance = random.Random(5)
    for n in range(4):
        subject = f"ada{n}"
        for _ in range(3):
            ask(one_gateway, token, subject=subject, text=SECRET)
        logged(one_gateway, 3, "--subject", subject, "--tenant", "acme")
        command = [sys.executable, "-m", "holdfast", "erase", "--subject", subject]
        killed = subprocess.Popen(
            command, cwd=one_gateway.directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            killed.wait(chance.uniform(0.3, 1.2))
        except subprocess.TimeoutExpired:
            killed.send_signal(signal.SIGKILL)
            killed.wait()
        run(one_gateway, "erase", "--subject", subject, "--output", f"{subject}.json")
        certified = json.loads((one_gateway.directory / f"{subject}.json").read_text())
        assert all(erasure["ended"] for erasure in certified["erasures"])
        assert sum(erasure["found"].get("log", 0) for erasure in certified["erasures"]) <= 3
        assert lines(one_gateway, "calls", "--subject", subject, "--tenant", "acme") == []
    run(one_gateway, "audit", "verify")


# --- the files --------------------------------------------------------------------------------------------------------


def test_a_command_that_may_not_write_the_trail_does_nothing_and_says_so(one_gateway, tmp_path):
    token = create(one_gateway)
    trail = one_gateway.directory / ".holdfast" / "audit.jsonl"
    kept = tmp_path / "kept"
    os.replace(trail, kept)
    trail.mkdir()
    try:
        told = run(one_gateway, "keys", "revoke", token[:11], code=2)
        assert "Nothing was done" in told.stderr
        assert ask(one_gateway, token) == 200
    finally:
        trail.rmdir()
        os.replace(kept, trail)


def test_what_the_commands_make_is_for_its_owner_alone(one_gateway):
    create(one_gateway)
    directory: Path = one_gateway.directory / ".holdfast"
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in directory.rglob("*") if file.is_file()}
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
