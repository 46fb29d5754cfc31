"""Signing in to the console, and out again."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from guarded import PASSWORD, Guarded, Headers, Response, ask, bearer, guarded
from holdfast.errors import LogError, PrivacyError, StateError
from holdfast.gateway.serving.asgi import MOST_OF_A_PAGE
from holdfast.gateway.serving.pages import failures

SESSION = "/api/session"


@pytest.fixture
async def found(tmp_path) -> AsyncIterator[Guarded]:
    async with guarded(tmp_path) as one:
        one.accounts.create("anna", "developer", "acme", PASSWORD)
        one.refresh()
        yield one


async def sign_in(found: Guarded, name: str = "anna", password: str = PASSWORD, **more: Any) -> Response:
    body = json.dumps({"name": name, "password": password}).encode()
    return await ask(found.gateway, "POST", SESSION, body=body, **more)


def cookie_of(response: Response) -> Headers:
    return (
        (b"cookie", b"theme=dark; " + response.headers[b"set-cookie"].partition(b";")[0]),
        (b"origin", b"http://localhost"),
    )


def actions(found: Guarded) -> list[tuple[str, str]]:
    return [(entry.actor, entry.action) for entry in found.entries()]


async def test_an_account_signs_in_acts_and_signs_out(found):
    opened = await sign_in(found)
    assert opened.status == 200
    who = {"account": "anna", "key": None, "tenant": "acme", "role": "developer", "features": None}
    assert json.loads(opened.body) == who
    cookie = cookie_of(opened)
    shown = await ask(found.gateway, "GET", SESSION, cookie)
    assert json.loads(shown.body) == who
    assert (await ask(found.gateway, "GET", "/api/calls", cookie)).status == 200
    assert (await ask(found.gateway, "GET", "/api/audit", cookie)).status == 403
    closed = await ask(found.gateway, "DELETE", SESSION, cookie)
    assert closed.status == 200
    assert b"Max-Age=0" in closed.headers[b"set-cookie"]
    assert (await ask(found.gateway, "GET", SESSION, cookie)).status == 401
    assert actions(found) == [("account:anna", "sign_in"), ("account:anna", "sign_out")]


async def test_the_cookie_is_kept_from_scripts_and_from_pages_elsewhere(found):
    kept = (await sign_in(found)).headers[b"set-cookie"].decode().split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} < set(kept)
    assert "Secure" not in kept
    origin = ((b"origin", b"https://localhost"),)
    for more in ({"scheme": "https"}, {"headers": origin}):
        assert "Secure" in (await sign_in(found, **more)).headers[b"set-cookie"].decode().split("; ")


async def test_a_wrong_name_and_a_wrong_password_are_answered_alike(found):
    answers = [await sign_in(found, *pair) for pair in (("anna", "wrong"), ("nobody", PASSWORD), ("", ""))]
    assert {answer.status for answer in answers} == {401}
    said = [json.loads(answer.body)["error"]["message"] for answer in answers]
    assert len(set(said)) == 1
    assert all(b"set-cookie" not in answer.headers for answer in answers)


async def test_a_failure_is_recorded_without_what_was_typed(found):
    await sign_in(found, "anna", "wrong password 1")
    await sign_in(found, "my password in the wrong field", "anna")
    assert [(entry.action, entry.details["account"]) for entry in found.entries()] == [
        ("sign_in_failed", "anna"),
        ("sign_in_failed", None),
    ]
    assert b"password" not in found.trail.path.read_bytes()


async def test_guessing_is_slowed_down_and_leaves_a_bounded_trail(found):
    answers = [await sign_in(found, "anna", "wrong") for _ in range(30)]
    assert answers[-1].status == 429
    assert json.loads(answers[-1].body)["error"]["code"] == "too_many_tries"
    assert int(answers[-1].headers[b"retry-after"]) > 0
    assert len(actions(found)) < 15


async def test_of_many_failures_some_are_recorded_and_the_rest_as_one_number(found, monkeypatch):
    monkeypatch.setattr(failures, "MOST", 2)
    monkeypatch.setattr(failures, "WINDOW_S", 3600.0)
    before = asyncio.all_tasks()
    assert {(await sign_in(found, f"nobody {at}")).status for at in range(5)} == {401}
    assert len(found.entries()) == 2
    (waiting,) = asyncio.all_tasks() - before
    waiting.cancel()  # as when the gateway ends
    await asyncio.wait([waiting])
    assert found.entries()[-1].details == {"account": None, "failures": 3}


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"null", b'{"name": "anna"}', b'{"name": 1, "password": "x"}', b"\xff", b"[" * 4000,
     b'{"name": "anna", "password": "secret-word", "more": 1}', b'{"name": "\\ud800", "password": 3}', b"name=anna"],
)  # fmt: skip
async def test_what_is_no_name_and_password_is_refused_and_not_repeated(found, body):
    response = await ask(found.gateway, "POST", SESSION, body=body)
    assert response.status == 400
    assert b"secret-word" not in response.body


@pytest.mark.parametrize("name", ["\ud800", "a\x00b", "x" * 3000, "ANNA", "anna ", "' OR 1=1 --"])
async def test_names_that_are_none_are_wrong_names(found, name):
    body = json.dumps({"name": name, "password": PASSWORD}).encode()
    assert (await ask(found.gateway, "POST", SESSION, body=body)).status in (400, 401)


async def test_a_body_that_is_too_large_is_refused(found):
    body = json.dumps({"name": "anna", "password": "x" * MOST_OF_A_PAGE}).encode()
    assert (await ask(found.gateway, "POST", SESSION, body=body)).status == 413


async def test_nobody_signs_in_unrecorded(found, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise PrivacyError("the disk is full")

    monkeypatch.setattr(found.trail, "append", full)
    response = await sign_in(found)
    assert response.status == 503
    assert b"set-cookie" not in response.headers
    assert not found.accounts.sessions()


async def test_state_that_can_not_be_read_is_told_as_such_without_its_place(found, monkeypatch, caplog):
    def broken(*_: object) -> None:
        raise StateError("/srv/state.db: the file is damaged")

    monkeypatch.setattr(found.accounts, "verify", broken)
    response = await sign_in(found)
    assert response.status == 503
    assert b"state.db" not in response.body
    assert "/srv/state.db: the file is damaged" in caplog.text


async def test_a_log_that_can_not_be_read_is_told_as_such_without_its_place(found, monkeypatch, caplog):
    def broken(*_: object) -> None:
        raise LogError("/srv/log.db: the disk failed: check it")

    monkeypatch.setattr(found.app._log, "get", broken)
    response = await ask(found.gateway, "GET", "/api/calls/01A", bearer(found.key("admin")))
    assert response.status == 503
    assert b"log.db" not in response.body
    assert "/srv/log.db: the disk failed" in caplog.text


async def test_a_key_tells_who_it_is_and_has_no_session_to_end(found):
    token = found.key("app", features=("answer",))
    shown = json.loads((await ask(found.gateway, "GET", SESSION, bearer(token))).body)
    assert shown == {"account": None, "key": token[:11], "tenant": "acme", "role": "app", "features": ["answer"]}
    assert (await ask(found.gateway, "DELETE", SESSION, bearer(token))).status == 400


async def test_a_change_of_the_password_ends_the_sessions(found):
    cookie = cookie_of(await sign_in(found))
    found.accounts.change_password("anna", PASSWORD + "!")
    found.refresh()
    assert (await ask(found.gateway, "GET", SESSION, cookie)).status == 401
