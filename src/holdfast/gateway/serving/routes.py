"""The table of routes: who may use which. What is not in it can't be served."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final, Literal

import msgspec

from holdfast.gateway.access import LOCAL, Caller
from holdfast.gateway.record import Kind
from holdfast.providers.base import Surface
from holdfast.state.keys import ROLES, Role

Method = Literal["GET", "POST", "DELETE"]
"""What a route takes; `HEAD` goes wherever `GET` does."""
Roles = frozenset[Role]

EVERY_ROLE: Final[Roles] = frozenset(ROLES)
CALLERS: Final[Roles] = EVERY_ROLE - {"auditor"}
READERS: Final[Roles] = EVERY_ROLE - {"app"}
REVIEWERS: Final[Roles] = frozenset({"reviewer", "admin"})
AUDITORS: Final[Roles] = frozenset({"auditor", "admin"})
PUBLIC: Final = None
"""No key is asked for, and none is looked at."""

TABLE: Final[Mapping[tuple[Method, str], Roles | None]] = {
    ("GET", "/"): PUBLIC,
    ("GET", "/healthz"): PUBLIC,
    ("GET", "/readyz"): PUBLIC,
    ("GET", "/openapi.json"): PUBLIC,
    ("POST", "/api/session"): PUBLIC,
    ("GET", "/api/session"): EVERY_ROLE,
    ("DELETE", "/api/session"): EVERY_ROLE,
    ("POST", "/v1/chat/completions"): CALLERS,
    ("POST", "/v1/distribution"): CALLERS,
    ("POST", "/v1/embeddings"): CALLERS,
    ("POST", "/v1/messages"): CALLERS,
    ("GET", "/v1/models"): CALLERS,
    ("GET", "/v1/models/{id}"): CALLERS,
    ("GET", "/metrics"): READERS,
    ("GET", "/api/calls"): READERS,
    ("GET", "/api/calls/{id}"): READERS,
    ("GET", "/api/calls/search"): REVIEWERS,
    ("GET", "/api/keys"): READERS,
    ("GET", "/api/spend"): READERS,
    ("GET", "/api/audit"): AUDITORS,
}
"""The roles that may use each route. A path may end in one segment that varies: `{id}`."""

_VARIES: Final = "{id}"


class Page(msgspec.Struct, frozen=True):
    """A response that is no call: its body, and how to read it. `head` are further headers, each with its CRLF."""

    body: bytes
    content_type: bytes = b"application/json"
    status: int = 200
    head: bytes = b""


def json_page(value: Any, status: int = 200, head: bytes = b"") -> Page:
    """Return a page of JSON."""
    return Page(msgspec.json.encode(value), status=status, head=head)


class Query(msgspec.Struct, frozen=True):
    """What a page is asked for: the rest of its path, its query string, and who asks."""

    rest: str
    text: str
    caller: Caller | None = LOCAL
    """None where the route is public, and the gateway knows keys."""
    body: bytes = b""
    cookie: bytes | None = None
    """The header."""
    secure: bool = False
    """Whether it came over TLS, as far as can be told."""

    def __repr__(self) -> str:  # the cookie opens a session, the body may hold a password, the text what people said
        return f"Query({self.rest!r}, caller={self.caller!r})"


View = Callable[[Query], Awaitable[Page]]


class CallRoute(msgspec.Struct, frozen=True):
    """A route that takes calls: POST, spoken in a wire format."""

    kind: Kind
    surface: Surface


class Route(msgspec.Struct, frozen=True):
    """A row of the table, and what answers there."""

    method: Method
    path: str
    roles: Roles | None
    handler: CallRoute | View


class Routes:
    """What is served.

    Raises:
        ValueError: a handler is for a route that the table does not have.
    """

    def __init__(self, handlers: Mapping[tuple[Method, str], CallRoute | View]) -> None:
        unknown = handlers.keys() - TABLE.keys()
        if unknown:
            named = ", ".join(sorted(" ".join(route) for route in unknown))
            raise ValueError(f"the table of routes does not say who may use {named}")
        self._by_path: dict[str, dict[str, Route]] = {}
        for (method, path), handler in handlers.items():
            route = Route(method, path, TABLE[method, path], handler)
            self._by_path.setdefault(path, {})[method] = route

    def __iter__(self) -> Iterator[Route]:
        for routes in self._by_path.values():
            yield from routes.values()

    def at(self, path: str) -> tuple[Mapping[str, Route], str]:
        """Return the routes at a path by their methods, and what stands for its `{id}`. There may be none."""
        routes = self._by_path.get(path)
        if routes is not None and not path.endswith(_VARIES):
            return routes, ""
        stem, _, rest = path.rpartition("/")
        return (self._by_path.get(f"{stem}/{_VARIES}", {}), rest) if rest else ({}, "")
