"""What features with contracts do when no model keeps them, what the log says of it, and how contracts change."""

import json
import signal
import subprocess
import sys
import time
import uuid

import pytest

from acceptance.contracts import FENCED, FILES, PART, RESORT, RIGHT, SCHEMA, VALUE, WRONG, contracts, says
from acceptance.processes import soon
from acceptance.sdks import USER

both_ways = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
both_wires = pytest.mark.parametrize("wire", ["openai", "anthropic"])
FUNCTION = {"place": "contract_violated", "metres": 1}


def ask(gateway, wire, model, streamed=False, **more):
    """Return the text of an answer, or its error."""
    path = "/v1/messages" if wire == "anthropic" else "/v1/chat/completions"
    body = {"model": model, "messages": USER, "max_tokens": 99, **more}
    if streamed:
        return "".join([_piece(wire, payload) for payload in gateway.events(path, body | {"stream": True})])
    status, answer = gateway.post(path, body)
    if status != 200:
        return answer["error"]
    return answer["content"][0]["text"] if wire == "anthropic" else answer["choices"][0]["message"]["content"]


def _piece(wire, payload):
    assert "error" not in payload, payload
    if wire == "anthropic":
        return payload.get("delta", {}).get("text", "")
    return "".join([choice["delta"].get("content") or "" for choice in payload["choices"]])


def asked(gateway, wire, model, streamed=False, **more):
    """As `ask`, with the call as the log shows it."""
    session = uuid.uuid4().hex
    answer = ask(gateway, wire, model, streamed, holdfast={"session": session}, **more)
    (call,) = gateway.calls(session=session)
    return answer, gateway.call(call["id"])


def shown(gateway, id, *more):
    """What the terminal shows of a call."""
    command = [sys.executable, "-m", "holdfast", "calls", "show", id, "--log", str(gateway.log_path), *more]
    run = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


# --- the last resort --------------------------------------------------------------------------------------------------


@both_ways
@both_wires
@pytest.mark.parametrize("form", ["object", "message", "file", "function"])
@pytest.mark.parametrize("how", ["hold", "pass", "object"])
def test_a_last_resort_has_the_shape_of_an_answer(keeping, providers, form, how, wire, streamed):
    says(providers, "gpt", "no")
    text, call = asked(keeping, wire, f"resort-{form}-{how}", streamed)
    assert json.loads(text) == (FUNCTION if form == "function" else json.loads(RESORT))
    assert (call["outcome"], call["error"], call["contract"]) == ("last_resort", "contract_violated", "depth.json")


@both_wires
@pytest.mark.parametrize("name", ["resort-object-object", "off-depth", "nobody-depth"])
def test_a_last_resort_is_an_object_on_the_stream_too(keeping, providers, wire, name):
    says(providers, "gpt", "no")
    path = "/v1/messages" if wire == "anthropic" else "/v1/chat/completions"
    body = {"model": name, "messages": USER, "max_tokens": 9, "stream": True, "holdfast": {"stream": "object"}}
    told = [payload["holdfast"] for payload in keeping.events(path, body) if "holdfast" in payload]
    resort = json.loads(RESORT)
    assert told[0] == {"event": "object", "object": resort, "complete": [*[f"/{key}" for key in resort], ""]}
    assert told[-1]["outcome"] == "last_resort"


@both_ways
@both_wires
@pytest.mark.parametrize("name", ["off-depth", "nobody-depth"])
def test_a_feature_that_serves_nobody_answers_in_its_shape(keeping, providers, wire, streamed, name):
    assert json.loads(ask(keeping, wire, name, streamed)) == json.loads(RESORT)
    assert providers.requests == []


@both_wires
def test_a_feature_that_is_off_and_has_no_last_resort_is_a_typed_error(keeping, providers, wire):
    assert "dark-depth" in ask(keeping, wire, "dark-depth")["message"]
    assert providers.requests == []


def test_a_last_resort_does_not_stand_for_what_a_call_asks_beyond_it(keeping, providers):
    says(providers, "gpt", "no")
    format = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"required": ["salt"]}}}
    assert ask(keeping, "openai", "resort-object-hold", response_format=format)["code"] == "contract_violated"
    assert "does not meet the contract of the call" in keeping.stderr


def test_a_last_resort_that_fails_its_contract_is_found_at_start(keeping, simulator, tmp_path):
    wrong = '[features.wrong]\nmodels = ["gpt"]\ncontract = "depth.json"\nlast_resort = { message = "Later." }\n'
    files = {**FILES, "holdfast.toml": contracts(simulator, wrong), "greeting.md": "x"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "holdfast", "serve", "--config", str(tmp_path / "holdfast.toml"), "--port", "0"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert run.returncode != 0
    assert "features.wrong.last_resort.message: does not meet the contract" in run.stderr + run.stdout


# --- the log ----------------------------------------------------------------------------------------------------------


def test_the_log_tells_repairs_and_what_was_asked_again(keeping, providers):
    says(providers, "gpt", WRONG, "```json\n" + PART + "\n```")
    text, call = asked(keeping, "openai", "depth-gpt")
    assert json.loads(text) == VALUE
    assert [(attempt["reason"], attempt["error"]) for attempt in call["attempts"]] == [
        ("first", "contract_violated"),
        ("reask", None),
    ]
    assert "quite deep" in call["attempts"][0]["message"]
    assert call["repairs"] == len(call["ledger"]) > 0
    text = shown(keeping, call["id"])
    for words in ("depth.json", "mends an answer", "fence", "contract_violated"):
        assert words in text
    assert json.loads(shown(keeping, call["id"], "--json"))["ledger"] == call["ledger"]


def test_the_log_tells_the_tokens_that_a_given_up_stream_saved(keeping, providers):
    says(providers, "gpt", RIGHT)
    ask(keeping, "openai", "depth-gpt", True)
    endless = {"text": '{"metres": [ ' + "1, " * 50, "tps": 100}
    providers.follow({"models": {"gpt": {"text": RIGHT, "steps": [endless]}}})
    text, call = asked(keeping, "openai", "depth-gpt", True)
    assert text == RIGHT
    assert call["attempts"][0]["saved_tokens"] > 0
    assert call["attempts"][0]["estimated"]
    assert "tokens early" in shown(keeping, call["id"])


def test_the_log_tells_how_a_vote_went_and_whose_answer_was_given_again(keeping, providers):
    says(providers, "gpt", FENCED)
    text, call = asked(keeping, "openai", "elected")
    assert json.loads(text) == VALUE
    assert (call["samples"], call["agreement"], call["contract"]) == (2, 1.0, "depth.json")
    assert call["repairs"] == len(call["ledger"]) > 0
    assert "agree" in shown(keeping, call["id"])
    first, one = asked(keeping, "openai", "again", user="replayed")
    second, two = asked(keeping, "openai", "again", user="replayed")
    assert first == second
    assert (one["replayed"], two["replayed"]) == (None, one["id"])
    assert two["contract"] == "depth.json"
    assert one["id"] in shown(keeping, two["id"])


def test_what_is_not_stored_leaves_no_ledger(keeping, providers):
    says(providers, "gpt", FENCED)
    text, call = asked(keeping, "openai", "discreet")
    assert json.loads(text) == VALUE
    assert call["repairs"] > 4
    assert "ledger" not in call
    text = json.dumps(call) + shown(keeping, call["id"])
    assert "kelp" not in text
    says(providers, "gpt", WRONG)
    _, call = asked(keeping, "openai", "discreet")
    assert call["outcome"] == "error"
    text = json.dumps(call) + shown(keeping, call["id"])
    assert "quite deep" not in text


def test_calls_are_found_by_their_contract(keeping, providers):
    says(providers, "gpt", FENCED)
    ask(keeping, "openai", "depth-gpt")
    found = keeping.calls(contract="depth.json", repaired="true")
    assert found
    assert all(call["repairs"] > 0 for call in found)


# --- other limits -----------------------------------------------------------------------------------------------------


@both_ways
def test_an_answer_that_is_cut_is_no_answer(keeping, providers, streamed):
    providers.follow({"models": {"gpt": {"text": RIGHT}, "claude": {"text": RIGHT}, "gemini": {"text": FENCED}}})
    status, answer = keeping.post(
        "/v1/chat/completions", {"model": "ladder", "messages": USER, "max_tokens": 3, "stream": False}
    )
    assert (status, answer["error"]["code"]) == (502, "contract_violated")
    assert len(providers.requests) == 3


def test_nothing_is_asked_again_beyond_the_deadline(keeping, providers):
    providers.follow({"models": {"gpt": {"text": "no", "ttft": "300ms"}}})
    body = {"model": "depth-gpt", "messages": USER, "holdfast": {"deadline_ms": 500}}
    begin = time.monotonic()
    status, _ = keeping.post("/v1/chat/completions", body)
    assert status in (502, 504)
    assert time.monotonic() - begin < 0.5 + 0.15
    assert len(providers.requests) <= 2


def test_several_answers_each_meet_the_contract(keeping, providers):
    says(providers, "gpt", FENCED)
    body = {"model": "depth-gpt", "messages": USER, "n": 3, "holdfast": {"session": "three"}}
    status, answer = keeping.post("/v1/chat/completions", body)
    assert status == 200
    assert [json.loads(choice["message"]["content"]) for choice in answer["choices"]] == [VALUE] * 3
    (call,) = keeping.calls(session="three")
    assert {repair.get("choice", 0) for repair in keeping.call(call["id"])["ledger"]} == {0, 1, 2}


def test_a_request_without_a_contract_reaches_its_provider_and_back_byte_for_byte(keeping, providers):
    answer = (
        '{"id": "x",  "object":"chat.completion","created":1,"model":"m","choices":[{"index":0,'
        '"message":{"role":"assistant","content":"```json\\n{\'a\': 1,}\\n```"},"finish_reason":"stop"}]}'
    )
    fault = {"kind": "status", "status": 200, "body": answer}
    providers.follow({"models": {"gpt": {"faults": [fault]}}})
    body = b'{"model": "gpt",  "messages": [{"role":"user", "content":  "h\\u0069"}], "seed":7, "x": [1 ,2]}'
    status, got = keeping.post("/v1/chat/completions", body)
    assert (status, got) == (200, json.loads(answer))
    assert b'[{"role":"user", "content":  "h\\u0069"}]' in providers.requests[0].raw
    assert b"response_format" not in providers.requests[0].raw


# --- reload -----------------------------------------------------------------------------------------------------------


def change(gateway, file, text):
    path = gateway.directory / file
    fresh = path.with_name(file + ".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.rename(path)
    gateway.process.send_signal(signal.SIGHUP)


def test_a_changed_contract_takes_effect_and_a_wrong_one_changes_nothing(serve, providers):
    gateway = serve(contracts(providers), files=FILES)
    says(providers, "gpt", RIGHT)
    assert ask(gateway, "openai", "depth-gpt") == RIGHT
    old = gateway.get("/readyz")["config"]
    salty = {**SCHEMA, "properties": {**SCHEMA["properties"], "salt": {"type": "number"}}}
    salty["required"] = [*SCHEMA["required"], "salt"]

    change(gateway, "depth.json", '{"type": "nothing"}')
    soon(lambda: "depth.json" in gateway.stderr, 5)
    assert gateway.get("/readyz")["config"] == old
    assert ask(gateway, "openai", "depth-gpt") == RIGHT

    change(gateway, "depth.json", json.dumps(salty))  # whose last resorts lack salt
    soon(lambda: "does not meet the contract" in gateway.stderr, 5)
    assert gateway.get("/readyz")["config"] == old
    assert ask(gateway, "openai", "depth-gpt") == RIGHT

    salted = RIGHT[:-1] + ', "salt": 0.5}'
    says(providers, "gpt", salted)
    assert ask(gateway, "openai", "depth-gpt")["code"] == "contract_violated"
    change(gateway, "depth.json", json.dumps({**salty, "required": SCHEMA["required"]}))
    soon(lambda: gateway.get("/readyz")["config"] != old, 5)
    assert ask(gateway, "openai", "depth-gpt") == salted
    assert ask(gateway, "openai", "shallow-gpt") == salted  # of another contract, which names the same schema


def test_a_contract_that_is_missing_at_start_is_told_with_its_place(tmp_path, simulator):
    files = {**FILES, "holdfast.toml": contracts(simulator), "greeting.md": "x"}
    del files["depth.json"]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "holdfast", "check", "--config", str(tmp_path / "holdfast.toml")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert run.returncode != 0
    assert "features.depth-gpt.contract" in run.stdout + run.stderr
