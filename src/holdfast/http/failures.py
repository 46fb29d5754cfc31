"""What the network and TLS raise, translated once into what a caller is told."""

import ssl
from socket import gaierror

from holdfast.errors import ConnectionFailed

UNREACHABLE = (ssl.SSLCertVerificationError, gaierror, ConnectionRefusedError)
"""What another connection at once would meet again."""

# The first type that fits says why.
_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (ssl.SSLCertVerificationError, "its TLS certificate is not accepted: {detail}"),
    (ssl.SSLError, "TLS failed: {detail}"),
    (gaierror, "the name can't be resolved: {detail}"),
    (ConnectionRefusedError, "it refused the connection"),
    (ConnectionResetError, "it reset the connection"),
    (BrokenPipeError, "it reset the connection"),
    (ConnectionAbortedError, "it closed the connection"),
    (EOFError, "it closed the connection"),
    (OSError, "{detail}"),
)


def connection_failed(
    error: BaseException | None, place: str, *, before_headers: bool = True, reused: bool = False
) -> ConnectionFailed:
    """Return the failure that `error` means; None is a connection that the peer closed too early."""
    reason = next((text for type_, text in _REASONS if isinstance(error, type_)), "it closed the connection")
    when = "" if before_headers else " in the middle of a response"
    message = f"The connection to {place} failed{when}: {reason.format(detail=_detail(error))}."
    reached = not isinstance(error, UNREACHABLE)
    failure = ConnectionFailed(message, before_headers=before_headers, reused=reused, reached=reached)
    failure.__cause__ = error
    return failure


def _detail(error: BaseException | None) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, OSError):
        return getattr(error, "reason", None) or error.strerror or str(error)
    return str(error)
