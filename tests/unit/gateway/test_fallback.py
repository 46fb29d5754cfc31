"""The fallback policy: every sequence of failures, without a socket or a clock."""

import random
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from holdfast.errors import (
    AuthenticationFailed,
    BadRequest,
    BrokenStream,
    ConnectionFailed,
    ContentRefused,
    ContextTooLong,
    LimitExceeded,
    MalformedResponse,
    ModelDown,
    Overloaded,
    PhaseTimeout,
    ProviderError,
    ProviderFailed,
    RateLimited,
    Truncated,
)
from holdfast.gateway.catalog import Model, Rules
from holdfast.gateway.fallback import (
    Answered,
    Fail,
    Failed,
    Fallback,
    Late,
    Outcome,
    Pause,
    Paused,
    Step,
    Try,
    UseLastResort,
    Verdict,
    Wait,
)
from holdfast.gateway.traffic.health import Health
from holdfast.http.base import Timeouts
from holdfast.http.pool import PooledTransport
from holdfast.providers.base import Endpoint
from holdfast.providers.openai import OpenAIUpstream

LONG = 1000.0


class StillBreaker:
    """A breaker that stays in the state it is put in."""

    def __init__(self) -> None:
        self.state = "closed"
        self.asked = 0

    def ask(self) -> str:
        self.asked += 1
        return self.state

    def open_for(self) -> float:
        return 3.0 if self.state == "open" else 0.0


class CalmHealth(Health):
    """The health of a model whose breaker stays as it is, and which has room, or not."""

    breaker: StillBreaker  # type: ignore[assignment]
    room = True

    @property
    def busy(self) -> bool:
        return not self.room


def model(
    name: str,
    *,
    state: str = "closed",
    busy: bool = False,
    context: int | None = None,
    continues: bool = False,
    answers: float | None = None,
) -> Model:
    """Return what the policy needs of a model."""
    health = CalmHealth.private()
    health.breaker, health.room = StillBreaker(), not busy
    health.breaker.state = state
    for _ in range(0 if answers is None else 40):
        health.answer.add(answers or 0.0)
    upstream = OpenAIUpstream(Endpoint(model=name, base_url="http://127.0.0.1", prefill=continues))
    return Model(
        name=name,
        provider="openai",
        upstream=upstream,
        transport=PooledTransport(),
        timeouts=Timeouts(),
        context=context,
        health=health,
    )


A, B, C = "abc"


def policy(models: Sequence[Model], remaining: Callable[[], float] = lambda: LONG, **options: Any) -> Fallback:
    last_resort = options.pop("last_resort", False)
    return Fallback(
        models,
        Rules(**options),
        last_resort=last_resort,
        remaining=remaining,
        chance=random.Random(7),
    )


def play(models: Sequence[Model], script: Sequence[Outcome], **options: Any) -> tuple[list[Any], Verdict]:
    """Play `script`, its last outcome for ever. Return what was done, models by name and pauses, and the verdict."""
    steps = policy(models, **options).run()
    done: list[Any] = []
    outcomes = list(script)
    outcome: Outcome | None = None
    while True:
        try:
            step = next(steps) if outcome is None else steps.send(outcome)
        except StopIteration as stop:
            return done, stop.value
        if isinstance(step, Pause):
            done.append(step.seconds)
            outcome = Paused()
            continue
        done.append(step.model.name if isinstance(step, Try) else "wait")
        outcome = outcomes.pop(0) if len(outcomes) > 1 else outcomes[0]


def tried(models: Sequence[Model], script: Sequence[Outcome], **options: Any) -> str:
    done, _ = play(models, script, **options)
    return "".join([what for what in done if isinstance(what, str)])


def pair() -> list[Model]:
    return [model(A), model(B)]


# --- order ------------------------------------------------------------------------------------------------------------


def test_an_answer_ends_the_call_at_the_first_model() -> None:
    assert play(pair(), [Answered()]) == ([A], Answered())


@pytest.mark.parametrize(
    "error",
    [PhaseTimeout("first_token", 1.0), PhaseTimeout("connect", 1.0), PhaseTimeout("answer", 1.0), MalformedResponse()],
)
def test_a_silent_model_is_never_tried_again_in_the_call(error: ProviderError) -> None:
    assert tried(pair(), [Failed(error), Answered()]) == "ab"
    assert tried([model(A)], [Failed(error)]) == "a"


@pytest.mark.parametrize("error", [ProviderFailed(), ConnectionFailed(before_headers=True)])
def test_what_failed_once_is_tried_once_more_on_the_same_model(error: ProviderError) -> None:
    assert tried(pair(), [Failed(error), Answered()]) == "aa"
    assert tried(pair(), [Failed(error), Failed(error), Answered()]) == "aab"


def test_a_connection_that_was_refused_is_not_tried_again() -> None:
    refused = ConnectionFailed(before_headers=True, reached=False)
    assert tried(pair(), [Failed(refused), Answered()]) == "ab"


def test_a_connection_that_was_closed_between_calls_is_replaced_once_whatever_the_budget() -> None:
    stale = Failed(ConnectionFailed(before_headers=True, reused=True))
    assert tried(pair(), [stale, Answered()], retries=0) == "aa"
    assert tried(pair(), [stale], retries=0) == "aabb"


def test_a_reset_connection_is_tried_again_at_once_and_a_failed_model_after_a_pause() -> None:
    assert play(pair(), [Failed(ConnectionFailed()), Answered()])[0] == [A, A]
    first, pause, again = play(pair(), [Failed(ProviderFailed()), Answered()])[0]
    assert (first, again) == (A, A)
    assert 0.1 <= pause <= 0.2


@pytest.mark.parametrize("error", [RateLimited(), Overloaded()])
def test_a_throttled_model_is_tried_twice_more_with_growing_pauses_and_then_the_next(error: ProviderError) -> None:
    done, verdict = play(pair(), [Failed(error)] * 3 + [Answered()])
    assert [what for what in done if isinstance(what, str)] == [A, A, A, B]
    first, second = [what for what in done if isinstance(what, float)]
    assert 0.1 <= first <= 0.2 <= second <= 0.4
    assert verdict == Answered()


def test_retries_can_be_switched_off() -> None:
    assert tried(pair(), [Failed(Overloaded()), Answered()], retries=0) == "ab"


def test_the_last_model_is_tried_again_as_often_as_the_feature_allows() -> None:
    assert tried([model(A)], [Failed(ProviderFailed())], retries=3) == "aaaa"


# --- Retry-After ------------------------------------------------------------------------------------------------------


def test_the_next_model_is_asked_at_once_where_that_is_sooner_than_the_providers_time() -> None:
    assert play(pair(), [Failed(RateLimited(retry_after=2.0)), Answered()])[0] == [A, B]


def test_the_providers_time_is_waited_for_where_that_is_sooner_than_the_next_model() -> None:
    models = [model(A, answers=0.2), model(B, answers=9.0)]
    assert play(models, [Failed(RateLimited(retry_after=2.0)), Answered()])[0] == [A, 2.0, A]


def test_the_only_model_is_tried_again_at_the_providers_time_if_that_fits_the_deadline() -> None:
    limited = Failed(RateLimited(retry_after=2.0))
    assert play([model(A)], [limited, Answered()])[0] == [A, 2.0, A]
    done, verdict = play([model(A)], [limited], remaining=lambda: 2.5)
    assert done == [A]
    assert isinstance(verdict, Fail)
    assert verdict.error.retry_after == 2.0


def test_an_empty_retry_budget_leaves_only_the_next_model() -> None:
    models = pair()
    while models[0].health.retries.spend():
        pass
    assert tried(models, [Failed(ProviderFailed()), Answered()]) == "ab"


# --- breakers and limits ----------------------------------------------------------------------------------------------


def test_a_model_known_to_be_down_is_passed_over() -> None:
    assert tried([model(A, state="open"), model(B)], [Answered()]) == "b"


def test_a_probe_is_one_attempt() -> None:
    assert tried([model(A, state="probe"), model(B)], [Failed(Overloaded()), Answered()]) == "ab"


def test_nothing_is_sent_when_every_model_is_known_to_be_down() -> None:
    models = [model(A, state="open"), model(B, state="open")]
    done, verdict = play(models, [Answered()])
    assert done == []
    assert isinstance(verdict, Fail)
    assert isinstance(verdict.error, ModelDown)
    assert verdict.error.retry_after == 3.0
    assert "a, b" in verdict.error.message
    assert isinstance(play(models, [Answered()], last_resort=True)[1], UseLastResort)


def test_a_model_that_went_down_meanwhile_is_not_tried_again() -> None:
    models = pair()
    steps = policy(models).run()
    next(steps)
    assert isinstance(steps.send(Failed(Overloaded())), Pause)
    cast("Any", models[0].health.breaker).state = "open"
    step = steps.send(Paused())
    assert isinstance(step, Try)
    assert step.model.name == B


def test_a_busy_model_is_passed_over_while_another_has_room_and_asked_after_it() -> None:
    assert tried([model(A, busy=True), model(B)], [Failed(MalformedResponse())]) == "ba"
    assert tried([model(A, busy=True), model(B, busy=True)], [Failed(MalformedResponse())]) == "ab"
    assert tried([model(A, busy=True), model(B, state="open")], [Failed(MalformedResponse())]) == "a"


def test_the_last_try_knows_that_none_follows() -> None:
    steps = policy([model(A), model(B, state="open")]).run()
    assert cast("Try", next(steps)).last
    steps = policy(pair()).run()
    assert not cast("Try", next(steps)).last


# --- what another model would repeat ----------------------------------------------------------------------------------


def test_a_refusal_is_not_routed_around_unless_the_feature_says_so() -> None:
    refused = Failed(ContentRefused())
    assert play(pair(), [refused, Answered()], last_resort=True) == ([A], Fail(refused.error))
    assert tried(pair(), [refused, Answered()], route_around_refusals=True) == "ab"


def test_a_context_too_long_goes_to_a_larger_model_only() -> None:
    models = [model(A, context=8), model(B, context=8), model(C, context=32)]
    assert tried(models, [Failed(ContextTooLong()), Answered()]) == "ac"
    assert tried([model(A, context=8), model(B)], [Failed(ContextTooLong()), Answered()]) == "ab"


@pytest.mark.parametrize("error", [BadRequest(), ContextTooLong(), LimitExceeded()])
def test_a_last_resort_never_hides_what_the_caller_can_mend(error: ProviderError) -> None:
    verdict = play(pair(), [Failed(error)], last_resort=True)[1]
    assert verdict == Fail(error)


def test_a_limit_that_the_caller_can_not_mend_leads_to_the_next_model_and_then_the_last_resort() -> None:
    exceeded = LimitExceeded(callers_fault=False)
    assert play(pair(), [Failed(exceeded)], last_resort=True) == ([A, B], UseLastResort(exceeded))
    assert play(pair(), [Failed(exceeded)]) == ([A, B], Fail(exceeded))


def test_the_error_told_is_the_last_that_may_pass_by_itself() -> None:
    verdict = play(pair(), [Failed(MalformedResponse("x")), Failed(BadRequest("y"))])[1]
    assert isinstance(verdict, Fail)
    assert verdict.error.message == "x"


# --- answers that break off -------------------------------------------------------------------------------------------


def broke(resume: Any = "continue", error: ProviderError | None = None) -> Failed:
    return Failed(error or BrokenStream(), spoke=True, resume=resume)


def reasons(models: Sequence[Model], script: Sequence[Outcome]) -> list[tuple[str, str]]:
    steps, seen = policy(models).run(), []
    outcomes = list(script)
    step: Step = next(steps)
    while True:
        assert isinstance(step, Try)
        seen.append((step.model.name, step.reason))
        try:
            step = steps.send(outcomes.pop(0) if len(outcomes) > 1 else outcomes[0])
        except StopIteration:
            return seen


def test_a_broken_answer_that_none_can_take_up_ends_the_call() -> None:
    failed = broke("no")
    assert play(pair(), [failed], last_resort=True) == ([A], Fail(failed.error))


def test_the_next_model_goes_on_where_it_can_and_else_says_it_again() -> None:
    able = [model(A), model(B, continues=True)]
    assert reasons(able, [broke(), Answered()]) == [(A, "first"), (B, "continue")]
    assert reasons(pair(), [broke(), Answered()]) == [(A, "first"), (B, "restart")]
    assert reasons(able, [broke("restart"), Answered()]) == [(A, "first"), (B, "restart")]


def test_a_model_that_refuses_to_go_on_says_it_again_and_is_remembered() -> None:
    models = [model(A), model(B, continues=True)]
    refused = Failed(BadRequest("This model does not support assistant message prefill."), resume="continue")
    assert reasons(models, [broke(), refused, Answered()]) == [(A, "first"), (B, "continue"), (B, "restart")]
    assert reasons(models, [broke(), Answered()]) == [(A, "first"), (B, "restart")]


def test_a_model_that_takes_up_an_answer_is_tried_again_like_any_other() -> None:
    throttled = Failed(Overloaded(), resume="restart")
    assert tried(pair(), [broke(), throttled, throttled, Answered()]) == "abbb"
    assert tried(pair(), [broke(), throttled], retries=0) == "ab"


def test_the_only_model_takes_up_its_own_answer_once() -> None:
    assert tried([model(A)], [broke()]) == "aa"


def test_a_model_that_fell_silent_in_its_answer_does_not_take_it_up_itself() -> None:
    stalled = BrokenStream()
    stalled.__cause__ = PhaseTimeout("idle", 1.0)
    assert tried([model(A)], [broke(error=stalled)]) == "a"
    assert tried(pair(), [broke(error=stalled), Answered()]) == "ab"


def test_no_last_resort_comes_after_a_part_of_an_answer() -> None:
    verdict = play(pair(), [broke()], last_resort=True)[1]
    assert isinstance(verdict, Fail)


# --- hedging ----------------------------------------------------------------------------------------------------------


def hedged(*models: Model, hedge: bool | float = 0.5) -> Fallback:
    return policy(models, hedge=hedge)


def test_the_next_model_is_asked_beside_one_that_is_late() -> None:
    steps = hedged(*pair()).run()
    first = next(steps)
    assert isinstance(first, Try)
    assert first.hedge_after == 0.5
    second = steps.send(Late())
    assert isinstance(second, Try)
    assert (second.model.name, second.reason) == (B, "hedge")
    assert steps.send(Failed(Overloaded(), others=True)) == Wait()
    with pytest.raises(StopIteration) as stop:
        steps.send(Answered())
    assert stop.value.value == Answered()


def test_late_is_beyond_the_models_own_p95() -> None:
    assert cast("Try", next(hedged(model(A, answers=0.3), model(B), hedge=True).run())).hedge_after == pytest.approx(
        0.3
    )
    assert cast("Try", next(hedged(*pair(), hedge=True).run())).hedge_after is None, "nothing is known of it yet"


def test_no_hedge_without_a_budget_or_a_model() -> None:
    models = pair()
    while models[0].health.hedges.spend():
        pass
    steps = hedged(*models).run()
    next(steps)
    assert steps.send(Late()) == Wait()
    assert cast("Try", next(hedged(model(A)).run())).hedge_after is None
    assert cast("Try", next(hedged(model(A), model(B, state="open")).run())).hedge_after is None


def test_after_a_hedge_the_models_left_are_tried_and_none_again() -> None:
    steps = hedged(model(A), model(B), model(C)).run()
    next(steps)
    steps.send(Late())
    assert steps.send(Failed(Overloaded(), others=True)) == Wait()
    step = steps.send(Failed(Overloaded()))
    assert isinstance(step, Try)
    assert step.model.name == C


# --- laws -------------------------------------------------------------------------------------------------------------

NEVER_AGAIN = (PhaseTimeout, ContextTooLong, ContentRefused, BadRequest, AuthenticationFailed, Truncated)
ERRORS: list[Callable[[], ProviderError]] = [
    lambda: RateLimited(retry_after=2.0),
    lambda: RateLimited(retry_after=50.0),
    RateLimited,
    Overloaded,
    ProviderFailed,
    ContextTooLong,
    ContentRefused,
    BadRequest,
    AuthenticationFailed,
    Truncated,
    BrokenStream,
    lambda: PhaseTimeout("first_token", 3.0),
    lambda: ConnectionFailed(before_headers=True),
    lambda: ConnectionFailed(before_headers=False),
    MalformedResponse,
]


class Calls(RuleBasedStateMachine):
    """One call after another, with whatever may come of each step."""

    @initialize(
        models=st.lists(
            st.builds(
                model,
                st.sampled_from("abcdef"),
                state=st.sampled_from(["closed", "closed", "closed", "probe", "open"]),
                busy=st.booleans(),
                context=st.sampled_from([None, 8, 32]),
                continues=st.booleans(),
                answers=st.sampled_from([None, 0.1, 5.0]),
            ),
            min_size=1,
            max_size=4,
            unique_by=lambda model: model.name,
        ),
        retries=st.integers(0, 4),
        hedge=st.sampled_from([False, True, 0.5]),
        around=st.booleans(),
        last_resort=st.booleans(),
        deadline=st.floats(0.5, 60.0),
    )
    def begin(
        self, models: list[Model], retries: int, hedge: bool | float, around: bool, last_resort: bool, deadline: float
    ) -> None:
        self.models, self.now, self.seconds = models, 0.0, deadline
        self.retries, self.last_resort = retries, last_resort
        self.rules = Rules(retries=retries, hedge=hedge, route_around_refusals=around)
        self.call()

    def call(self) -> None:
        self.deadline = self.now + self.seconds
        self.tries: list[tuple[str, str]] = []
        self.hedged = [(model, model.health.hedged) for model in self.models]
        self.running: list[str] = []
        self.failures: dict[str, ProviderError] = {}
        self.not_before: dict[str, float] = {}
        self.spoke, self.resume = False, "no"
        self.verdict: Verdict | None = None
        self.policy = Fallback(
            self.models,
            self.rules,
            last_resort=self.last_resort,
            remaining=lambda: self.deadline - self.now,
            chance=random.Random(1),
        ).run()
        self.step: Step | None = None
        self.send(None)

    def send(self, outcome: Outcome | None) -> None:
        try:
            step = next(self.policy) if outcome is None else self.policy.send(outcome)
        except StopIteration as stop:
            self.verdict = stop.value
            return
        self.step = step
        if isinstance(step, Pause):
            assert step.seconds < self.deadline - self.now, "a pause ends before the deadline"
            assert not self.running
        elif isinstance(step, Try):
            self.check(step)
            self.running.append(step.model.name)
        else:
            assert self.running, "there is something to wait for"

    def check(self, step: Try) -> None:
        name = step.model.name
        assert step.model.health.breaker.open_for() == 0, "a model known to be down is left alone"
        assert self.now >= self.not_before.get(name, 0.0), "never earlier than the provider said"
        assert (step.reason == "hedge") == bool(self.running), "attempts run at once for a hedge alone"
        again = [reason for other, reason in self.tries if other == name]
        before = self.failures.get(name)
        if again and step.reason == "retry":
            assert not isinstance(before, NEVER_AGAIN)
            assert not self.spoke
        if step.reason in ("continue", "restart"):
            assert self.spoke
        assert again.count("retry") + (step.reason == "retry") <= self.retries
        assert len(again) <= 2 * self.retries + 3, (
            "a restart of a refused continuation and its own answer beyond the retries"
        )
        if self.spoke:
            assert step.reason in ("continue", "restart")
            assert self.resume != "no"
        self.tries.append((name, step.reason))

    def outstanding(self) -> bool:
        return self.verdict is None

    @precondition(lambda self: self.outstanding() and isinstance(self.step, Pause))
    @rule()
    def wait(self) -> None:
        assert isinstance(self.step, Pause)
        self.now += self.step.seconds
        self.send(Paused())

    @precondition(lambda self: self.outstanding() and not isinstance(self.step, Pause))
    @rule(
        error=st.sampled_from(ERRORS),
        seconds=st.floats(0, 5),
        speaks=st.booleans(),
        resume=st.sampled_from(["no", "restart", "continue"]),
        which=st.integers(0, 1),
    )
    def fail(self, error: Callable[[], ProviderError], seconds: float, speaks: bool, resume: Any, which: int) -> None:
        self.now = min(self.deadline, self.now + seconds)
        failure, name = error(), self.running.pop(which % len(self.running))
        self.failures[name] = failure
        if failure.retry_after is not None:
            self.not_before[name] = self.now + failure.retry_after
        self.spoke = self.spoke or speaks
        self.resume = resume if self.spoke else "no"
        self.running = self.running if not speaks else []
        tried = next(model for model in self.models if model.name == name)
        self.send(Failed(failure, speaks, self.resume, others=bool(self.running), model=tried))

    @precondition(lambda self: self.outstanding() and isinstance(self.step, Try) and self.step.hedge_after is not None)
    @rule()
    def late(self) -> None:
        assert isinstance(self.step, Try)
        assert self.step.hedge_after is not None
        self.now += self.step.hedge_after
        if self.now < self.deadline:
            self.send(Late())

    @precondition(lambda self: self.outstanding() and not isinstance(self.step, Pause))
    @rule()
    def answer(self) -> None:
        self.send(Answered())
        assert self.verdict == Answered(), "an answer is the end"

    @precondition(lambda self: not self.outstanding())
    @rule()
    def call_again(self) -> None:
        self.call()

    @invariant()
    def hedges_within_their_budget(self) -> None:
        """Each is paid by the model that was late, which can pay for one in a call."""
        paid = [model.health.hedged - before for model, before in getattr(self, "hedged", [])]
        assert all(one <= 1 for one in paid)
        assert sum(reason == "hedge" for _, reason in getattr(self, "tries", [])) <= sum(paid)

    @invariant()
    def the_verdict_fits_what_happened(self) -> None:
        verdict = getattr(self, "verdict", None)
        if isinstance(verdict, UseLastResort):
            assert self.last_resort
            assert not self.spoke, "a last resort is no end of another answer"
            assert not cast("ProviderError", verdict.error).callers_fault
        if isinstance(verdict, Fail) and not self.tries:
            assert isinstance(verdict.error, ModelDown)


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=300, stateful_step_count=25, deadline=None)


@given(
    count=st.integers(1, 4),
    errors=st.lists(st.sampled_from(ERRORS), min_size=1, max_size=30),
    retries=st.integers(0, 10),
)
def test_every_sequence_of_failures_comes_to_an_end(
    count: int, errors: list[Callable[[], ProviderError]], retries: int
) -> None:
    models = [model(name) for name in "abcd"[:count]]
    done, verdict = play(models, [Failed(error()) for error in errors], retries=retries)
    assert len([what for what in done if isinstance(what, str)]) <= count * (retries + 1)
    assert isinstance(verdict, Fail)
