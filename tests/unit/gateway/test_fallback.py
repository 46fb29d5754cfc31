"""The fallback policy: every sequence of failures, without a socket or a clock."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import (
    AuthenticationFailed,
    BadRequest,
    ConnectionFailed,
    ContentRefused,
    ContextTooLong,
    MalformedResponse,
    Overloaded,
    PhaseTimeout,
    ProviderError,
    ProviderFailed,
    RateLimited,
)
from holdfast.gateway.fallback import Answered, Fail, Failed, Outcome, UseLastResort, Verdict, fallback

ERRORS = [
    RateLimited(retry_after=2.0),
    Overloaded(),
    ProviderFailed(),
    ContextTooLong(),
    ContentRefused(),
    BadRequest(),
    AuthenticationFailed(),
    PhaseTimeout("first_token", 3.0),
    ConnectionFailed(before_headers=True),
    ConnectionFailed(before_headers=False),
    MalformedResponse(),
]
outcomes = st.one_of(
    st.just(Answered()),
    st.builds(Failed, st.sampled_from(ERRORS), st.booleans()),
)


def run(models: int, script: Sequence[Outcome], *, last_resort: bool = False) -> tuple[list[int], Verdict]:
    """Play `script`, its last outcome for ever, and return the positions tried and the verdict."""
    policy = fallback(models, last_resort=last_resort)
    step, tried, outcomes = next(policy), [], list(script)
    while True:
        tried.append(step.position)
        outcome = outcomes.pop(0) if len(outcomes) > 1 else outcomes[0]
        try:
            step = policy.send(outcome)
        except StopIteration as stop:
            return tried, stop.value


def test_an_answer_ends_the_call_at_the_first_model() -> None:
    assert run(3, [Answered()]) == ([0], Answered())


@pytest.mark.parametrize("error", [RateLimited(), Overloaded(), ProviderFailed(), PhaseTimeout("idle", 1.0)])
def test_a_model_that_fails_is_followed_by_the_next(error: ProviderError) -> None:
    assert run(2, [Failed(error), Answered()]) == ([0, 1], Answered())


def test_a_connection_that_died_before_its_headers_is_tried_once_more_on_the_same_model() -> None:
    died = Failed(ConnectionFailed(before_headers=True))
    assert run(2, [died, Answered()]) == ([0, 0], Answered())
    assert run(2, [died, died, Answered()])[0] == [0, 0, 1]


def test_a_connection_that_died_later_is_not_tried_again() -> None:
    assert run(2, [Failed(ConnectionFailed(before_headers=False)), Answered()])[0] == [0, 1]


def test_a_refusal_is_not_routed_around() -> None:
    refused = ContentRefused("violence")
    assert run(3, [Failed(refused)], last_resort=True) == ([0], Fail(refused))


def test_once_the_caller_has_heard_something_no_other_model_speaks() -> None:
    broken = MalformedResponse()
    assert run(3, [Failed(broken, spoke=True)], last_resort=True) == ([0], Fail(broken))


def test_when_no_model_answers_the_last_resort_does() -> None:
    overloaded = Overloaded()
    assert run(2, [Failed(ProviderFailed()), Failed(overloaded)], last_resort=True) == (
        [0, 1],
        UseLastResort(overloaded),
    )


def test_the_last_resort_does_not_hide_what_the_caller_can_mend() -> None:
    first = BadRequest("temperature")
    assert run(2, [Failed(first), Failed(ContextTooLong())], last_resort=True) == ([0, 1], Fail(first))


def test_a_failure_that_may_pass_is_told_rather_than_one_that_does_not() -> None:
    limited = RateLimited(retry_after=7.0)
    assert run(2, [Failed(limited), Failed(BadRequest())]) == ([0, 1], Fail(limited))


@given(st.integers(1, 4), st.lists(outcomes, min_size=1, max_size=9), st.booleans())
def test_the_laws_of_fallback_hold_for_every_sequence(models: int, script: list[Outcome], last_resort: bool) -> None:
    tried, verdict = run(models, script, last_resort=last_resort)
    played = [script[min(index, len(script) - 1)] for index in range(len(tried))]
    assert len(tried) <= 2 * models
    assert tried == sorted(tried)
    assert all(tried.count(position) <= 2 for position in tried)
    assert (verdict == Answered()) == (played[-1] == Answered())
    for outcome in played[:-1]:
        assert isinstance(outcome, Failed)
        assert outcome.error.next_model
        assert not outcome.spoke
    if isinstance(verdict, UseLastResort):
        assert last_resort
        assert not verdict.error.callers_fault
    if isinstance(verdict, Fail):
        assert verdict.error in [outcome.error for outcome in played if isinstance(outcome, Failed)]
