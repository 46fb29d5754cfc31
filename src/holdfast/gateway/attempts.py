"""The attempts of one call: what the fallback policy decides is done here, several at once where it hedges."""

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec

from holdfast.clock import Clock
from holdfast.errors import (
    Cancelled,
    ConnectionFailed,
    ModelBusy,
    PhaseTimeout,
    ProviderError,
    Saturated,
)
from holdfast.gateway.alarm import Alarm
from holdfast.gateway.answers.exchange import Exchange
from holdfast.gateway.catalog import Model
from holdfast.gateway.conceal import conceal
from holdfast.gateway.fallback import (
    Answered,
    Failed,
    Late,
    Outcome,
    Pause,
    Paused,
    Step,
    Steps,
    Try,
    Verdict,
)
from holdfast.gateway.fetch import Limits
from holdfast.gateway.record import AttemptRecord, CallRecord
from holdfast.gateway.traffic.breaker import ANSWERED, NO_FAILURES

SHARE_OF_REST: Final = 2 / 3
"""How much of the time left a model may take, for its first token or the whole answer, while others could follow..."""
SHARE_OF_PROBE: Final = 1 / 4
"""...and one that was down a moment ago, unless it usually needs more."""
LAST_RESORT_RESERVE: Final = 0.25
"""Seconds of a deadline kept for the last resort; of a short deadline a tenth."""
GRACE: Final = 0.05
"""Seconds that the last model's own time ends after the deadline, which so is always what ends the call."""
IDLE_SHARE: Final = 1 / 2
"""How much of that a stream may be silent in its middle: another model needs time to take up the answer."""


class Attempts:
    """Carries out the steps of one call's policy. `ends` is the call's deadline on the loop's clock."""

    __slots__ = ("_alarm", "_clock", "_ends", "_exchange", "_race", "_record")

    def __init__(self, record: CallRecord, exchange: Exchange, clock: Clock, ends: float) -> None:
        self._record = record
        self._exchange = exchange
        self._clock = clock
        self._ends = ends
        self._race: Race | None = None

    async def follow(self, steps: Steps, alarm: Alarm) -> Verdict:
        """Do what the policy says until it has a verdict, or until `alarm` rings."""
        self._alarm = alarm
        race: Race | None = None
        outcome: Outcome | None = None
        try:
            while True:
                try:
                    step = next(steps) if outcome is None else steps.send(outcome)
                except StopIteration as stop:
                    verdict: Verdict = stop.value
                    if race is not None:
                        race.decide()
                    return verdict
                if type(step) is Try and step.hedge_after is None and race is None:
                    outcome = await self._attempt(step)
                else:
                    race = self._race = race or Race(self._attempt, self._exchange)
                    outcome = await race.do(step)
        finally:
            if race is not None:
                await race.end()

    def remaining(self) -> float:
        """Return the seconds that attempts may still take."""
        rest = self._record.deadline - self._clock.monotonic()
        return rest - reserve(rest)

    async def _attempt(self, step: Try) -> Answered | Failed:
        model, record, exchange = step.model, self._record, self._exchange
        health = model.health
        if health.gate is not None and not health.gate.try_enter():
            try:
                await self._wait_for_room(model, step)
            except Saturated as error:
                health.breaker.released(step.probe)
                busy = ModelBusy(f"{model.name}: {error.message}", retry_after=error.retry_after)
                return Failed(busy, resume=exchange.resumption(), model=model)
            except BaseException:
                health.breaker.released(step.probe)
                raise
        attempt = record.open_attempt(model, step.reason, probe=step.probe)
        health.begin()
        try:
            await exchange.attempt(attempt, self._limits(step))
        except ProviderError as error:
            conceal(error, model)
            attempt.close(error)
            self._blame(attempt, error)
            return Failed(error, attempt.spoke, exchange.resumption(), model=model)
        except BaseException:
            self._stopped(attempt)
            raise
        finally:
            health.end()
            if health.gate is not None:
                health.gate.leave()
        attempt.close(None)
        health.breaker.succeeded(attempt.probe)
        self._time(attempt)
        return Answered()

    async def _wait_for_room(self, model: Model, step: Try) -> None:
        """Wait for a place among the calls that the model may have. Raises Saturated."""
        assert model.health.gate is not None
        rest, usual = self.remaining(), model.health.seen(streamed=self._exchange.streamed).typical()
        rest = rest if step.last else rest * SHARE_OF_REST
        until = self._clock.monotonic() + rest - (usual or 0.0)  # a place without the time to use it helps nobody
        await model.health.gate.enter(self._record.arrival.hints.priority, until)

    def _limits(self, step: Try) -> Limits:
        feature, timeouts = self._record.feature, step.model.timeouts
        assert feature is not None
        if feature.timeouts is not None:
            timeouts = feature.timeouts
        rest = self._record.deadline - self._clock.monotonic()
        if rest < 0.0:
            rest = 0.0
        share = rest + GRACE if step.last else rest * SHARE_OF_REST
        if step.probe and not step.last:
            usual = step.model.health.seen(streamed=self._exchange.streamed).typical()
            share = share if usual is None else min(share, max(rest * SHARE_OF_PROBE, 2 * usual))
        return Limits(
            connect=min(share, timeouts.connect),
            first_token=min(share, timeouts.first_token),
            idle=timeouts.idle if step.last else min(timeouts.idle, share * IDLE_SHARE),
            answer=timeouts.answer or share,
            max_answer=feature.max_answer,
            until=self._ends - 2 * reserve(rest),
            share=math.inf if step.last else share,
        )

    def _blame(self, attempt: AttemptRecord, error: ProviderError) -> None:
        """Tell the breaker what a failure says of the model."""
        breaker = attempt.model.health.breaker
        hurried = isinstance(error, PhaseTimeout) and error.share and not self._had_time(attempt)
        stale = isinstance(error, ConnectionFailed) and error.stale and not attempt.probe  # which is not tried again
        if attempt.probe and isinstance(error, ANSWERED):
            breaker.succeeded(probe=True)
        elif isinstance(error, NO_FAILURES) or hurried or stale:
            breaker.released(attempt.probe)
        else:
            breaker.failed(error.retry_after, attempt.probe)

    def _stopped(self, attempt: AttemptRecord) -> None:
        """Tell the breaker of an attempt that was not left to its end. At the deadline, silence is a failure."""
        breaker = attempt.model.health.breaker
        if self._race is not None and self._race.outran(asyncio.current_task()):
            attempt.close(Cancelled("Another model was sooner."))
            self._time(attempt)  # at least so long, or the slow ones would never be counted
            breaker.released(attempt.probe)
        elif self._alarm.rang and not attempt.spoke and self._had_time(attempt):
            breaker.failed(probe=attempt.probe)
        else:
            breaker.released(attempt.probe)

    def _had_time(self, attempt: AttemptRecord) -> bool:
        """Whether a model that said nothing had longer than it usually needs; half the deadline if nothing is known."""
        feature, seen = self._record.feature, attempt.model.health.seen(streamed=attempt.streamed)
        assert feature is not None
        usual, typical = seen.p95(), seen.typical()
        if usual is None:
            usual = feature.deadline / 2 if typical is None else 2 * typical
        return self._clock.monotonic() - attempt.started >= usual

    def _time(self, attempt: AttemptRecord) -> None:
        """Note how long the model took."""
        health, ended = attempt.model.health, attempt.ended
        assert ended is not None
        if not attempt.streamed:
            health.answer.add(ended - attempt.started)
        elif attempt.first_token is not None or attempt.error is not None:
            health.first_token.add((attempt.first_token or ended) - attempt.started)


class Race:
    """Attempts of one call that run at once. The first to speak goes on, the others are cancelled."""

    def __init__(self, attempt: Callable[[Try], Coroutine[Any, Any, Answered | Failed]], exchange: Exchange) -> None:
        self._attempt = attempt
        self._tasks: list[asyncio.Task[Answered | Failed]] = []
        self._outrun: list[asyncio.Task[Answered | Failed]] = []
        self._exchange = exchange
        self._spoke: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        exchange.on_speak = self._on_speak

    async def do(self, step: Step) -> Outcome:
        """Carry out a step, and return what came of it, or of an attempt that ran already."""
        patience: float | None = None
        match step:
            case Pause(seconds):
                await asyncio.sleep(seconds)
                return Paused()
            case Try():
                self._tasks.append(self._start(step))
                patience = step.hedge_after
        if patience is not None and not self._spoke.done():
            waited: list[asyncio.Future[Any]] = [*self._tasks, self._spoke]
            await asyncio.wait(waited, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if not self._spoke.done() and not any(task.done() for task in self._tasks):
                return Late()
        return await self._next()

    async def end(self) -> None:
        """Cancel what still runs, and wait until it has ended."""
        self._exchange.on_speak = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._outrun, return_exceptions=True)

    def decide(self, best: asyncio.Task[Any] | None = None) -> None:
        """Cancel all attempts but the one that was soonest, which may have ended."""
        for task in [task for task in self._tasks if task is not best]:
            self._tasks.remove(task)
            self._outrun.append(task)
            task.cancel()

    def outran(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether another attempt was sooner than that of this task."""
        return task in self._outrun

    def _start(self, step: Try) -> asyncio.Task[Answered | Failed]:
        begun = False

        async def attempt() -> Answered | Failed:
            nonlocal begun
            begun = True
            return await self._attempt(step)

        def ended(_: object) -> None:
            if not begun:  # outrun at once, so it could not tell its breaker
                step.model.health.breaker.released(step.probe)

        task = asyncio.create_task(attempt())
        task.add_done_callback(ended)
        return task

    async def _next(self) -> Answered | Failed:
        """Return how the next attempt ended, of those that were not outrun."""
        while True:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            task = next((task for task in self._tasks if task.done()), None)
            if task is None:  # one that was outrun has ended
                continue
            self._tasks.remove(task)
            outcome = task.result()
            if isinstance(outcome, Failed) and self._tasks:
                return msgspec.structs.replace(outcome, others=True)
            return outcome

    def _on_speak(self, attempt: AttemptRecord) -> None:
        if not self._spoke.done():
            self._spoke.set_result(None)
        self.decide(asyncio.current_task())


def reserve(rest: float) -> float:
    """Return how much of the rest of a deadline is kept for its end, in seconds."""
    return LAST_RESORT_RESERVE if rest > 10 * LAST_RESORT_RESERVE else rest / 10
