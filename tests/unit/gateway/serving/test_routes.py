"""Every route of the running gateway is in the table, and the table is kept."""

import json
from collections.abc import AsyncIterator

import pytest

from guarded import Guarded, Headers, Response, ask, bearer, cookie, guarded
from holdfast.gateway.access import COOKIE
from holdfast.gateway.serving.asgi import Gateway
from holdfast.gateway.serving.pages.openapi import document
from holdfast.gateway.serving.routes import TABLE, CallRoute, Query, Routes, json_page
from holdfast.providers.openai import OpenAISurface
from holdfast.state.keys import ROLES

# Who may use what: app, developer, reviewer, auditor, admin. Written a second time, so that a slip in the table shows.
MEANT = {
    "GET /": "public",
    "GET /healthz": "public",
    "GET /readyz": "public",
    "GET /openapi.json": "public",
    "POST /api/session": "public",
    "GET /api/session": "app developer reviewer auditor admin",
    "DELETE /api/session": "app developer reviewer auditor admin",
    "POST /v1/chat/completions": "app developer reviewer admin",
    "POST /v1/distribution": "app developer reviewer admin",
    "POST /v1/embeddings": "app developer reviewer admin",
    "POST /v1/messages": "app developer reviewer admin",
    "GET /v1/models": "app developer reviewer admin",
    "GET /v1/models/{id}": "app developer reviewer admin",
    "GET /metrics": "developer reviewer auditor admin",
    "GET /api/calls": "developer reviewer auditor admin",
    "GET /api/calls/{id}": "developer reviewer auditor admin",
    "GET /api/calls/search": "reviewer admin",
    "GET /api/keys": "developer reviewer auditor admin",
    "GET /api/spend": "developer reviewer auditor admin",
    "GET /api/audit": "auditor admin",
}


@pytest.fixture
async def found(tmp_path) -> AsyncIterator[Guarded]:
    async with guarded(tmp_path) as one:
        yield one


async def anything(query: Query) -> object:
    return json_page({})


def let_in(response: Response) -> bool:
    return response.status not in (401, 403)


def test_the_table_says_what_was_meant():
    said = {f"{method} {path}": " ".join(sorted(roles or ["public"])) for (method, path), roles in TABLE.items()}
    assert said == {route: " ".join(sorted(roles.split())) for route, roles in MEANT.items()}


async def test_the_running_gateway_serves_the_routes_of_the_table_and_no_others(found):
    assert {(route.method, route.path) for route in found.gateway.routes} == set(TABLE)
    assert all(route.roles == TABLE[route.method, route.path] for route in found.gateway.routes)


def test_the_document_describes_the_routes_of_the_table_and_no_others():
    for names in (None, ["answer"]):
        paths = document(names)["paths"]
        described = {(method.upper(), path): operation for path in paths for method, operation in paths[path].items()}
        assert set(described) == set(TABLE)
        for route, operation in described.items():
            roles = TABLE[route]
            assert operation.get("x-holdfast-roles") == (None if roles is None else sorted(roles))
            assert ({} in operation["security"]) == (roles is not None and names is not None)


@pytest.mark.parametrize("route", [("GET", "/api/secrets"), ("DELETE", "/api/calls"), ("POST", "/healthz")])
def test_a_route_that_the_table_does_not_have_is_not_served(route):
    with pytest.raises(ValueError, match=" ".join(route)):
        Routes({route: anything})


async def test_a_gateway_with_a_call_route_beside_the_table_does_not_start(found):
    with pytest.raises(ValueError, match="POST /v1/more"):
        Gateway(found.app.pipeline, {"/v1/more": CallRoute("chat", OpenAISurface())}, {}, str, OpenAISurface())


async def test_every_route_lets_in_the_roles_of_the_table_by_key_and_by_session_and_nobody_else(found):
    keys = {role: found.key(role) for role in ROLES}
    sessions = {role: found.session(role) for role in ROLES}
    expired = {role: found.key(role, expires_us=int((found.clock.now() + 60) * 1e6)) for role in ROLES}
    revoked = {role: found.key(role) for role in ROLES}
    for token in revoked.values():
        found.keys.revoke(token)
    found.clock.seconds += 120
    found.refresh()
    wrong = [token[:-1] + ("a" if token[-1] != "a" else "b") for token in keys.values()]
    for route in found.gateway.routes:
        path = route.path.replace("{id}", "nothing")

        async def status(*headers: Headers, method: str = route.method, path: str = path) -> int:
            return (await ask(found.gateway, method, path, *headers)).status

        public = route.roles is None
        strangers = [(), *[bearer(token) for token in (*wrong, *expired.values(), *revoked.values(), "", "hf_", "x")]]
        strangers += [cookie(token) for token in (*keys.values(), "", "x" * 43)]
        for headers in strangers:
            answered = await status(headers)
            malformed = 400 if path == "/api/session" else 200  # no name, no password
            assert answered == (malformed if public else 401), (route, headers)
        for role in ROLES:
            for headers in (bearer(keys[role]), ((b"x-api-key", keys[role].encode()),)):
                answered = await status(headers)
                assert (answered in (401, 403)) == (not public and role not in route.roles), (route, role)
                assert public or role in route.roles or answered == 403
                assert answered < 500
            if route.method == "DELETE":
                continue  # which would end the session
            answered = await status(cookie(sessions[role]))
            assert (answered in (401, 403)) == (not public and role not in route.roles), (route, role)


async def test_head_needs_what_get_needs_and_other_methods_need_a_key(found):
    app, admin = bearer(found.key("app")), bearer(found.key("admin"))
    for route in found.gateway.routes:
        path = route.path.replace("{id}", "nothing")
        taken = {other.method for other in found.gateway.routes if other.path == route.path}
        public = any(other.roles is None for other in found.gateway.routes if other.path == route.path)
        if route.method == "GET":
            head, get = [(await ask(found.gateway, method, path)).status for method in ("HEAD", "GET")]
            assert head == get
        for method in {"PUT", "PATCH", "OPTIONS", "TRACE", "get", "FOO"} | {"GET", "POST", "DELETE"} - taken:
            assert (await ask(found.gateway, method, path)).status == (405 if public else 401)
            for key in (app, admin):
                response = await ask(found.gateway, method, path, key)
                assert response.status == 405
                assert set(response.headers[b"allow"].decode().split(", ")) - {"HEAD"} == taken


@pytest.mark.parametrize(
    "path",
    ["/nothing", "//api/calls", "/api/calls/", "/api//calls", "/API/CALLS", "/api/calls/a/b", "/api/./calls", "",
     "/healthz/", "/v1/models/a/b", "/api/calls\x00", "*", "/metrics/", "/metrics;x", "/readyz/../metrics"],
)  # fmt: skip
async def test_whoever_is_not_let_in_is_not_told_what_there_is(found, path):
    key = bearer(found.key("admin"))
    for method in ("GET", "POST", "DELETE"):
        assert (await ask(found.gateway, method, path)).status == 401
        assert (await ask(found.gateway, method, path, key)).status == 404


async def test_while_there_are_no_keys_everyone_on_this_machine_may_do_everything(found):
    for route in found.gateway.routes:
        response = await ask(found.gateway, route.method, route.path.replace("{id}", "nothing"))
        assert response.status == 400 if route.path == "/api/session" and route.method != "GET" else let_in(response)
        assert response.status < 500


async def test_without_keys_nobody_is_let_in_where_other_machines_reach_the_gateway(found):
    for server in (("0.0.0.0", 8080), ("192.0.2.7", 8080), ("::", 8080)):
        for path in ("/api/calls", "/healthz", "/v1/models"):
            response = await ask(found.gateway, "GET", path, server=server)
            assert response.status == 403
    for server in (("127.0.0.1", 8080), ("::1", 8080)):
        assert (await ask(found.gateway, "GET", "/api/calls", server=server)).status == 200


async def test_once_there_is_a_key_other_names_and_pages_elsewhere_reach_the_gateway_with_it(found):
    key = bearer(found.key("developer"))
    elsewhere = (*key, (b"origin", b"https://app.example"))
    assert (await ask(found.gateway, "GET", "/api/calls", elsewhere, host=b"llm.example")).status == 200


# --- credentials ------------------------------------------------------------------------------------------------------


async def test_a_refusal_of_a_key_says_what_to_bring_and_not_what_is_wrong(found):
    token = found.key("app")
    found.keys.revoke(token)
    found.refresh()
    answers = [await ask(found.gateway, "GET", "/v1/models", bearer(key)) for key in (token, "hf_abcdefgh_x", "sk-1")]
    answers.append(await ask(found.gateway, "GET", "/v1/models"))
    assert all(answer.headers[b"www-authenticate"] == b"Bearer" for answer in answers)
    said = [json.loads(answer.body)["error"] for answer in answers]
    assert all(error.pop("call") for error in said)
    assert all(error == said[0] for error in said)
    assert token not in str(answers)


async def test_a_caller_without_a_key_is_answered_before_its_body_is_read(found):
    found.key("app")
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/embeddings", "/v1/distribution"):
        response = await ask(found.gateway, "POST", path, ((b"content-length", b"9"),), body=None)
        assert response.status == 401


async def test_refused_callers_are_counted_and_not_logged(found):
    admin = bearer(found.key("admin"))
    for _ in range(7):
        await ask(found.gateway, "POST", "/v1/chat/completions", bearer("hf_wrong"), b"{}")
    await ask(found.gateway, "POST", "/v1/chat/completions", admin + admin, b"{}")
    assert json.loads((await ask(found.gateway, "GET", "/api/calls", admin)).body)["calls"] == []
    page = (await ask(found.gateway, "GET", "/metrics", admin)).body.decode()
    assert 'holdfast_refused_total{reason="unauthenticated"} 7' in page.splitlines()
    assert len(found.app.writer) == 0


@pytest.mark.parametrize(
    "headers",
    [
        ((b"authorization", b"Bearer {key}"), (b"authorization", b"Bearer {key}")),
        ((b"x-api-key", b"{key}"), (b"x-api-key", b"{key}")),
        ((b"x-api-key", b"{key}"), (b"authorization", b"Bearer {other}")),
        ((b"x-api-key", b"{other}"), (b"authorization", b"Bearer {key}")),
        ((b"x-api-key", b"wrong"), (b"authorization", b"Bearer {key}")),
        ((b"cookie", b"a=1"), (b"cookie", b"b=1"), (b"authorization", b"Bearer {key}")),
        ((b"cookie", COOKIE.encode() + b"={session}"), (b"authorization", b"Bearer {key}")),
        ((b"cookie", COOKIE.encode() + b"=wrong"), (b"x-api-key", b"{key}")),
    ],
)
async def test_credentials_that_contradict_each_other_are_refused(found, headers):
    values = {"key": found.key("admin"), "other": found.key("app"), "session": found.session("admin")}
    filled = tuple((name, value.decode().format(**values).encode()) for name, value in headers)
    for method, path in (("GET", "/api/calls"), ("POST", "/v1/chat/completions")):
        assert (await ask(found.gateway, method, path, filled)).status == 400


async def test_the_same_key_may_be_brought_in_both_ways_and_other_cookies_do_not_matter(found):
    token = found.key("developer")
    both = (*bearer(token), (b"x-api-key", token.encode()), (b"cookie", b"theme=dark"))
    assert (await ask(found.gateway, "GET", "/api/calls", both)).status == 200
    assert (await ask(found.gateway, "GET", "/api/calls", (*bearer(token), (b"x-api-key", b"")))).status == 200


# --- sessions and pages elsewhere -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin",
    [b"http://evil.example", b"null", b"", b"localhost", b"http://localhost.evil.example", b"http://localhost:81",
     b"http://localhost/", b"ftp://localhost", b"http://user@localhost", b"http://\xff"],
)  # fmt: skip
async def test_a_page_elsewhere_can_change_nothing_with_a_session(found, origin):
    session = found.session("admin", None)
    for method, path in (("POST", "/v1/chat/completions"), ("DELETE", "/api/session")):
        response = await ask(found.gateway, method, path, cookie(session, origin), body=None)
        assert response.status == 403
        without = ((b"cookie", f"{COOKIE}={session}".encode()),)
        refused = await ask(found.gateway, method, path, without, body=None)
        assert (refused.status, b"send `Origin: http://HOST`" in refused.body) == (403, True)
    if origin:
        response = await ask(found.gateway, "POST", "/api/session", ((b"origin", origin),), body=None)
        assert response.status == 403
    assert (await ask(found.gateway, "GET", "/api/session", cookie(session, origin))).status == 200


async def test_a_page_of_the_gateway_itself_works_with_a_session(found):
    session = found.session("developer")
    body = json.dumps({"model": "echo", "messages": [{"role": "user", "content": "ping"}]}).encode()
    for host, origin in ((b"llm.example", b"https://llm.example"), (b"LLM.example:8080", b"http://llm.example:8080")):
        headers = cookie(session, origin)
        assert (await ask(found.gateway, "POST", "/v1/chat/completions", headers, body, host=host)).status == 200


def test_what_is_shown_of_a_query_holds_neither_its_cookie_nor_its_body():
    query = Query("01ABC", "text=person", body=b'{"password": "hunter2"}', cookie=b"holdfast_session=token")
    assert repr(query).startswith("Query('01ABC', caller=Caller(")
    assert not any(secret in repr(query) for secret in ("hunter2", "token", "person"))
