"""Signing in over HTTP and out again: `/api/session`."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from holdfast.errors import InvalidRequest, Saturated, Unauthenticated
from holdfast.gateway.access import COOKIE, Caller, session_token
from holdfast.gateway.serving.pages.failures import Failures
from holdfast.gateway.serving.pages.records import Custody, actor, known
from holdfast.gateway.serving.routes import Method, Page, Query, View, json_page

SESSION_S: Final = 12 * 3600.0
"""How long a session lasts."""


class _SignIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    password: str

    def __repr__(self) -> str:
        return f"_SignIn({self.name!r})"


_SIGN_IN: Final = msgspec.json.Decoder(_SignIn)


class Sessions:
    """The pages."""

    def __init__(self, custody: Custody) -> None:
        self._custody = custody
        self._failures = Failures(self._sum_up)

    def routes(self) -> Mapping[tuple[Method, str], View]:
        """Return what answers at which route."""
        return {
            ("POST", "/api/session"): self.sign_in,
            ("GET", "/api/session"): self.who,
            ("DELETE", "/api/session"): self.sign_out,
        }

    async def sign_in(self, query: Query) -> Page:
        """Open a session for a name and its password. The answer comes when every worker knows it."""
        asked, custody = _decoded(query.body), self._custody
        account = await asyncio.to_thread(custody.accounts.verify, asked.name, asked.password)
        if account is None:
            await self._failed(asked.name)
            raise Unauthenticated("There is no account of this name with this password.")
        await custody.record(f"account:{account.name}", "sign_in")
        token = await asyncio.to_thread(custody.accounts.open_session, account, SESSION_S)
        await custody.refresh()
        await asyncio.sleep(custody.spread_s)  # the next request may come to another worker
        who = Caller(tenant=account.tenant, role=account.role, account=account.name)
        return json_page(_shown(who), head=_cookie(token, int(SESSION_S), secure=query.secure))

    async def who(self, query: Query) -> Page:
        """Say on whose authority this request comes."""
        return json_page(_shown(known(query)))

    async def sign_out(self, query: Query) -> Page:
        """End the session that this request comes with."""
        caller, custody = known(query), self._custody
        if caller.account is None:
            raise InvalidRequest("This request brings no session that could end.")
        token = session_token(query.cookie).decode("latin-1")
        await asyncio.to_thread(custody.accounts.close_session, token)
        await custody.record(actor(caller), "sign_out")
        await custody.refresh()
        return json_page({}, head=_cookie("", 0, secure=query.secure))

    async def _failed(self, name: str) -> None:
        """Record it, with the name only if there is such an account: it may be a password in the wrong field."""
        if not self._failures.admit():
            return
        accounts = await asyncio.to_thread(self._custody.accounts.all)
        known = any(account.name == name for account in accounts)
        await self._custody.record("gateway", "sign_in_failed", account=name if known else None)

    async def _sum_up(self, failures: int) -> None:
        with suppress(Saturated):  # which was logged
            await self._custody.record("gateway", "sign_in_failed", account=None, failures=failures)


def _decoded(body: bytes) -> _SignIn:
    try:
        return _SIGN_IN.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise InvalidRequest('Expected {"name": "...", "password": "..."}.') from None  # it would quote what was sent


def _shown(caller: Caller) -> dict[str, Any]:
    features = None if caller.features is None else sorted(caller.features)
    who = {"account": caller.account, "key": caller.key, "tenant": caller.tenant, "role": caller.role}
    return who | {"features": features}


def _cookie(token: str, seconds: int, *, secure: bool) -> bytes:
    flags = "; Secure" if secure else ""
    return f"set-cookie: {COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{flags}\r\n".encode()
