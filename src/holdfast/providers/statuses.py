"""What the status of a failed response means, the same on every wire.

A wire adds its own words: it says which status each of them stands for, and which of its codes and messages tell more
than a status can.
"""

import re
from typing import Final

from holdfast.errors import (
    AuthenticationFailed,
    BadRequest,
    ContextTooLong,
    ModelUnavailable,
    Overloaded,
    ProviderError,
    ProviderFailed,
    RateLimited,
)

_KINDS: Final[dict[int, type[ProviderError]]] = {
    401: AuthenticationFailed,
    402: AuthenticationFailed,  # the account is used up: no wait mends it, and no caller
    403: AuthenticationFailed,
    404: ModelUnavailable,
    405: ModelUnavailable,  # something else is served at this address
    407: AuthenticationFailed,
    408: ProviderFailed,
    409: ProviderFailed,
    410: ModelUnavailable,
    413: ContextTooLong,
    424: ProviderFailed,
    425: ProviderFailed,
    429: RateLimited,
    498: Overloaded,
    499: ProviderFailed,
    503: Overloaded,
    529: Overloaded,
}
_USED_UP: Final = re.compile(
    r"insufficient[ _](?:quota|balance|credit|funds)|credit balance|credits? (?:are|is) (?:depleted|exhausted)"
    r"|(?:used|exhausted) all (?:available|your) credits|spend(?:ing)? (?:limit|cap)|api usage limits"
    r"|billing (?:hard )?limit|account is not active|enable billing",
    re.IGNORECASE,
)


def error_class(*statuses: int | None, message: str = "") -> type[ProviderError]:
    """Return the error that the first of `statuses` to say something particular stands for.

    The first is the response's own; those after it come from the words of its body, and say more than a bare 400 or
    500 does. What is no status of a failure counts for nothing. An account that is used up is told by the message, as
    providers say it with many statuses.
    """
    failures = [status for status in statuses if status is not None and 300 <= status <= 599]
    kind = next((_KINDS[status] for status in failures if status in _KINDS), None)
    if kind is None:
        kind = _of_range(failures[0]) if failures else ProviderFailed
    return AuthenticationFailed if kind in (BadRequest, RateLimited) and _USED_UP.search(message) else kind


def _of_range(status: int) -> type[ProviderError]:
    if status < 400:
        return ModelUnavailable  # redirects are not followed: the address is wrong
    return BadRequest if status < 500 else ProviderFailed
