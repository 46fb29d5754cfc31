"""The fallback policy: which model to try next, and when to stop. It decides and does nothing.

`fallback` is a generator that yields attempts and is sent their outcomes, so every sequence of failures can be tested
without a socket or a clock (after httpx's `auth_flow`).
"""

from collections.abc import Generator, Sequence

import msgspec

from holdfast.errors import CallError, ConnectionFailed, ProviderError


class Try(msgspec.Struct, frozen=True):
    """Send the request to the model of this position in the feature's list. `last` when no other would follow."""

    position: int
    last: bool


class Answered(msgspec.Struct, frozen=True):
    """The attempt gave a whole answer."""


class Failed(msgspec.Struct, frozen=True):
    """The attempt failed. `spoke` when the caller has already received a part of its answer."""

    error: ProviderError
    spoke: bool = False


class Fail(msgspec.Struct, frozen=True):
    """End the call with this error."""

    error: CallError


class UseLastResort(msgspec.Struct, frozen=True):
    """Answer with the feature's last resort; `error` is why."""

    error: CallError


Outcome = Answered | Failed
Verdict = Answered | UseLastResort | Fail


def fallback(models: int, *, last_resort: bool) -> Generator[Try, Outcome, Verdict]:
    """Yield attempts on `models` models in order, take their outcomes, and return the verdict.

    - A connection that died before its headers is tried once more on the same model.
    - An error that another model would repeat, such as a refusal, ends the call.
    - Once the caller has heard a part of an answer, no other model may speak.
    - A last resort never hides what the caller could mend.
    """
    failures: list[ProviderError] = []
    for position in range(models):
        attempt = Try(position, last=position == models - 1)
        outcome = yield attempt
        if isinstance(outcome, Failed) and _died_unheard(outcome):
            outcome = yield attempt
        if isinstance(outcome, Answered):
            return outcome
        failures.append(outcome.error)
        if outcome.spoke or not outcome.error.next_model:
            return Fail(outcome.error)
    error = _most_telling(failures)
    return UseLastResort(error) if last_resort and not error.callers_fault else Fail(error)


def _died_unheard(failed: Failed) -> bool:
    return isinstance(failed.error, ConnectionFailed) and failed.error.before_headers and not failed.spoke


def _most_telling(failures: Sequence[ProviderError]) -> ProviderError:
    """Return the last error that may pass by itself; if the caller is at fault everywhere, the first."""
    passing = [error for error in failures if not error.callers_fault]
    return passing[-1] if passing else failures[0]
