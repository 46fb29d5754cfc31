"""The contract of the upstream transport: what is sent, what comes back, how long each phase may take."""

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from holdfast.settings import Duration, Settings

Headers = tuple[tuple[bytes, bytes], ...]
"""Names in lower case, values without surrounding space, in the order of the wire."""


class Timeouts(Settings, frozen=True, kw_only=True):
    """How long a provider may be silent, phase by phase.

    `connect` covers the name look-up, the connection and TLS. `first_token` runs from the request to the first piece of
    a streamed answer, `idle` between two pieces. `answer` is for an answer that is not streamed, from the request to
    its last byte; None leaves it to the deadline of the call.
    """

    connect: Duration = Duration(5)
    """Name look-up, connection and TLS."""
    first_token: Duration = Duration(30)
    """From the request to the first piece of a streamed answer."""
    idle: Duration = Duration(15)
    """Between two pieces of a streamed answer."""
    answer: Duration | None = None
    """From the request to the last byte of an answer that is not streamed. Default: the deadline of the call."""


class HttpRequest(msgspec.Struct, frozen=True):
    """`url` is absolute, http or https. `headers` need neither Host nor Content-Length."""

    method: str
    url: str
    headers: Headers = ()
    body: bytes = b""

    def __repr__(self) -> str:
        return f"HttpRequest({self.method} {self.url}, {len(self.body)} bytes)"


class HttpResponse(Protocol):
    """A response whose headers have arrived. Every method of a response that has ended may be called again."""

    status: int
    headers: Headers

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of a header, `name` in lower case."""
        ...

    async def read(self, limit: int, seconds: float) -> bytes:
        """Return the whole body, decoded from its transfer and content codings.

        Raises:
            PhaseTimeout: it was not complete after `seconds` (phase "answer").
            ConnectionFailed: the connection broke before its end (before_headers False).
            MalformedResponse: the body is longer than `limit` bytes, or is not HTTP.
        """
        ...

    def pieces(self, first: float, idle: float) -> AsyncIterator[bytes]:
        """Iterate over the body as it arrives, in pieces that are never empty.

        Raises:
            PhaseTimeout: nothing came for `first` seconds (phase "first_token"), or `idle` between two pieces.
            ConnectionFailed, MalformedResponse: as in `read`; a body that ends early never looks complete.
        """
        ...

    def close(self) -> None:
        """Give the connection back if the body was read to its end; else abort it at once."""
        ...


class Transport(Protocol):
    """Sends requests over pooled connections."""

    async def send(self, request: HttpRequest, *, connect: float, headers: float) -> HttpResponse:
        """Send a request and return when the headers of the response are there. Redirects are not followed.

        `connect` and `headers` are seconds: for a usable connection, and from then on for the headers. Cancelling the
        task that waits aborts the connection at once.

        Raises:
            PhaseTimeout: phase "connect", or "first_token" when the headers are late.
            ConnectionFailed: name look-up, connection, TLS or the wait for the headers failed.
            MalformedResponse: what came back is not HTTP.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...
