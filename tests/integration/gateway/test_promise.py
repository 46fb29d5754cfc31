"""Every call ends in one of three ways, in time and once in the log, whatever the provider or the caller does."""

import json
import time
from collections.abc import Iterator

import pytest

from acceptance.gateways import PROVIDER_KEY, Gateway, running_gateway
from integration.gateway.caller import Caller
from integration.gateway.provider import DONE, OPEN, STREAM, Script, answer, event, running_provider, whole

CHAT = "/v1/chat/completions"
LONG = "x" * 3_000_000
COUNTS = {"empty": {}, "zeros": {"prompt_tokens": 0, "completion_tokens": 0}, "huge": {"prompt_tokens": 2**62}}
COUNTS["negative"] = {"prompt_tokens": -3, "completion_tokens": 2}
SCRIPT: Script = {
    "fine": [answer(usage={"prompt_tokens": 3, "completion_tokens": 2})],
    "silent": [OPEN],
    "twice": [STREAM, event("one"), event(finish="stop"), event(finish="stop"), DONE],
    "third": [STREAM, event("one", choice=2), event(finish="stop", choice=2), DONE],
    "limited": [b"HTTP/1.1 429 X\r\nretry-after: 7\r\ncontent-length: 9\r\n\r\n{", OPEN],
    "refusing": [b"HTTP/1.1 404 X\r\ncontent-length: 9\r\n\r\n{"],
    "telltale": [whole({"error": {"message": "Bad header: " + PROVIDER_KEY}}, status=400)],
    "unclosed": [STREAM, event("pong"), event(finish="stop"), OPEN],
    "gushing": [STREAM, *[event("x" * 1000)] * 1000, OPEN],
    "long": [answer(LONG)],
    "longstream": [STREAM, *[event("x" * 1000)] * 10_000, event(finish="stop"), DONE],
} | {name: [answer(usage=usage)] for name, usage in COUNTS.items()}
MORE = f"""
[features.patient]
models = ["silent", "fine"]

[features.hasty]
models = ["limited"]
retries = 0
timeouts = {{ first_token = "200ms" }}

[features.resigned]
models = ["silent"]
last_resort = {{ message = "{LONG}" }}
"""


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    with running_provider(SCRIPT) as url:
        yield url


def configuration(url: str, limits: str = "") -> str:
    models = [
        f'[models.{name}]\nprovider = "openai"\nbase_url = "{url}"\nprice = {{ input = 2.0, output = 10.0 }}\n'
        f'headers = {{ x-ours = {{ env = "PROVIDER_KEY" }} }}\n'
        for name in SCRIPT
    ]
    return f"[gateway]\n{limits}\n[log]\nflush_ms = 10\n" + "".join(models) + MORE


@pytest.fixture(scope="module")
def gateway(provider, tmp_path_factory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), configuration(provider)) as running:
        yield running
        assert "Traceback" not in running.stderr


def ask(model: str, **more: object) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "ping"}], **more}).encode()


def within(seconds: float) -> str:
    return f"x-holdfast-deadline-ms: {seconds * 1000:.0f}"


def events_of(response) -> list:
    return [json.loads(line[6:]) for line in response.body.split(b"\n\n") if line.startswith(b"data: {")]


# --- what the provider does -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "n"), [("twice", 2), ("third", 1)])
def test_a_stream_without_each_of_its_choices_is_broken_off(gateway, model, n):
    with Caller(gateway.url) as caller:
        response = caller.post(CHAT, ask(model, n=n, stream=True))
    assert events_of(response)[-1]["error"]["code"] == "broken_stream"
    assert gateway.call(response.headers["x-holdfast-call"])["outcome"] == "error"


@pytest.mark.parametrize("model", COUNTS)
def test_a_count_of_tokens_that_can_not_be_costs_an_unknown_amount_and_harms_no_log(gateway, model):
    with Caller(gateway.url) as caller:
        response = caller.post(CHAT, ask(model))
        assert response.status == 200
        assert "x-holdfast-cost" not in response.headers
        after = caller.post(CHAT, ask("fine"))
    assert gateway.call(response.headers["x-holdfast-call"])["cost_usd"] is None
    assert gateway.call(after.headers["x-holdfast-call"])["outcome"] == "answered"


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_whose_body_does_not_come_is_still_that_error(gateway, stream):
    with Caller(gateway.url) as caller:
        limited = caller.post(CHAT, ask("hasty", stream=stream))
        refused = caller.post(CHAT, ask("refusing", stream=stream))
    assert (limited.status, limited.headers["retry-after"]) == (429, "7")
    assert refused.json["error"]["code"] != "connection_failed"


def test_a_secret_header_that_a_provider_repeats_reaches_nobody(gateway):
    with Caller(gateway.url) as caller:
        response = caller.post(CHAT, ask("telltale"))
    call = gateway.call(response.headers["x-holdfast-call"])
    assert "Bad header" in response.json["error"]["message"]
    assert PROVIDER_KEY not in str(response) + json.dumps(call)


def test_a_streamed_answer_is_as_limited_as_a_whole_one(provider, tmp_path):
    config = configuration(provider, 'max_answer = "100KB"')
    with running_gateway(tmp_path, config) as gateway, Caller(gateway.url) as caller:
        response = caller.post(CHAT, ask("gushing", stream=True))
    assert events_of(response)[-1]["error"]["code"] == "broken_stream"
    assert len(response.body) < 200_000


@pytest.mark.parametrize("stream", [False, True])
def test_a_silent_model_leaves_the_next_one_time_before_the_deadline(gateway, stream):
    with Caller(gateway.url) as caller:
        response = caller.post(CHAT, ask("patient", stream=stream), within(0.6))
    assert b"pong" in response.body
    assert response.status == 200


def test_a_whole_answer_is_given_before_the_deadline_though_its_provider_never_closes(gateway):
    with Caller(gateway.url) as caller:
        response = caller.post(CHAT, ask("unclosed", stream=True), within(0.5))
    assert events_of(response)[-1]["holdfast"]["outcome"] == "answered"


# --- what the caller does ---------------------------------------------------------------------------------------------


def sluggish(gateway: Gateway) -> Caller:
    """A caller that has hardly any room for what it does not read."""
    return Caller(gateway.url, receive_buffer=4096)


def logged(gateway: Gateway, name: str, count: int) -> list:
    """Return the newest calls of a name, when there are so many."""
    patience = time.monotonic() + 5
    while len(calls := gateway.get(f"/api/calls?name={name}")["calls"]) < count and time.monotonic() < patience:
        time.sleep(0.01)
    assert len(calls) == count
    return calls


def test_a_last_resort_that_nobody_reads_ends_at_the_deadline_and_one_that_is_left_is_recorded_too(gateway):
    request = ask("resigned", stream=True)
    with sluggish(gateway) as caller:
        caller.send(caller.request(CHAT, request, within(0.5)))
        (call,) = logged(gateway, "resigned", 1)
        assert (call["outcome"], call["error"]) == ("error", "deadline_exceeded")
    with sluggish(gateway) as caller:
        caller.send(caller.request(CHAT, request, within(1.5)))
        caller.until(b"\r\n\r\n")
        caller.reset()
    assert logged(gateway, "resigned", 2)[0]["outcome"] == "cancelled"


def test_a_call_behind_a_stream_that_was_not_read_in_time_is_answered_when_it_is_read(gateway):
    with sluggish(gateway) as caller:
        caller.send(caller.request(CHAT, ask("longstream", stream=True), within(0.5)))
        caller.send(caller.request(CHAT, ask("unclosed", stream=True)))
        assert logged(gateway, "longstream", 1)[0]["error"] == "deadline_exceeded"
        assert events_of(caller.response())[-1]["error"]["code"] == "deadline_exceeded"
        assert events_of(caller.response())[-1]["holdfast"]["outcome"] == "answered"


def test_answers_that_nobody_reads_do_not_pile_up(gateway):
    with sluggish(gateway) as caller:
        caller.send(caller.request(CHAT, ask("long")) * 10)
        logged(gateway, "long", 1)
        with Caller(gateway.url) as other:
            for _ in range(5):
                assert other.post(CHAT, ask("fine")).status == 200
        logged(gateway, "long", 1)
        for _ in range(10):
            assert caller.response().status == 200
    logged(gateway, "long", 10)
