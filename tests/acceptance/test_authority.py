"""Who may call, as the SDKs of the providers see it: with real keys, real workers and the real command line."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import anthropic
import openai
import pytest

from acceptance.gateways import Gateway, running_gateway
from guarded import PASSWORD
from holdfast.clock import SystemClock
from holdfast.state.accounts import Accounts
from holdfast.state.files import STATE_FILE
from integration.gateway.caller import Caller, head

CONFIG = """
[models.echo]
provider = "simulated"
name = "sim-echo"
price = { input = 1.0, output = 2.0 }

[features.answer]
models = ["echo"]

[log]
flush_ms = 10
"""
USER = [{"role": "user", "content": "ping"}]


def keys(gateway: Gateway, *arguments: str) -> dict[str, str]:
    """Run `holdfast keys` beside the gateway, and return what it printed."""
    command = [sys.executable, "-m", "holdfast", "keys", *arguments, "--json", "--state", str(gateway.log_path.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout.splitlines()[0])


def token(gateway: Gateway, *arguments: str, role: str = "app") -> str:
    return keys(gateway, "create", "--tenant", "acme", "--role", role, *arguments)["token"]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("authority"), CONFIG, "--workers", "2") as running:
        admin = token(running, role="admin")
        _until(lambda: all(status == 401 for status in _asked(running, "wrong")))
        _until(lambda: all(status == 200 for status in _asked(running, admin)))
        yield running
        assert "Traceback" not in running.stderr


def _until(met: Callable[[], bool], seconds: float = 10.0) -> float:
    """Wait for something, and return how long it took."""
    began = time.monotonic()
    while not met():
        assert time.monotonic() - began < seconds
        time.sleep(0.02)
    return time.monotonic() - began


def _asked(gateway: Gateway, key: str) -> set[int]:
    """Return what a key gets on many connections, so that every worker is asked."""
    found = set()
    for _ in range(12):
        with Caller(gateway.url) as caller:
            found.add(caller.get("/v1/models", f"x-api-key: {key}").status)
    return found


def of_openai(gateway: Gateway, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0)


def of_anthropic(gateway: Gateway, key: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=gateway.url, api_key=key, max_retries=0)


def ask_openai(gateway: Gateway, key: str, model: str = "echo") -> str:
    with of_openai(gateway, key) as client:
        return client.chat.completions.create(model=model, messages=USER).choices[0].message.content


def ask_anthropic(gateway: Gateway, key: str, model: str = "echo") -> str:
    with of_anthropic(gateway, key) as client:
        return client.messages.create(model=model, messages=USER, max_tokens=50).content[0].text


def ready(gateway: Gateway, *arguments: str, role: str = "app") -> str:
    """Make a key, and wait until every worker knows it."""
    made = token(gateway, *arguments, role=role)
    _until(lambda: 401 not in _asked(gateway, made))
    return made


def test_a_key_opens_both_wires(gateway):
    key = ready(gateway)
    assert ask_openai(gateway, key) == ask_anthropic(gateway, key) == "ping"
    with anthropic.Anthropic(base_url=gateway.url, auth_token=key, api_key=None) as client:
        assert client.messages.create(model="echo", messages=USER, max_tokens=50).content


@pytest.mark.parametrize("key", ["sk-something", "hf_abcdefgh_" + "x" * 40, "x"])
def test_a_wrong_key_is_an_authentication_error_of_the_sdk(gateway, key):
    with pytest.raises(openai.AuthenticationError) as told:
        ask_openai(gateway, key)
    assert told.value.code == "invalid_api_key"
    with pytest.raises(anthropic.AuthenticationError) as said:
        ask_anthropic(gateway, key)
    assert said.value.body["error"]["type"] == "authentication_error"
    assert key not in str(told.value) + str(said.value) or key == "x"


def test_streams_and_lists_need_a_key_too(gateway):
    with of_openai(gateway, "wrong") as client:
        with pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model="echo", messages=USER, stream=True)
        with pytest.raises(openai.AuthenticationError):
            client.models.list()
        with pytest.raises(openai.AuthenticationError):
            client.embeddings.create(model="echo", input="ping")
    with of_anthropic(gateway, "wrong") as client, pytest.raises(anthropic.AuthenticationError):
        client.models.list()


def test_what_a_key_is_not_for_is_a_permission_error_of_the_sdk(gateway):
    key = ready(gateway, "--features", "answer")
    assert ask_openai(gateway, key, "answer") == ask_anthropic(gateway, key, "answer") == "ping"
    for model in ("echo", "nothing"):
        with pytest.raises(openai.PermissionDeniedError, match=f"may not call '{model}'"):
            ask_openai(gateway, key, model)
        with pytest.raises(anthropic.PermissionDeniedError, match=f"may not call '{model}'"):
            ask_anthropic(gateway, key, model)
    with of_openai(gateway, key) as client:
        assert [model.id for model in client.models.list()] == ["answer"]


def test_a_role_that_may_not_call_is_a_permission_error_of_the_sdk(gateway):
    key = ready(gateway, role="auditor")
    with pytest.raises(openai.PermissionDeniedError, match="auditor"):
        ask_openai(gateway, key)
    with pytest.raises(anthropic.PermissionDeniedError, match="auditor"):
        ask_anthropic(gateway, key)


def test_a_limit_that_is_used_up_is_a_rate_limit_error_of_the_sdk(gateway):
    for ask, error in ((ask_openai, openai.RateLimitError), (ask_anthropic, anthropic.RateLimitError)):
        key = ready(gateway, "--requests", "2/day")
        assert ask(gateway, key)
        assert ask(gateway, key)
        with pytest.raises(error, match="2 requests/day") as told:
            ask(gateway, key)
        assert 0 < int(told.value.response.headers["retry-after"]) <= 86_400
        assert key[:11] in str(told.value)


def test_the_sdk_does_not_wait_for_a_limit_that_lasts(gateway):
    key = ready(gateway, "--requests", "1")
    assert ask_openai(gateway, key)
    began = time.monotonic()
    with (
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=5) as client,
        pytest.raises(openai.RateLimitError) as told,
    ):
        client.chat.completions.create(model="echo", messages=USER)
    assert told.value.type == "insufficient_quota"
    assert time.monotonic() - began < 3


def test_a_revoked_key_is_refused_by_every_worker_within_a_second(gateway):
    key = ready(gateway)
    keys(gateway, "revoke", key[:11])
    assert _until(lambda: _asked(gateway, key) == {401}) < 1.0


def test_a_rotated_key_works_during_the_overlap_and_not_after_it(gateway):
    old = ready(gateway)
    new = keys(gateway, "rotate", old[:11], "--overlap", "2s")["token"]
    _until(lambda: _asked(gateway, new) == {200})
    assert _asked(gateway, old) == {200}
    _until(lambda: _asked(gateway, old) == {401})
    assert _asked(gateway, new) == {200}


def test_who_has_signed_in_is_known_to_every_worker_at_once(gateway):
    with contextlib.closing(Accounts(gateway.log_path.with_name(STATE_FILE), SystemClock())) as accounts:
        accounts.create("anna", "reviewer", "acme", PASSWORD)
    body = json.dumps({"name": "anna", "password": PASSWORD}).encode()
    with Caller(gateway.url) as caller:
        opened = caller.post("/api/session", body)
    assert opened.status == 200
    cookie = f"Cookie: {opened.headers['set-cookie'].partition(';')[0]}"
    for _ in range(20):
        with Caller(gateway.url) as caller:
            assert caller.get("/api/session", cookie).json["account"] == "anna"
    with Caller(gateway.url) as caller:
        caller.send(head("DELETE /api/session HTTP/1.1", f"Host: {caller.host}", f"Origin: {gateway.url}", cookie))
        assert caller.response().status == 200
        assert caller.get("/api/session", cookie).status == 401


def test_what_was_refused_is_counted_over_all_workers_and_not_logged(gateway):
    admin = ready(gateway, role="admin")
    with Caller(gateway.url) as caller:
        page = caller.get("/metrics", f"x-api-key: {admin}").body.decode()
        calls = caller.get("/api/calls?limit=1000", f"x-api-key: {admin}").json["calls"]
    refused = next(line for line in page.splitlines() if 'reason="unauthenticated"' in line)
    assert int(refused.rpartition(" ")[2]) > 20
    assert {call["tenant"] for call in calls} == {"acme"}
    assert not [call for call in calls if call["status"] == 401]
