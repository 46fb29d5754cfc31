"""The fallback policy: which model to try next, when, and when to stop. It decides and does nothing.

`Fallback.run` is a generator that yields steps and is sent what came of them, so every sequence of failures can be
tested without a socket or a clock (after httpx's `auth_flow`).
"""

import random
from collections.abc import Callable, Generator, Sequence
from typing import Final, Literal

import msgspec

from holdfast.errors import (
    BadRequest,
    CallError,
    ConnectionFailed,
    ContentRefused,
    ContextTooLong,
    ContractViolated,
    ModelDown,
    Overloaded,
    PhaseTimeout,
    ProviderError,
    RateLimited,
)
from holdfast.events import Reason
from holdfast.gateway.catalog import Model, Rules
from holdfast.providers.prefill import refuses_prefill

USUAL_SECONDS: Final = 1.0
"""How long a model of which nothing is known is expected to take."""

Resume = Literal["no", "restart", "continue"]
"""How another model may take up an answer of which the caller has a part: not at all, by saying it again from its
start, or also by going on where it broke off."""


# --- steps ------------------------------------------------------------------------------------------------------------


class Try(msgspec.Struct, frozen=True, gc=False):
    """Send the request to a model. `last` when no other would follow, `probe` when it was down a moment ago.

    After `hedge_after` seconds without a word of it the answer `Late` is expected.
    """

    model: Model
    reason: Reason
    last: bool
    probe: bool = False
    hedge_after: float | None = None


class Pause(msgspec.Struct, frozen=True, gc=False):
    """Wait before the next step."""

    seconds: float


class Wait(msgspec.Struct, frozen=True, gc=False):
    """Wait for what runs."""


# --- what came of them ------------------------------------------------------------------------------------------------


class Answered(msgspec.Struct, frozen=True, gc=False):
    """An attempt gave a whole answer."""


class Failed(msgspec.Struct, frozen=True):  # seen by the garbage collector, as are all that hold an error
    """An attempt failed. `spoke` when the caller has received a part of its answer.

    `resume` is how the answer can be taken up of which the caller has a part, from this attempt or an earlier one.
    `others` when another attempt of the call still runs. `model` is the one that was tried, None for the last.
    """

    error: ProviderError
    spoke: bool = False
    resume: Resume = "no"
    others: bool = False
    model: Model | None = None


class Late(msgspec.Struct, frozen=True, gc=False):
    """The attempt has not spoken within `hedge_after`. It still runs."""


class Paused(msgspec.Struct, frozen=True, gc=False):
    """The pause is over."""


# --- verdicts ---------------------------------------------------------------------------------------------------------


class Fail(msgspec.Struct, frozen=True):
    """End the call with this error."""

    error: CallError


class UseLastResort(msgspec.Struct, frozen=True):
    """Answer with the feature's last resort; `error` is why."""

    error: CallError


Step = Try | Pause | Wait
Outcome = Answered | Failed | Late | Paused
Verdict = Answered | UseLastResort | Fail
Steps = Generator[Step, Outcome, Verdict]

WAIT: Final = Wait()


class Fallback:
    """The policy of one call over `models`, in their order.

    - A model that is known to be down, or has all the calls it may have, is passed over while another can answer.
    - The same model is tried again only after what may pass by itself: at the provider's own time or after a pause,
      within the deadline, `rules.retries` and the model's retry budget, and only if no other model would be sooner.
      Never after silence.
    - A model whose answer fails its contract is told so, and asked again, at most `rules.retries` times.
    - What another model would repeat, such as a refusal, ends the call.
    - Once the caller has a part of an answer, another model may only take it up.
    - A last resort never hides what the caller could mend.

    `last_resort` says whether there is one. `remaining` returns the seconds that attempts may still take, and
    `streamed` says whether first tokens count or whole answers.
    """

    _began = False
    """Whether the caller has a part of an answer; `_resume` is how it can be taken up."""
    _resume: Resume = "no"
    _tried = False
    _wrong: ContractViolated | None = None
    """What was wrong with the answer of which the caller has a part, if that is why it was not gone on with."""
    _taken_up: Model | None = None
    """The last model that was asked to take up its own answer: once is enough."""

    def __init__(
        self,
        models: Sequence[Model],
        rules: Rules,
        *,
        last_resort: bool,
        remaining: Callable[[], float],
        streamed: bool = False,
        chance: random.Random,
    ) -> None:
        self._rest = [*models]
        self._rules = rules
        self._last_resort = last_resort
        self._remaining = remaining
        self._streamed = streamed
        self._chance = chance
        self._failures: list[ProviderError] = []
        self._down: list[Model] = []

    def run(self) -> Steps:
        """Yield steps, take what came of them, and return the verdict."""
        while self._rest:
            model = self._pick()
            state = model.health.breaker.ask()
            if state == "open":
                self._down.append(model)
                continue
            verdict = yield from self._try(model, probe=state == "probe")
            if verdict is not None:
                return verdict
        return self._give_up()

    def _try(self, model: Model, *, probe: bool) -> Generator[Step, Outcome, Verdict | None]:
        """Try one model as often as it makes sense; None: go on with the next."""
        reason, tries, hedges = self._reason(model), 0, self._rules.hedge is not False
        model.health.count(hedges=hedges)
        self._tried = True
        while True:
            hedge_after = self._patience(model) if hedges else None
            outcome = yield Try(model, reason, not self._follows(), probe, hedge_after)
            if type(outcome) is Answered:
                return outcome
            hedged = isinstance(outcome, Late)
            if hedged:
                outcome = yield from self._see_through(model)
            if isinstance(outcome, Answered):
                return outcome
            assert isinstance(outcome, Failed)
            if (verdict := self._failed(outcome)) is not None:
                return verdict
            other = self._asks_otherwise(outcome, model, reason, tries, hedged=hedged)
            if other is not None:
                reason, tries = other, tries + (other == "reask")
                probe = probe and model.health.breaker.ask() == "probe"  # its token was given back
                continue
            self._hand_over(outcome, outcome.model or model)
            once = outcome.spoke or hedged or probe
            pause = None if once else self._pause(outcome.error, model, tries)
            if pause is None:
                return None
            if pause > 0:
                yield Pause(pause)
            state = model.health.breaker.ask()
            if state == "open":
                return None
            probe, tries = state == "probe", tries + 1
            reason = reason if self._began else "retry"

    # --- what follows a failure ---------------------------------------------------------------------------------------

    def _failed(self, failed: Failed) -> Fail | None:
        """Note a failure, and return the verdict if it ends the call."""
        error = failed.error
        self._failures.append(error)
        self._began = self._began or failed.spoke
        self._resume = failed.resume
        if self._ends(error):
            return Fail(self._wrong or error)
        if failed.spoke and isinstance(error, ContractViolated):
            self._wrong = self._wrong or error
        return None

    def _asks_otherwise(
        self, failed: Failed, model: Model, reason: Reason, tries: int, *, hedged: bool
    ) -> Reason | None:
        """Return why the same model is asked again at once, in other words; None if it isn't."""
        error = failed.error
        if reason == "continue" and isinstance(error, BadRequest):
            if refuses_prefill(error):
                model.health.prefill = False
            return "restart"
        if failed.spoke or hedged:
            return None
        return "reask" if self._asks_again(error, model, tries) else None

    def _asks_again(self, error: ProviderError, model: Model, tries: int) -> bool:
        """Whether a model is told what is wrong with its answer."""
        if not isinstance(error, ContractViolated) or not error.reask:
            return False
        if self._began or tries >= self._rules.retries:
            return False
        return self._expected(model) < self._remaining()

    def _hand_over(self, failed: Failed, model: Model) -> None:
        """Let the rest of the models take up what the failed one has said, or leave out those that would fail alike."""
        if failed.spoke:
            self._take_up(failed.error, model)
        elif isinstance(failed.error, ContextTooLong):
            self._only_larger_than(model)

    # --- which model --------------------------------------------------------------------------------------------------

    def _pick(self) -> Model:
        """Take the next model that has room, if one has; else the next."""
        rest = self._rest
        if rest[0].health.busy:
            for index, model in enumerate(rest):
                if not model.health.busy and model.health.breaker.open_for() <= 0:
                    return rest.pop(index)
        return rest.pop(0)

    def _follows(self) -> bool:
        """Whether another model may be asked after this one."""
        for model in self._rest:  # noqa: SIM110 - asked for every attempt, and this is the fast way
            if model.health.breaker.open_for() <= 0:
                return True
        return False

    def _reason(self, model: Model) -> Reason:
        if self._began:
            return "continue" if self._resume == "continue" and model.continues else "restart"
        return "fallback" if self._tried or self._down else "first"

    def _take_up(self, error: ProviderError, model: Model) -> None:
        """Let the rest of the models take up the answer; the same one, once, if there is no other and it talks."""
        talks = error.retry_after is None and not _fell_silent(error)
        once = self._rules.retries > 0 and self._taken_up is not model
        if not self._rest and talks and once and model.health.retry():
            self._taken_up = model
            self._rest.append(model)

    def _only_larger_than(self, model: Model) -> None:
        size = model.context
        if size is not None:
            self._rest = [other for other in self._rest if other.context is None or other.context > size]

    # --- when ---------------------------------------------------------------------------------------------------------

    def _pause(self, error: ProviderError, model: Model, tries: int) -> float | None:
        """Return how long to wait before the same model is tried again, None if it isn't."""
        if isinstance(error, ConnectionFailed) and error.stale and tries == 0:
            return 0.0  # no failure of the model, so nothing that a budget is for
        follows = self._follows()
        throttled = isinstance(error, RateLimited | Overloaded)
        most = self._rules.retries if throttled or not follows else min(1, self._rules.retries)
        if not error.same_model_again or tries >= most:
            return None
        pause, told = self._backoff(error, tries), error.retry_after is not None
        done = pause + self._expected(model)
        if done >= self._remaining() or (told and follows and done >= self._soonest()):
            return None
        return pause if model.health.retry() else None

    def _backoff(self, error: ProviderError, tries: int) -> float:
        if error.retry_after is not None:
            return error.retry_after
        return error.backoff * (1 << tries) * self._chance.uniform(0.5, 1.0)

    def _expected(self, model: Model) -> float:
        """Return how long the model is expected to take, in seconds."""
        typical = model.health.seen(streamed=self._streamed).typical()
        return USUAL_SECONDS if typical is None else typical

    def _soonest(self) -> float:
        return min([self._expected(model) for model in self._rest if model.health.breaker.open_for() <= 0])

    # --- hedging ------------------------------------------------------------------------------------------------------

    def _patience(self, model: Model) -> float | None:
        """Return after how many seconds of silence another model is asked beside this one, None if none is."""
        if self._began or not self._follows():
            return None
        if self._rules.hedge is True:
            return model.health.seen(streamed=self._streamed).late()
        return float(self._rules.hedge)

    def _hedge(self, late: Model) -> Step:
        """Return the attempt beside one that is late, if there is a model and a budget for it."""
        for index, model in enumerate(self._rest):
            if model.health.busy or model.health.breaker.open_for() > 0:
                continue
            if not late.health.hedge():
                return WAIT
            state = model.health.breaker.ask()
            if state == "open":
                continue
            del self._rest[index]
            model.health.count(hedges=False)
            return Try(model, "hedge", not self._rest, state == "probe")
        return WAIT

    def _see_through(self, late: Model) -> Generator[Step, Outcome, Outcome]:
        """Start another model beside one that is late, if there is one, and return what came of them in the end."""
        step = self._hedge(late)
        running = [late, step.model] if isinstance(step, Try) else [late]
        final: Failed | None = None
        outcome = yield step
        while isinstance(outcome, Failed) and outcome.others:
            running.remove(outcome.model or late)
            if self._ends(outcome.error):  # as it would have without the other
                final = outcome
                if outcome.model is late:
                    return final
            self._failures.append(outcome.error)
            outcome = yield WAIT
        if isinstance(outcome, Failed):
            ended = outcome.model or running[-1]
            self._spare([model for model in running if model is not ended], late)
            return outcome if outcome.spoke or final is None else final
        return outcome

    def _spare(self, outrun: Sequence[Model], late: Model) -> None:
        """Let models that were outrun take up the answer, the late one last."""
        for model in outrun:
            self._rest.insert(len(self._rest) if model is late else 0, model)

    # --- the end ------------------------------------------------------------------------------------------------------

    def _ends(self, error: ProviderError) -> bool:
        """Whether no model may be asked any more."""
        if self._began and self._resume == "no":
            return True
        if isinstance(error, ContentRefused):
            return self._began or not self._rules.route_around_refusals
        return not error.next_model

    def _give_up(self) -> Verdict:
        error = self._most_telling()
        if self._last_resort and not self._began and not error.callers_fault:
            return UseLastResort(error)
        return Fail(self._wrong or error)

    def _most_telling(self) -> ProviderError:
        """Return the last error that may pass by itself; if the caller is at fault everywhere, the first."""
        if not self._failures:
            return _down(self._down)
        passing = [error for error in self._failures if not error.callers_fault]
        return passing[-1] if passing else self._failures[0]


def _fell_silent(error: ProviderError) -> bool:
    return isinstance(error, PhaseTimeout) or isinstance(error.__cause__, PhaseTimeout)


def _down(models: Sequence[Model]) -> ModelDown:
    names = ", ".join([model.name for model in models])
    seconds = min([model.health.breaker.open_for() for model in models], default=0.0)
    return ModelDown(f"Known to be down at the moment: {names}.", retry_after=max(seconds, 0.1))
