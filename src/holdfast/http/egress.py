"""Which hosts may be connected to: those that are configured, and those that `[network] allow` lists."""

import ipaddress
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

from holdfast.errors import ConnectionFailed
from holdfast.settings import Settings

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MOST_ADDRESSES: Final = 4096
"""How many addresses of allowed hosts are remembered; what was looked up longest ago goes first."""


class NetworkSettings(Settings, frozen=True, kw_only=True):
    """[network]: no connection to any host that is neither configured nor listed here. Without this table Holdfast
    itself connects to nothing else either, but functions that the configuration names may."""

    allow: tuple[str, ...] = ()
    """Hosts beside those of models and telemetry: "api.example.com", "*.example.com" for all below it, an address, or
    a network such as "10.0.0.0/8"."""

    def __post_init__(self) -> None:
        for entry in self.allow:
            _parsed(entry)


class Egress:
    """The list. `allow` may be called again when the configuration changes. Safe for threads: it is swapped whole."""

    def __init__(self, configured: Collection[str] = (), listed: Collection[str] = ()) -> None:
        self._found: dict[str, str] = {}
        """Addresses, and whose they are."""
        self._lock = threading.Lock()
        self.allow(configured, listed)

    def allow(self, configured: Collection[str], listed: Collection[str]) -> None:
        """Allow these hosts from now on, and no others. Raises ValueError where one is none."""
        self._allowed = frozenset(_parsed(entry) for entry in (*configured, *listed))

    @contextmanager
    def becoming(self, configured: Collection[str], listed: Collection[str]) -> Iterator[None]:
        """Allow these hosts as well, and after the block no others. If the block fails, all is as it was before."""
        before = self._allowed
        self.allow(configured, listed)
        after, self._allowed = self._allowed, self._allowed | before
        try:
            yield
        except BaseException:
            after = before
            raise
        finally:
            self._allowed = after

    def allows(self, host: str) -> bool:
        """Whether a host, by its name or an address, is on the list, or an address is one of a name on the list."""
        name = normal(host)
        address = address_of(name)
        if address is None:
            return self._lists(name)
        networks = [entry for entry in self._allowed if not isinstance(entry, str)]
        if any(address.version == network.version and address in network for network in networks):
            return True
        owner = self._found.get(name)
        return owner is not None and self._lists(owner)

    def check(self, host: str) -> None:
        """Raise ConnectionFailed, before anything is sent, if a host is not on the list."""
        if not self.allows(host):
            raise ConnectionFailed(
                f"{host[:253]}: [network] allows no connections to it: add it to `allow` if it is to be reached.",
                reached=False,
            )

    def remember(self, host: str, addresses: Iterable[str]) -> None:
        """Note what a host was found at: connections to there are allowed as long as those to the host are."""
        name = normal(host)
        with self._lock:
            for address in map(normal, addresses):
                self._found.pop(address, None)
                self._found[address] = name
            while len(self._found) > MOST_ADDRESSES:
                del self._found[next(iter(self._found))]

    def _lists(self, name: str) -> bool:
        labels = name.split(".")
        return name in self._allowed or any("*." + ".".join(labels[n:]) in self._allowed for n in range(1, len(labels)))


@lru_cache(maxsize=1024)
def normal(host: str) -> str:
    """Return a host as it is compared: in lower case and ASCII, without the dot of the root, the scope of an address,
    or another spelling of the same address."""
    name = host.strip("[]").partition("%")[0].rstrip(".").lower()
    address = address_of(name)
    if address is not None:
        return str(address)
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        return name


def address_of(text: str) -> Address | None:
    """Return the address that a text is; one of IPv4 that is written as one of IPv6 is of IPv4. None if it is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def _parsed(entry: str) -> str | Network:
    """Return a name, `*.` and a name, or a network. Raises ValueError."""
    address = address_of(entry.strip("[]"))
    if address is not None:
        return ipaddress.ip_network(address)
    if "/" in entry and "://" not in entry:
        try:
            return ipaddress.ip_network(entry)
        except ValueError as error:
            raise ValueError(f"allow: {entry!r} is no network: {error}") from error
    wild, name = entry.startswith("*."), normal(entry.removeprefix("*."))
    if not name or "*" in name or any(c in ":@?# \t\r\n" for c in name) or "" in name.split("."):
        raise ValueError(f'allow: expected a host such as "api.example.com" or "*.example.com", got {entry!r}')
    return f"*.{name}" if wild else name
