"""A gateway that knows keys and accounts, without a process of its own."""

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
from holdfast.gateway.access import COOKIE
from holdfast.gateway.serving.asgi import Gateway
from holdfast.gateway.serving.server import Server, bind
from holdfast.privacy.audit.chain import Entry
from holdfast.state.keys import ROLES

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
    """The gateway of an app, and what it is guarded by. At first there is neither a key nor an account."""

    def __init__(self, app: App, clock: Ahead) -> None:
        self.app = app
        self.clock = clock
        self.gateway, self.views = app.asgi()
        self.keys, self.accounts, self.trail = app.custody.keys, app.custody.accounts, app.custody.trail

    def refresh(self) -> None:
        """Have what was made be in force at once, instead of a moment later."""
        self.app.custody._known = self.app.custody._look()

    def key(self, role: str, tenant: str = "acme", features: Sequence[str] = (), **more: Any) -> str:
        """Make a key, and return its token."""
        token, _ = self.keys.create(tenant=tenant, role=role, features=features, **more)
        self.refresh()
        return token

    def session(self, role: str, tenant: str | None = "acme") -> str:
        """Make an account of the name of its role, sign it in, and return the token of its session."""
        account = self.accounts.create(role, role, tenant, PASSWORD)
        token = self.accounts.open_session(account, 3600)
        self.refresh()
        return token

    def entries(self) -> list[Entry]:
        """Return the entries of the audit trail, oldest first, without what it says of itself."""
        return [entry for entry in self.trail.entries() if entry.actor != "audit"][::-1]


@contextlib.asynccontextmanager
async def guarded(directory: Path, config: str = CONFIG) -> AsyncIterator[Guarded]:
    clock = Ahead()
    async with App(parse({"holdfast.toml": config}, base=directory), clock) as app:
        yield Guarded(app, clock)


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
