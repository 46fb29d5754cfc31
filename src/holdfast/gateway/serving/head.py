"""The head of a request: what is refused before anything of its body is read, and on whose authority it comes."""

import functools
import ipaddress
import itertools
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, Final
from urllib.parse import urlsplit

from holdfast.errors import BodyTooLarge, HeadersTooLarge, InvalidRequest, NotAllowed
from holdfast.gateway.access import COOKIE, LOCAL, Access, Caller, bearer
from holdfast.gateway.serving.routes import PUBLIC, Roles
from holdfast.gateway.settings import GatewaySettings

Scope = MutableMapping[str, Any]
Fields = Mapping[bytes, bytes]

HINT_PREFIX: Final = b"x-holdfast-"
_SINGLE: Final = (b"host", b"origin", b"content-length", b"authorization", b"x-api-key", b"cookie")
_SAFE: Final = ("GET", "HEAD")
_COOKIE: Final = COOKIE.encode()


def read_head(scope: Scope, settings: GatewaySettings) -> tuple[Fields, Fields]:
    """Return the headers, and the hints among them without their prefix.

    Raises:
        HeadersTooLarge, InvalidRequest
    """
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    text, fields = b"".join(itertools.chain.from_iterable(headers)), dict(headers)
    if len(text) > settings.max_headers:
        raise HeadersTooLarge(f"The request headers are larger than {settings.max_headers} bytes.")
    if len(fields) < len(headers):
        _check_single(headers)
    if b"host" not in fields and scope["http_version"] != "1.0":
        raise InvalidRequest("A request has one Host header.", param="host")
    if HINT_PREFIX not in text:  # as in most: spares a look at each
        return fields, {}
    return fields, {name.removeprefix(HINT_PREFIX): value for name, value in headers if name.startswith(HINT_PREFIX)}


def check_size(fields: Fields, most: int) -> None:
    """Refuse a body that is said to be too large. Raises BodyTooLarge."""
    if int(fields.get(b"content-length", 0)) > most:
        raise BodyTooLarge(f"The request body is larger than {most} bytes.")


def caller_of(access: Access, scope: Scope, fields: Fields, roles: Roles | None) -> Caller | None:
    """Return who sends a request that needs one of `roles`; None where the route is public, and there are keys.

    While there are none, everyone is let in who comes from this machine, but no web page elsewhere.

    Raises:
        Unauthenticated: it brings no valid key, and no valid session.
        NotAllowed: it needs another role, or comes from a web page elsewhere.
        InvalidRequest: it brings more than one kind of credentials.
    """
    if access.open:
        _check_local(scope, fields)
        return LOCAL
    if roles is PUBLIC:
        if b"origin" in fields and scope["method"] not in _SAFE:
            _check_origin(fields)
        return None
    authorization, x_api_key = fields.get(b"authorization"), fields.get(b"x-api-key")
    cookie = fields.get(b"cookie")
    if (authorization and x_api_key) or cookie:
        _check_one(authorization, x_api_key, cookie)
    caller = access.caller(authorization, x_api_key, cookie)
    if caller.account is not None and scope["method"] not in _SAFE:
        _check_origin(fields)
    if caller.role not in roles:
        raise NotAllowed(f"The role {caller.role} may not do that. It takes: {', '.join(sorted(roles))}.")
    return caller


def is_secure(scope: Scope, fields: Fields) -> bool:
    """Whether a browser reaches the gateway over TLS, its own or that of a proxy before it."""
    return scope.get("scheme") == "https" or fields.get(b"origin", b"").lower().startswith(b"https://")


def _check_single(headers: Iterable[tuple[bytes, bytes]]) -> None:
    names = [name for name, _ in headers]
    for name in _SINGLE:
        if names.count(name) > 1:
            header = name.decode().title()
            raise InvalidRequest(f"A request has one {header} header.", param=name.decode())


def _check_one(authorization: bytes | None, x_api_key: bytes | None, cookie: bytes | None) -> None:
    """Refuse credentials of which nobody can say whose authority counts. It tells nothing of their worth."""
    token, session = bearer(authorization), cookie is not None and _COOKIE in cookie
    if (token and x_api_key and token != x_api_key) or (session and (token or x_api_key)):
        raise InvalidRequest("A request brings one kind of credentials: a key, or the cookie of a session.")


# --- while there are no keys ------------------------------------------------------------------------------------------


def _check_local(scope: Scope, fields: Fields) -> None:
    host, origin, server = fields.get(b"host"), fields.get(b"origin"), scope.get("server")
    if (host is not None and not _is_loopback(b"//" + host)) or (server is not None and not _is_local(server[0])):
        raise NotAllowed("Without keys the gateway answers only to loopback addresses.", param="host")
    if origin is not None and not _is_loopback(origin):
        raise NotAllowed("Without keys the gateway takes no calls from web pages elsewhere.", param="origin")


@functools.lru_cache(maxsize=256)
def _is_loopback(url: bytes) -> bool:
    try:
        host = urlsplit(url.decode("latin-1")).hostname
        return host is not None and _is_local(host)
    except ValueError:
        return False


@functools.lru_cache(maxsize=256)
def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# --- sessions ---------------------------------------------------------------------------------------------------------


def _check_origin(fields: Fields) -> None:
    """Refuse what a web page elsewhere made a browser send, with the cookie that it keeps."""
    if not _is_same(fields.get(b"origin", b""), fields.get(b"host", b"")):
        raise NotAllowed(
            "With the cookie of a session, this request must say that it comes from a page of the gateway: send "
            "`Origin: http://HOST` (https:// over TLS), with the host and port that it is sent to.",
            param="origin",
        )


def _is_same(origin: bytes, host: bytes) -> bool:
    scheme, separator, address = origin.partition(b"://")
    return bool(separator) and scheme in (b"http", b"https") and address.lower() == host.lower()
