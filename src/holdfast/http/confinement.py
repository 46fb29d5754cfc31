"""Holds the whole process to the list of `[network]`: also what a configured function or a library connects to.

Python asks us before it connects or looks a name up (an audit hook, PEP 578), and so does the event loop. This keeps
what is honest from phoning home. Programs that are started, and what is compiled and opens sockets by itself, ask
nobody: only the operating system can confine those.
"""

import errno
import functools
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import uvloop

from holdfast.errors import ConnectionFailed
from holdfast.http.egress import Egress, address_of

_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)
_OF_THE_HOST: Final = {int(getattr(socket, name, socket.AF_UNIX)) for name in ("AF_UNIX", "AF_NETLINK", "AF_ALG")}
_GIVEN: Final = -1
"""The family of a socket that is made of an open file."""
_HERE: Final = ("", b"", "localhost", None)
"""What a server may listen on, beside addresses. Any other name would be looked up."""

_egress: Egress | None = None


class NotAllowed(ConnectionFailed, PermissionError):
    """A connection that `[network]` does not allow. Also an OSError, as what connects expects."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message, reached=False)
        self.errno, self.strerror = errno.EACCES, self.message

    def __str__(self) -> str:
        return self.message


def confine(egress: Egress) -> None:
    """Hold this process to a list from now on. It can't be undone; calling it again replaces the list."""
    global _egress
    first, _egress = _egress is None, egress
    if first:
        sys.addaudithook(_audit)
        socket.getaddrinfo = _remembering(socket.getaddrinfo, lambda found: [entry[4][0] for entry in found])
        socket.gethostbyname = _remembering(socket.gethostbyname, lambda found: [found])
        socket.gethostbyname_ex = _remembering(socket.gethostbyname_ex, lambda found: found[2])
        for name, place in (("connect", 0), ("connect_ex", 0), ("sendto", -1), ("sendmsg", 3)):
            setattr(socket.socket, name, _asking(getattr(socket.socket, name), _connecting, place))
        socket.socket.bind = _asking(socket.socket.bind, _binding, 0)  # type: ignore[method-assign]
        uvloop.Loop = Loop  # type: ignore[misc]  # also for a function that runs a loop of its own


class Loop(uvloop.Loop):
    """uvloop's event loop, which looks up and connects beyond the reach of Python's audit hooks."""

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        _check(host)
        found = await super().getaddrinfo(host, port, **options)
        _remember(host, [entry[4][0] for entry in found])
        return found

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> Any:
        _check_address(socket.AF_INET, sockaddr)
        return await super().getnameinfo(sockaddr, flags)

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        _check(host)
        _check_local(options.get("local_addr"))
        return await super().create_connection(protocol_factory, host, port, **options)

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        for name in host if isinstance(host, list | tuple) else [host]:
            _check_local((name,))
        return await super().create_server(protocol_factory, host, port, **options)

    async def create_datagram_endpoint(
        self, protocol_factory: Any, local_addr: Any = None, remote_addr: Any = None, **options: Any
    ) -> Any:
        _check_datagrams(remote_addr, options)
        _check_local(local_addr)
        return await super().create_datagram_endpoint(protocol_factory, local_addr, remote_addr, **options)


def new_loop() -> uvloop.Loop:
    """Return an event loop that keeps to the list, if there is one when it connects."""
    return Loop()


# --- what is asked ----------------------------------------------------------------------------------------------------


def _check(host: object) -> None:
    """Raise NotAllowed if a host is not on the list. No name stands for this machine, as for the system."""
    if _egress is None or host in ("", b"", None):
        return
    try:
        _egress.check(_text(host))
    except ConnectionFailed as error:
        raise NotAllowed(error.message) from None


def _check_address(family: int, address: object) -> None:
    if family in _INTERNET and isinstance(address, tuple) and address:
        _check(address[0])


def _check_local(address: Any) -> None:
    """Raise NotAllowed where a socket is to be bound to a name that had to be looked up."""
    if isinstance(address, list | tuple) and address and address[0] not in _HERE:
        host = address[0]
        if address_of(_text(host)) is None:
            _check(host)


def _check_datagrams(remote: Any, options: Mapping[str, Any]) -> None:
    """Raise NotAllowed where the loop would send to addresses that nobody is asked about."""
    if remote is not None:
        _check(remote[0] if isinstance(remote, list | tuple) and remote else remote)
        return
    sock = options.get("sock")
    family = options.get("family") if sock is None else sock.family
    if _egress is not None and family != socket.AF_UNIX:
        raise NotAllowed("[network] allows no datagrams to just anybody: name the remote address.")


def _remember(host: object, addresses: Iterable[str]) -> None:
    """Allow what an allowed name was found at."""
    if _egress is not None and host is not None:
        _egress.remember(_text(host), addresses)


def _text(host: object) -> str:
    return host.decode("ascii", "replace") if isinstance(host, bytes | bytearray) else str(host)


def _remembering(look_up: Callable[..., Any], addresses: Callable[[Any], Iterable[str]]) -> Callable[..., Any]:
    """Return a look-up that notes what it finds. Whether it may look is asked by the audit hook."""

    @functools.wraps(look_up)
    def looked_up(host: Any, *arguments: Any, **named: Any) -> Any:
        found = look_up(host, *arguments, **named)
        _remember(host, addresses(found))
        return found

    return looked_up


def _asking(method: Callable[..., Any], ask: Callable[..., None], place: int) -> Callable[..., Any]:
    """Return a method of sockets that asks before it looks up the name in an address. The audit hook is told after."""

    @functools.wraps(method)
    def asking(sock: socket.socket, *arguments: Any) -> Any:
        if place < len(arguments):
            ask(sock, arguments[place])
        return method(sock, *arguments)

    return asking


# --- the audit hook ---------------------------------------------------------------------------------------------------


def _connecting(sock: Any, address: object = None, *_: object) -> None:
    _check_address(sock.family, address)


def _binding(sock: Any, address: object = None, *_: object) -> None:
    if sock.family in _INTERNET:
        _check_local(address)


def _making(_: object, family: int, type: int, *__: object) -> None:
    """Raise NotAllowed for sockets that send what no address tells: packets of one's own making."""
    if family in _INTERNET and type & 0xF != socket.SOCK_RAW:
        return
    if family not in _OF_THE_HOST and family != _GIVEN:
        raise NotAllowed("[network] allows no raw sockets, and none of families other than IP.")


def _looking_up(host: object, *_: object) -> None:
    _check(host)


def _naming(sockaddr: object, *_: object) -> None:
    _check_address(socket.AF_INET, sockaddr)


_ASKED: Final[Mapping[str, Callable[..., None]]] = {
    "socket.__new__": _making,
    "socket.bind": _binding,
    "socket.connect": _connecting,
    "socket.sendto": _connecting,
    "socket.sendmsg": _connecting,
    "socket.getaddrinfo": _looking_up,
    "socket.gethostbyname": _looking_up,
    "socket.gethostbyaddr": _looking_up,
    "socket.getnameinfo": _naming,
}


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    ask = _ASKED.get(event)
    if ask is not None:
        ask(*arguments)
