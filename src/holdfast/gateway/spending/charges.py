"""What an attempt is charged, as far as its end tells: by its provider, and to the limits that hold."""

from typing import Final

import msgspec

from holdfast.chat import Usage
from holdfast.errors import (
    CallError,
    Cancelled,
    ConnectionFailed,
    ContractViolated,
    DeadlineExceeded,
    MalformedResponse,
    PhaseTimeout,
    Truncated,
)

MOST_TOKENS: Final = 10**9
"""A count above it is a provider's mistake."""
STALE_SECONDS: Final = 1.0
"""Within which a connection that its server had closed already is seen to be dead."""

Used = tuple[int, int | None, int | None]
"""Requests, tokens and billionths of a US dollar; None is not known."""


def counts(usage: Usage) -> bool:
    """Whether a provider has counted: not where it fills in zeros, nor where no call could use so many tokens."""
    if not (0 <= usage.input_tokens <= MOST_TOKENS and 0 <= usage.output_tokens <= MOST_TOKENS):
        return False
    others = msgspec.structs.astuple(usage)[2:]
    return bool(usage.input_tokens or usage.output_tokens) and min(others) >= 0 and max(others) <= MOST_TOKENS


def may_be_charged(error: CallError, *, streamed: bool) -> bool:
    """Whether the provider had begun to answer, or may have: one that isn't streamed is not seen before its end."""
    match error:
        case ConnectionFailed():
            return not error.before_headers
        case PhaseTimeout(phase="connect"):
            return False
        case PhaseTimeout() | DeadlineExceeded() | Cancelled():
            return not streamed
        case _:
            return isinstance(error, MalformedResponse | ContractViolated | Truncated)


def used(
    usage: Usage | None,
    cost_nanousd: int | None,
    error: CallError | None,
    *,
    estimated: bool,
    streamed: bool,
    seconds: float,
) -> Used:
    """Return what limits count of an attempt that took so long.

    What is not known, or only estimated here, counts in full: as does a stream that was left, whatever its provider had
    counted until then.
    """
    left = _left(error)
    if usage is not None and not (estimated or (streamed and left)):
        return 1, usage.input_tokens + usage.output_tokens, cost_nanousd
    if usage is None and cost_nanousd == 0 and not left and not _may_have_worked(error, streamed, seconds):
        return int(_sent(error)), 0, 0
    return 1, None, None


def _may_have_worked(error: CallError | None, streamed: bool, seconds: float) -> bool:
    """Whether the connection died while the provider may have worked on a whole answer, for which it may charge.

    One that was kept alive, and dies as soon as it is used, was closed before anything arrived.
    """
    if streamed or not isinstance(error, ConnectionFailed) or not error.reached:
        return False
    return not error.stale or seconds > STALE_SECONDS


def _left(error: CallError | None) -> bool:
    """Whether the provider was left while it worked, for which it may charge."""
    if isinstance(error, PhaseTimeout):
        return error.phase != "connect"
    return isinstance(error, DeadlineExceeded | Cancelled)


def _sent(error: CallError | None) -> bool:
    """Whether anything may have reached the provider."""
    if isinstance(error, PhaseTimeout):
        return False  # while it connected
    return not isinstance(error, ConnectionFailed) or error.reached
