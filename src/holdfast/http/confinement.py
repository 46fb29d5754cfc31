"""Holds the whole process to the list of `[network]`: also what a configured function or a library connects to.

Python asks us before it connects (an audit hook), and so does the event loop. What is compiled and opens sockets by
itself asks nobody: only the operating system can confine that.
"""

import socket
import sys
from collections.abc import Sequence
from typing import Any, Final

import uvloop

from holdfast.errors import ConnectionFailed
from holdfast.http.egress import Egress

_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)
_CONNECTING: Final = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})

_egress: Egress | None = None
_look_up = socket.getaddrinfo


class NotAllowed(ConnectionFailed, PermissionError):
    """A connection that `[network]` does not allow. Also an OSError, as what connects expects."""


def confine(egress: Egress) -> None:
    """Hold this process to a list from now on. It can't be undone; calling it again replaces the list."""
    global _egress  # noqa: PLW0603 a process has one network
    if _egress is None:
        sys.addaudithook(_audit)
        socket.getaddrinfo = _getaddrinfo
    _egress = egress


class Loop(uvloop.Loop):
    """uvloop's event loop, which looks up and connects beyond the reach of Python's audit hooks."""

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        _check(host)
        found = await super().getaddrinfo(host, port, **options)
        _remember(host, found)
        return found

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        _check(host)
        return await super().create_connection(protocol_factory, host, port, **options)

    async def sock_connect(self, sock: Any, address: Any) -> Any:
        _check_address(sock.family, address)
        return await super().sock_connect(sock, address)

    async def sock_sendto(self, sock: Any, data: Any, address: Any) -> Any:
        _check_address(sock.family, address)
        return await super().sock_sendto(sock, data, address)

    async def create_datagram_endpoint(
        self, protocol_factory: Any, local_addr: Any = None, remote_addr: Any = None, **options: Any
    ) -> Any:
        if remote_addr is not None:
            _check(remote_addr[0])
        elif _egress is not None and options.get("family") != socket.AF_UNIX and options.get("sock") is None:
            raise NotAllowed("[network] allows no datagrams to just anybody: name the remote address.")
        return await super().create_datagram_endpoint(protocol_factory, local_addr, remote_addr, **options)


def new_loop() -> uvloop.Loop:
    """Return an event loop that keeps to the list, if there is one when it connects."""
    return Loop()


def _check(host: object) -> None:
    if _egress is None or host is None or host == "" or host == b"":
        return
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    try:
        _egress.check(name)
    except ConnectionFailed as error:
        raise NotAllowed(error.message, reached=False) from None


def _check_address(family: int, address: object) -> None:
    if family in _INTERNET and isinstance(address, tuple) and address:
        _check(address[0])


def _remember(host: object, found: Sequence[Any]) -> None:
    if _egress is not None and host:
        _egress.remember([entry[4][0] for entry in found if entry[0] in _INTERNET])


def _getaddrinfo(host: Any, port: Any, *options: Any, **named: Any) -> Any:
    _check(host)
    found = _look_up(host, port, *options, **named)
    _remember(host, found)
    return found


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _CONNECTING:
        sock, address = arguments[0], arguments[1] if len(arguments) > 1 else None
        if address is not None:
            _check_address(sock.family, address)
    elif event in ("socket.gethostbyname", "socket.gethostbyaddr"):
        _check(arguments[0])
