"""Where a request goes and the bytes that begin it, checked so that no value can change what another means."""

import re
from functools import cache
from importlib.metadata import version
from typing import NamedTuple, NoReturn
from urllib.parse import quote, urlsplit

from holdfast.errors import BadRequest
from holdfast.http.base import Headers

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")
_CONTROLS = re.compile(r"[\x00-\x20\x7f]")
_HOST = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=%:-]+")
_PRINTABLE = "!#$%&'()*+,-./:;=?@[]_~"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_OURS = frozenset({b"content-length", b"connection", b"keep-alive"})
_BODILESS = frozenset({"GET", "HEAD", "DELETE", "OPTIONS", "TRACE"})


class Origin(NamedTuple):
    """Whom a connection leads to."""

    scheme: str
    host: str
    port: int

    @property
    def place(self) -> str:
        """The origin as messages name it."""
        return f"{_bracketed(self.host)}:{self.port}"


class Target(NamedTuple):
    """`head` is the request line and the headers, up to the length of the body."""

    origin: Origin
    url: str
    """In ASCII: the path quoted, the host by its IDNA name."""
    head: bytes
    bodiless: bool
    """Whether a request without a body says nothing of its length."""


@cache
def user_agent() -> bytes:
    """Return this product's name and version."""
    return b"holdfast/" + version("holdfast").encode()


def resolve(method: str, url: str, headers: Headers) -> Target:
    """Return where a request goes and how it begins.

    Raises:
        BadRequest: the method, the URL or a header can't be sent as it is.
    """
    if not _TOKEN.fullmatch(method.encode("utf-8", "replace")):
        _refuse(f"{method!r} is not a method")
    origin, path = _split(url)
    lines = [f"{method} {path} HTTP/1.1".encode("ascii")]
    fields = {name.lower() for name, _ in headers}
    if b"host" not in fields:
        lines.append(b"host: " + _authority(origin))
    lines += [_line(name, value) for name, value in headers if name.lower() not in _OURS]
    if b"user-agent" not in fields:
        lines.append(b"user-agent: " + user_agent())
    if b"accept-encoding" not in fields:
        lines.append(b"accept-encoding: identity")
    url = f"{origin.scheme}://{origin.place}{path}"
    return Target(origin, url, b"\r\n".join([*lines, b""]), method in _BODILESS)


def _split(url: str) -> tuple[Origin, str]:
    if _CONTROLS.search(url):
        _refuse("its URL holds a space or a control character")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        if host and ":" not in host:
            host = host.encode("idna").decode("ascii")
    except ValueError as error:
        _refuse(f"its URL is not valid ({error})")
    if parts.scheme not in _DEFAULT_PORTS or not host or port == 0 or not _HOST.fullmatch(host):
        _refuse(f"{url!r} is not an absolute URL that begins with http:// or https:// and a host")
    if parts.username is not None:
        _refuse("its URL holds a user name, which belongs into a header")
    path = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_PRINTABLE)
    return Origin(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme]), path


def _authority(origin: Origin) -> bytes:
    default = origin.port == _DEFAULT_PORTS[origin.scheme]
    return (_bracketed(origin.host) if default else origin.place).encode("ascii")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _line(name: bytes, value: bytes) -> bytes:
    if not _TOKEN.fullmatch(name):
        _refuse(f"{name!r} is not the name of a header")
    if not _VALUE.fullmatch(value):
        _refuse(f"the value of its header {name.decode()} holds a control character")
    if name.lower() == b"transfer-encoding":
        _refuse("its header transfer-encoding is not the caller's to set")
    return name + b": " + value


def _refuse(reason: str) -> NoReturn:
    raise BadRequest(f"The request can't be sent: {reason}.")
