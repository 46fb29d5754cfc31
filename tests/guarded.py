"""A gateway that knows keys and accounts, put together as the app does it, without a process of its own."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

from holdfast.app import App
from holdfast.clock import SystemClock
from holdfast.config import parse
from holdfast.gateway.access import COOKIE, Access
from holdfast.gateway.serving.asgi import Gateway
from holdfast.gateway.serving.records import Custody
from holdfast.gateway.serving.routes import CallRoute
from holdfast.gateway.serving.server import Server, bind
from holdfast.gateway.serving.views import Views
from holdfast.privacy.audit import Trail
from holdfast.providers.anthropic import AnthropicSurface
from holdfast.providers.openai import OpenAISurface
from holdfast.state.accounts import Accounts
from holdfast.state.files import STATE_FILE
from holdfast.state.keys import ROLES, Keys

CONFIG = """
[models.echo]
provider = "simulated"
name = "sim-echo"

[models.other]
provider = "simulated"
name = "sim-echo"

[features.answer]
models = ["echo"]

[log]
flush_ms = 1
"""
PASSWORD = "correct horse battery"
Headers = tuple[tuple[bytes, bytes], ...]


class Ahead(SystemClock):
    """A clock that can be put forward."""

    seconds = 0.0

    def now(self) -> float:
        return time.time() + self.seconds


class Guarded:
    """The gateway, and what it is guarded by. Until something is made there is neither a key nor an account."""

    def __init__(self, app: App, directory: Path) -> None:
        self.app = app
        self.clock = Ahead()
        self.keys = Keys(directory / STATE_FILE, self.clock)
        self.accounts = Accounts(directory / STATE_FILE, self.clock)
        self.trail = Trail(directory, None, self.clock)
        self.access = self._access()
        custody = Custody(self.keys, self.accounts, self.trail, self.refresh)
        self.views = Views(app.pipeline, app._log, app._subjects, custody)
        openai, anthropic = OpenAISurface(), AnthropicSurface()
        calls = {
            "/v1/chat/completions": CallRoute("chat", openai),
            "/v1/distribution": CallRoute("distribution", openai),
            "/v1/embeddings": CallRoute("embeddings", openai),
            "/v1/messages": CallRoute("chat", anthropic),
        }
        self.gateway = Gateway(app.pipeline, calls, self.views.routes(), app.new_id, openai, lambda: self.access)

    async def refresh(self) -> None:
        self.access = self._access()

    def _access(self) -> Access:
        return Access(self.keys.all(), self.accounts.sessions(), self.clock, open=self.keys.version() == 0)

    def key(self, role: str, tenant: str = "acme", features: Sequence[str] = (), **more: Any) -> str:
        """Make a key that is in force at once, and return its token."""
        token, _ = self.keys.create(tenant=tenant, role=role, features=features, **more)
        self.access = self._access()
        return token

    def session(self, role: str, tenant: str | None = "acme") -> str:
        """Make an account of the name of its role, sign it in, and return the token of its session."""
        account = self.accounts.create(role, role, tenant, PASSWORD)
        token = self.accounts.open_session(account, 3600)
        self.access = self._access()
        return token

    def close(self) -> None:
        self.keys.close()
        self.accounts.close()


@contextlib.asynccontextmanager
async def guarded(directory: Path, config: str = CONFIG) -> AsyncIterator[Guarded]:
    async with App(parse({"holdfast.toml": config}, base=directory)) as app:
        found = Guarded(app, directory / ".holdfast")
        try:
            yield found
        finally:
            found.close()


def bearer(token: str) -> Headers:
    return ((b"authorization", b"Bearer " + token.encode()),)


def cookie(token: str, origin: bytes = b"http://localhost") -> Headers:
    return ((b"cookie", f"{COOKIE}={token}".encode()), (b"origin", origin))


class Response:
    def __init__(self, messages: list[Any]) -> None:
        start, *rest = messages
        self.status: int = start["status"]
        self.headers: dict[bytes, bytes] = dict(start["headers"])
        self.body = b"".join([message["body"] for message in rest])

    def __repr__(self) -> str:
        return f"{self.status} {self.headers} {self.body[:500]!r}"


async def ask(
    gateway: Gateway,
    method: str,
    path: str,
    headers: Headers = (),
    body: bytes | None = b"",
    query: bytes = b"",
    host: bytes = b"localhost",
    **more: Any,
) -> Response:
    """Send a request and return what comes back. A `body` of None never arrives, and must not be waited for."""
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "query_string": query,
        "headers": [(b"host", host), *headers],
        **more,
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        assert body is not None, "the body was waited for"
        if sent_body:
            await asyncio.Event().wait()
        sent_body.append(True)
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    sent_body: list[bool] = []
    await gateway(scope, receive, send)
    return Response(sent)


@contextlib.contextmanager
def served(directory: Path, roles: Sequence[str] = ROLES, config: str = CONFIG) -> Iterator[tuple[str, dict[str, str]]]:
    """Serve such a gateway in a thread, with a key for each of the roles; yield its URL and the tokens."""
    started: list[tuple[Server, str, dict[str, str]]] = []
    ready = threading.Event()

    async def main(listener: socket.socket) -> None:
        async with guarded(directory, config) as found:
            tokens = {role: found.key(role) for role in roles}
            settings = found.app.configuration.config.gateway
            server = Server(found.gateway, lambda: settings, found.gateway.refusal)
            host, port = listener.getsockname()[:2]
            started.append((server, f"http://{host}:{port}", tokens))
            asyncio.get_running_loop().call_soon(ready.set)
            await server.serve(listener)

    loop = asyncio.new_event_loop()
    with bind("127.0.0.1", 0)[0] as listener:
        thread = threading.Thread(target=loop.run_until_complete, args=(main(listener),))
        thread.start()
        try:
            assert ready.wait(20)
            server, url, tokens = started[0]
            yield url, tokens
        finally:
            loop.call_soon_threadsafe(server.hurry)
            thread.join(20)
            assert not thread.is_alive()
            loop.close()
