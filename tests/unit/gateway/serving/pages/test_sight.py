"""Who sees what: tenants apart, bodies masked, and reading them in plain recorded before it happens."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from guarded import Guarded, Response, ask, bearer, guarded
from holdfast.errors import PrivacyError

SAID = "My name is Zacharias"
TEXT = "zacharias"


@pytest.fixture
async def found(tmp_path) -> AsyncIterator[Guarded]:
    async with guarded(tmp_path) as one:
        yield one


async def call(found: Guarded, token: str, content: str = SAID, model: str = "echo", **more: Any) -> str:
    """Make a call, and return its id when the log has it."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": content}], **more}).encode()
    response = await ask(found.gateway, "POST", "/v1/chat/completions", bearer(token), body)
    assert response.status == 200, response
    async with asyncio.timeout(5):
        while len(found.app.writer):
            await asyncio.sleep(0.002)
    return response.headers[b"x-holdfast-call"].decode()


async def get(found: Guarded, token: str, path: str) -> Response:
    path, _, query = path.partition("?")
    return await ask(found.gateway, "GET", path, bearer(token), query=query.encode())


async def got(found: Guarded, token: str, path: str) -> Any:
    response = await get(found, token, path)
    assert response.status == 200, response
    return json.loads(response.body)


def actions(found: Guarded) -> list[tuple[str, str]]:
    return [(entry.actor, entry.action) for entry in found.entries()]


# --- tenants ----------------------------------------------------------------------------------------------------------


async def test_a_call_is_recorded_under_its_tenant_and_key(found):
    token = found.key("app", "acme")
    id = await call(found, token)
    shown = await got(found, found.key("admin", "house"), f"/api/calls/{id}")
    assert (shown["tenant"], shown["key"]) == ("acme", token[:11])


async def test_what_an_account_calls_is_recorded_under_its_name(found):
    from guarded import cookie

    session = found.session("developer", "acme")
    body = json.dumps({"model": "echo", "messages": [{"role": "user", "content": "x"}]}).encode()
    response = await ask(found.gateway, "POST", "/v1/chat/completions", cookie(session), body)
    async with asyncio.timeout(5):
        while len(found.app.writer):
            await asyncio.sleep(0.002)
    id = response.headers[b"x-holdfast-call"].decode()
    shown = await got(found, found.key("auditor"), f"/api/calls/{id}")
    assert (shown["tenant"], shown["key"]) == ("acme", "account:developer")


@pytest.mark.parametrize("role", ["developer", "reviewer"])
async def test_a_tenant_sees_its_own_calls_alone(found, role):
    mine, theirs = await call(found, found.key("app", "acme")), await call(found, found.key("app", "rival"))
    token = found.key(role, "acme")
    assert [each["id"] for each in (await got(found, token, "/api/calls"))["calls"]] == [mine]
    assert [each["id"] for each in (await got(found, token, "/api/calls?tenant=acme"))["calls"]] == [mine]
    for query in ("name=echo", "before=" + theirs, "limit=1000"):
        shown = await get(found, token, f"/api/calls?{query}")
        assert theirs.encode() not in shown.body
        assert b"rival" not in shown.body
    assert (await get(found, token, "/api/calls?tenant=rival")).status == 403
    assert (await get(found, token, f"/api/calls/{mine}")).status == 200
    hidden, nothing = [await get(found, token, f"/api/calls/{id}") for id in (theirs, theirs[::-1])]
    assert hidden.status == nothing.status == 404
    assert hidden.body.replace(theirs.encode(), b"") != hidden.body  # it names what was asked for, and nothing else
    assert b"rival" not in hidden.body


@pytest.mark.parametrize("role", ["auditor", "admin"])
async def test_those_who_look_after_all_tenants_see_all_calls(found, role):
    ids = [await call(found, found.key("app", tenant)) for tenant in ("acme", "rival")]
    token = found.key(role, "house")
    assert [each["id"] for each in (await got(found, token, "/api/calls"))["calls"]] == ids[::-1]
    assert [each["id"] for each in (await got(found, token, "/api/calls?tenant=rival"))["calls"]] == ids[1:]


async def test_keys_and_spending_are_those_of_the_tenant(found):
    await call(found, found.key("app", "acme"))
    await call(found, found.key("app", "rival"))
    mine, all = found.key("developer", "acme"), found.key("auditor", "house")
    assert {key["tenant"] for key in (await got(found, mine, "/api/keys"))["keys"]} == {"acme"}
    assert {key["tenant"] for key in (await got(found, all, "/api/keys"))["keys"]} == {"acme", "rival", "house"}
    assert {spend["tenant"] for spend in (await got(found, mine, "/api/spend"))["spend"]} == {"acme"}
    assert {spend["tenant"] for spend in (await got(found, all, "/api/spend"))["spend"]} == {"acme", "rival"}
    for page in ("keys", "spend"):
        assert (await get(found, mine, f"/api/{page}?tenant=rival")).status == 403
        assert "acme" in (await get(found, all, f"/api/{page}?tenant=acme")).body.decode()


async def test_keys_are_shown_without_their_tokens_and_hashes(found):
    token = found.key("app", features=("answer",))
    response = await get(found, found.key("admin"), "/api/keys")
    first = json.loads(response.body)["keys"][0]
    assert (first["id"], first["features"], first["standing"]) == (token[:11], ["answer"], "valid")
    assert token[12:].encode() not in response.body
    assert b"digest" not in response.body
    assert found.keys.all()[0].digest.hex().encode() not in response.body


async def test_metrics_tell_a_tenant_what_it_spent_and_nothing_of_others(found):
    await call(found, found.key("app", "acme"), model="answer")
    await call(found, found.key("app", "rival"))
    mine = (await get(found, found.key("developer", "acme"), "/metrics")).body.decode()
    assert 'holdfast_spend_usd_total{tenant="acme",feature="answer",model="echo"}' in mine
    assert 'holdfast_spend_tokens_total{tenant="acme",feature="answer",model="echo",type="input"}' in mine
    assert '"rival"' not in mine
    assert not [line for line in mine.splitlines() if line.startswith("holdfast_calls_total")]
    all = (await get(found, found.key("admin", "house"), "/metrics")).body.decode()
    assert 'holdfast_spend_usd_total{tenant="rival",feature="echo",model="echo"}' in all
    assert 'holdfast_calls_total{name="echo"' in all


# --- what a key may call ----------------------------------------------------------------------------------------------


async def test_a_key_calls_what_it_is_for_and_nothing_else(found):
    token = found.key("app", features=("answer", "gone"))
    assert await call(found, token, model="answer")
    answers = {}
    for model in ("echo", "nothing", "gone"):
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "x"}]}).encode()
        answers[model] = await ask(found.gateway, "POST", "/v1/chat/completions", bearer(token), body)
    assert [answers[model].status for model in ("echo", "nothing", "gone")] == [403, 403, 404]
    told = [json.loads(answers[model].body)["error"]["message"] for model in ("echo", "nothing")]
    assert told[0].replace("echo", "nothing") == told[1]
    assert "echo" not in json.loads(answers["gone"].body)["error"]["message"]


async def test_a_key_is_shown_only_what_it_is_for(found):
    token = found.key("app", features=("answer", "gone"))
    assert [model["id"] for model in (await got(found, token, "/v1/models"))["data"]] == ["answer"]
    assert (await got(found, token, "/v1/models/answer"))["id"] == "answer"
    hidden, nothing = [await get(found, token, f"/v1/models/{name}") for name in ("echo", "quux")]
    assert hidden.status == nothing.status == 404
    assert b"other" not in hidden.body


async def test_whoever_has_no_key_is_not_told_what_can_be_called_nor_what_is_wrong(found):
    found.key("app")
    found.views.reload_error = "holdfast.toml:3: models.secret-model: no such thing"
    for path in ("/", "/healthz", "/readyz", "/openapi.json"):
        response = await ask(found.gateway, "GET", path)
        assert response.status == 200
        for word in (b"secret-model", b'"echo"', b'"answer"', b".db"):
            assert word not in response.body


# --- bodies -----------------------------------------------------------------------------------------------------------


async def test_bodies_are_masked_unless_they_are_asked_for(found):
    id = await call(found, found.key("app"))
    for role in ("developer", "reviewer", "admin"):
        for query in ("", "?bodies=masked"):
            shown = await got(found, found.key(role), f"/api/calls/{id}{query}")
            assert "Zacharias" not in json.dumps(shown)
            assert shown["request"]["messages"][0]["parts"][0]["text"] == "Xx xxxx xx Xxxxxxxxx".lower()
            assert shown["reply"]
    assert actions(found) == []


@pytest.mark.parametrize("role", ["reviewer", "admin"])
async def test_reading_bodies_in_plain_is_recorded(found, role):
    id = await call(found, found.key("app"))
    token = found.key(role)
    assert SAID in json.dumps(await got(found, token, f"/api/calls/{id}?bodies=plain"))
    (entry,) = found.entries()
    assert (entry.actor, entry.action) == (f"key:{token[:11]}", "bodies.read")
    assert (entry.details["call"], entry.details["tenant"]) == (id, "acme")


async def test_bodies_are_not_shown_if_that_can_not_be_recorded(found, monkeypatch):
    id = await call(found, found.key("app"))
    token = found.key("admin")

    def full(*_: object, **__: object) -> None:
        raise PrivacyError("the disk is full")

    monkeypatch.setattr(found.trail, "append", full)
    for path in (f"/api/calls/{id}?bodies=plain", f"/api/calls/search?text={TEXT}"):
        response = await get(found, token, path)
        assert response.status == 503
        assert b"Zacharias" not in response.body


@pytest.mark.parametrize("role", ["developer", "auditor"])
async def test_whoever_may_not_read_bodies_does_not(found, role):
    id = await call(found, found.key("app"))
    token = found.key(role)
    assert (await get(found, token, f"/api/calls/{id}?bodies=plain")).status == 403
    assert actions(found) == []


async def test_an_auditor_sees_no_bodies_at_all(found):
    id = await call(found, found.key("app"))
    token = found.key("auditor")
    for path in (f"/api/calls/{id}", "/api/calls"):
        shown = await got(found, token, path)
        assert not {"request", "reply", "ledger"} & set(shown.get("calls", [shown])[0])
    assert (await get(found, token, f"/api/calls/{id}?bodies=masked")).status == 403


async def test_what_an_error_says_is_masked_too(found):
    token = found.key("app", features=("answer",))
    body = json.dumps({"model": "Zacharias", "messages": [{"role": "user", "content": "x"}]}).encode()
    await ask(found.gateway, "POST", "/v1/chat/completions", bearer(token), body)
    async with asyncio.timeout(5):
        while len(found.app.writer):
            await asyncio.sleep(0.002)
    for role in ("developer", "auditor", "reviewer"):
        calls = await got(found, found.key(role), "/api/calls")
        assert calls["calls"][0]["error"] == "not_allowed"
        assert "Zacharias" not in json.dumps(calls)


async def test_a_word_that_is_none_of_the_query_is_refused(found):
    id = await call(found, found.key("app"))
    for query in ("bodies=all", "body=plain", "bodies=plain&x=1"):
        assert (await get(found, found.key("admin"), f"/api/calls/{id}?{query}")).status == 400


# --- search -----------------------------------------------------------------------------------------------------------


async def test_a_search_finds_the_calls_of_the_tenant_and_is_recorded_by_a_hash(found):
    mine, _ = await call(found, found.key("app", "acme")), await call(found, found.key("app", "rival"))
    token = found.key("reviewer", "acme")
    masked = await got(found, token, f"/api/calls/search?text={TEXT}")
    assert [each["id"] for each in masked["calls"]] == [mine]
    assert "zacharias" not in json.dumps(masked).lower()
    plain = await got(found, token, f"/api/calls/search?text={TEXT}&bodies=plain")
    assert "zacharias" in plain["calls"][0]["places"][0]["excerpt"].lower()
    entries = found.entries()
    assert [(entry.action, entry.details["plain"]) for entry in entries] == [
        ("bodies.search", False),
        ("bodies.search", True),
    ]
    assert {entry.details["wanted"] for entry in entries} == {found.app._subjects.hash(TEXT, "acme")}
    assert TEXT.encode() not in found.trail.path.read_bytes().lower()


async def test_a_search_is_for_something(found):
    token = found.key("admin")
    for query in ("", "text=", "text=" + "x" * 1001, "text=a&limit=0", "text=a&tag=x", "text=a&before=nothing"):
        assert (await get(found, token, f"/api/calls/search?{query}")).status == 400


async def test_only_one_search_runs_at_a_time(found, monkeypatch):
    await call(found, found.key("app"))
    token = found.key("admin")
    both = await asyncio.gather(*[get(found, token, f"/api/calls/search?text={TEXT}") for _ in range(2)])
    assert sorted(response.status for response in both) == [200, 429]
    assert (await get(found, token, f"/api/calls/search?text={TEXT}")).status == 200


# --- the trail --------------------------------------------------------------------------------------------------------


async def test_the_audit_trail_is_shown_in_pages(found):
    for number in range(5):
        found.trail.append("os:root", "key.create", key=f"hf_{number}")
    found.trail.append("os:root", "export", subject="abc")
    token = found.key("auditor")
    seen: list[int] = []
    path = "/api/audit?action=key.create&limit=2"
    while True:
        page = await got(found, token, path)
        seen += [entry["n"] for entry in page["entries"]]
        if page["next"] is None:
            break
        path = f"/api/audit?action=key.create&limit=2&before={page['next']}"
    assert seen == [6, 5, 4, 3, 2]  # the first one says that the trail is signed
    assert [entry["n"] for entry in (await got(found, token, "/api/audit?actor=os:root&limit=1"))["entries"]] == [7]
    for query in ("limit=0", "before=x", "before=" + "9" * 5000, "since=never", "actor=a&x=1"):
        assert (await get(found, token, f"/api/audit?{query}")).status == 400
