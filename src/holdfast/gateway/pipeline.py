"""The request path: `Pipeline.run` reads like the list of its steps."""

import asyncio
import logging
import math

from holdfast.clock import Clock
from holdfast.errors import (
    CallError,
    Cancelled,
    DeadlineExceeded,
    FeatureDisabled,
    InternalError,
    LogError,
    ProviderError,
    Saturated,
)
from holdfast.gateway.attempt import Limits
from holdfast.gateway.catalog import Catalog, Feature, Model
from holdfast.gateway.exchange import Exchange, Writer, open_exchange
from holdfast.gateway.fallback import Answered, Fail, Failed, Outcome, Try, UseLastResort, Verdict, fallback
from holdfast.gateway.record import Arrival, CallRecord
from holdfast.log.writer import LogWriter
from holdfast.privacy.subjects import SubjectHasher

SATURATED_RETRY_SECONDS = 1.0
LAST_RESORT_RESERVE = 0.25
"""Seconds of a deadline kept for the last resort; of a short deadline a tenth."""
SHARE_OF_REST = 2 / 3
"""How much of the time left a model may take, for its first token or the whole answer, while others could follow."""
SHORTEST_SECRET = 6
"""Bytes of a configured header from which on no error may repeat it."""
GOODBYE_SECONDS = 1.0
"""How long a caller may take to accept the end of a call that has failed."""

logger = logging.getLogger(__name__)


class Pipeline:
    """Carries calls from their arrival to the log. `catalog` may be replaced: a call keeps the one it began with."""

    def __init__(self, catalog: Catalog, log: LogWriter, subjects: SubjectHasher, clock: Clock) -> None:
        self.catalog = catalog
        self.log = log
        self.clock = clock
        self._subjects = subjects

    async def run(self, arrival: Arrival, writer: Writer) -> None:
        """Serve one call. Raises only CancelledError, when its task is cancelled because the caller hung up."""
        catalog = self.catalog
        record = CallRecord(arrival, catalog.config, self.clock)
        if (saturated := self._saturated()) is not None:
            await self._tell(record, saturated, writer)  # and not recorded: what waits for the log must not grow
            return
        exchange: Exchange | None = None
        try:
            feature = self._resolve(record, catalog)
            exchange = open_exchange(arrival, feature, writer)
            verdict = await self._attempt_in_time(record, feature, exchange)
            await self._answer(record, verdict, feature, exchange)
        except Saturated as error:
            await self._tell(record, error, writer)  # what happened waits for the log as it is
        except CallError as error:
            await self._fail(record, error, writer)
        except asyncio.CancelledError:
            self._cancelled(record, exchange)
            raise
        except Exception:
            logger.exception("call %s failed inside the gateway", arrival.id)
            await self._fail(record, InternalError(), writer)

    async def reject(self, arrival: Arrival, error: CallError, writer: Writer) -> None:
        """End a call that could not even be decoded."""
        record = CallRecord(arrival, self.catalog.config, self.clock)
        end = self._fail if self._saturated() is None else self._tell
        await end(record, error, writer)

    def _saturated(self) -> Saturated | None:
        """Say why no call is admitted; None if calls are."""
        log = self.log
        if log.full:
            return Saturated("The log can't keep up with the calls.", retry_after=SATURATED_RETRY_SECONDS)
        if log.sync and log.failing is not None:  # an answer could be paid for, but not be given
            return Saturated("The log can't be written at the moment.", retry_after=SATURATED_RETRY_SECONDS)
        return None

    def _resolve(self, record: CallRecord, catalog: Catalog) -> Feature:
        arrival, hints = record.arrival, record.arrival.hints
        assert arrival.request is not None
        feature = record.feature = catalog.feature(arrival.request.model)
        record.name = arrival.request.model
        seconds = feature.deadline
        if hints.deadline_ms is not None:
            seconds = min(hints.deadline_ms / 1000, catalog.settings.max_deadline)
        record.deadline = arrival.started + seconds
        if hints.subject is not None:
            record.subject = self._subjects.hash(hints.subject)
        return feature

    async def _attempt_in_time(self, record: CallRecord, feature: Feature, exchange: Exchange) -> Verdict:
        arrival, resort = record.arrival, feature.last_resort if exchange.takes_last_resort else None
        if not feature.serves(arrival.hints.session or arrival.id):
            off = FeatureDisabled(f"The feature {feature.name} is not served to this session.")
            return Fail(off) if resort is None else UseLastResort(off)
        rest = record.deadline - self.clock.monotonic()
        reserve = 0.0 if resort is None else _reserve(rest)
        try:
            async with asyncio.timeout(rest - reserve):
                return await self._attempts(record, feature, exchange, last_resort=resort is not None)
        except TimeoutError:
            error = DeadlineExceeded(f"No answer within the deadline of {record.deadline - arrival.started:g} s.")
            record.close_attempt(error)
            return Fail(error) if resort is None or record.spoke else UseLastResort(error)

    async def _attempts(
        self, record: CallRecord, feature: Feature, exchange: Exchange, *, last_resort: bool
    ) -> Verdict:
        policy = fallback(len(feature.models), last_resort=last_resort)
        step = next(policy)
        while True:
            outcome = await self._attempt(record, feature, exchange, step)
            try:
                step = policy.send(outcome)
            except StopIteration as stop:
                verdict: Verdict = stop.value
                return verdict

    async def _attempt(self, record: CallRecord, feature: Feature, exchange: Exchange, step: Try) -> Outcome:
        attempt = record.open_attempt(feature.models[step.position])
        try:
            await exchange.attempt(attempt, self._limits(record, feature, step))
        except ProviderError as error:
            error.message = _concealed(error.message, attempt.model)
            record.close_attempt(error)
            return Failed(error, spoke=attempt.spoke)
        record.close_attempt(None)
        return Answered()

    def _limits(self, record: CallRecord, feature: Feature, step: Try) -> Limits:
        timeouts = feature.timeouts or feature.models[step.position].timeouts
        rest = max(0.0, record.deadline - self.clock.monotonic())
        share = rest if step.last else rest * SHARE_OF_REST
        return Limits(
            connect=min(timeouts.connect, share),
            first_token=min(timeouts.first_token, share),
            idle=timeouts.idle,
            answer=timeouts.answer or share,
            max_answer=feature.max_answer,
            until=asyncio.get_running_loop().time() + rest - 2 * _reserve(rest),
            share=math.inf if step.last else share,
        )

    async def _answer(self, record: CallRecord, verdict: Verdict, feature: Feature, exchange: Exchange) -> None:
        match verdict:
            case Fail(error):
                record.reply = exchange.reply
                raise error
            case UseLastResort(error):
                await self._use_last_resort(record, feature, exchange, error)
                record.outcome, record.error = "last_resort", error
            case Answered():
                record.outcome, record.answered_by = "answered", record.attempts[-1]
        record.reply = exchange.reply
        await self._record(record)
        await exchange.finish(record.summary())

    async def _use_last_resort(
        self, record: CallRecord, feature: Feature, exchange: Exchange, cause: CallError
    ) -> None:
        assert feature.last_resort is not None
        try:
            async with asyncio.timeout(record.deadline - self.clock.monotonic()):
                await exchange.use_last_resort(feature.last_resort, cause)
        except InternalError:
            raise cause from None
        except TimeoutError as error:
            raise DeadlineExceeded("The caller did not take the last resort before the deadline.") from error

    async def _fail(self, record: CallRecord, error: CallError, writer: Writer) -> None:
        record.close_attempt(error)
        record.outcome, record.error = "error", error
        self.log.append(record.event())
        await self._tell(record, error, writer)

    async def _tell(self, record: CallRecord, error: CallError, writer: Writer) -> None:
        record.outcome, record.error = "error", error
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                await writer.fail(error, record.summary())
        except TimeoutError:
            logger.info("call %s: the caller does not take the end of the answer", record.arrival.id)

    def _cancelled(self, record: CallRecord, exchange: Exchange | None) -> None:
        if record.outcome is not None:  # it was recorded before the caller left
            return
        record.outcome, record.error = "cancelled", Cancelled()
        record.reply = None if exchange is None else exchange.reply
        record.close_attempt(record.error)
        self.log.append(record.event())

    async def _record(self, record: CallRecord) -> None:
        """Record an answer. Where the log is durable in "sync", its last byte waits for that, within the deadline."""
        event = record.event()
        if not self.log.sync:
            self.log.append(event)
            return
        try:
            async with asyncio.timeout(record.deadline - self.clock.monotonic()):
                await self.log.append_committed(event)
        except (LogError, TimeoutError) as error:
            message = "The call could not be recorded in time."
            raise Saturated(message, retry_after=SATURATED_RETRY_SECONDS) from error


def _concealed(message: str, model: Model) -> str:
    """Return a message without the values of the headers that we add, some of which are secret."""
    for _, value in model.upstream.endpoint.headers:
        if len(value) >= SHORTEST_SECRET:
            message = message.replace(value.decode("latin-1"), "***")
    return message


def _reserve(rest: float) -> float:
    """Return how much of the rest of a deadline is kept for its end, in seconds."""
    return min(LAST_RESORT_RESERVE, rest / 10)
