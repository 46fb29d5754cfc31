"""The request path: `Pipeline.run` reads like the list of its steps."""

import asyncio
import logging
import random

import msgspec

from holdfast.chat import EmbeddingRequest, Request
from holdfast.clock import Clock
from holdfast.errors import (
    CallError,
    Cancelled,
    DeadlineExceeded,
    FeatureDisabled,
    InternalError,
    LogError,
    Saturated,
)
from holdfast.gateway.alarm import Alarms
from holdfast.gateway.attempts import Attempts, reserve
from holdfast.gateway.catalog import Catalog, Feature
from holdfast.gateway.exchange import Exchange, Writer
from holdfast.gateway.fallback import Answered, Fail, Fallback, UseLastResort, Verdict
from holdfast.gateway.record import Arrival, CallRecord
from holdfast.gateway.stream import StreamedChat
from holdfast.gateway.traffic.admission import Gate, Refusals
from holdfast.gateway.traffic.balance import order
from holdfast.gateway.whole import Embeddings, WholeChat
from holdfast.log.writer import LogWriter
from holdfast.privacy.subjects import SubjectHasher
from holdfast.state.board import Row

SATURATED_RETRY_SECONDS = 1.0
GOODBYE_SECONDS = 1.0
"""How long a caller may take to accept the end of a call that has failed."""

logger = logging.getLogger(__name__)


class Pipeline:
    """Carries calls from their arrival to the log. `catalog` may be replaced: a call keeps the one it began with."""

    def __init__(
        self,
        catalog: Catalog,
        log: LogWriter,
        subjects: SubjectHasher,
        clock: Clock,
        chance: random.Random,
        refusals: Refusals | None = None,
    ) -> None:
        self.log = log
        self.clock = clock
        self._subjects = subjects
        self._chance = chance
        self.refusals = refusals or Refusals(Row.private())
        """Of the calls that are turned away."""
        self._gate = Gate(catalog.settings.concurrency, catalog.settings.queue, clock, refusals=self.refusals)
        self._alarms = Alarms()
        self._catalog = catalog

    @property
    def catalog(self) -> Catalog:
        """What can be called."""
        return self._catalog

    @catalog.setter
    def catalog(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._gate.resize(catalog.settings.concurrency, catalog.settings.queue)

    async def run(self, arrival: Arrival, writer: Writer) -> None:
        """Serve one call. Raises only CancelledError, when its task is cancelled because the caller hung up."""
        catalog, gate = self._catalog, self._gate
        record = self._record_of(arrival)
        if (saturated := self._saturated()) is not None:
            self.refusals.count("log")
            await self._tell(record, saturated, writer)  # and not recorded: what waits for the log must not grow
            return
        exchange: Exchange | None = None
        inside = False
        try:
            feature = self._resolve(record, catalog)
            if not gate.try_enter():
                await gate.enter(arrival.hints.priority, record.deadline)
            inside = True
            exchange = _open(arrival, feature, writer)
            verdict = await self._attempt(record, feature, exchange)
            await self._answer(record, verdict, feature, exchange)
        except CallError as error:
            await self._fail(record, error, writer)
        except asyncio.CancelledError:
            self._cancelled(record, exchange)
            raise
        except Exception:
            logger.exception("call %s failed inside the gateway", arrival.id)
            await self._fail(record, InternalError(), writer)
        finally:
            if inside:
                gate.leave()

    async def reject(self, arrival: Arrival, error: CallError, writer: Writer) -> None:
        """End a call that could not even be decoded."""
        record = self._record_of(arrival)
        end = self._fail if self._saturated() is None else self._tell
        await end(record, error, writer)

    # --- the steps ---

    def _record_of(self, arrival: Arrival) -> CallRecord:
        return CallRecord(arrival=arrival, config=self._catalog.config, clock=self.clock, deadline=arrival.started)

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

    async def _attempt(self, record: CallRecord, feature: Feature, exchange: Exchange) -> Verdict:
        """Let models answer, as the fallback policy says, in the time that the deadline leaves them."""
        arrival = record.arrival
        resort = feature.last_resort is not None and exchange.takes_last_resort
        if not feature.serves(arrival.hints.session or arrival.id):
            off = FeatureDisabled(f"The feature {feature.name} is not served to this session.")
            return UseLastResort(off) if resort else Fail(off)
        loop, rest = asyncio.get_running_loop(), record.deadline - self.clock.monotonic()
        ends = loop.time() + rest
        attempts = Attempts(record, exchange, self.clock, ends)
        policy = Fallback(
            order(feature.groups, self._chance, stream=exchange.streamed) if feature.groups else feature.models,
            feature.rules,
            last_resort=resort,
            remaining=attempts.remaining,
            streamed=exchange.streamed,
            chance=self._chance,
        )
        try:
            with self._alarms.at(ends - reserve(rest) if resort else ends) as alarm:
                return await attempts.follow(policy.run(), alarm)
        except TimeoutError:
            error = DeadlineExceeded(f"No answer within the deadline of {record.deadline - arrival.started:g} s.")
            record.close_attempts(error)
            return UseLastResort(error) if resort and not record.spoke else Fail(error)

    async def _answer(self, record: CallRecord, verdict: Verdict, feature: Feature, exchange: Exchange) -> None:
        match verdict:
            case Fail(error):
                record.reply = exchange.reply
                raise error
            case UseLastResort(error):
                await self._use_last_resort(record, error, feature, exchange)
                record.outcome, record.error = "last_resort", error
            case Answered():
                record.outcome, record.answered_by = "answered", exchange.speaker
        record.reply = exchange.reply
        await self._record(record)
        await exchange.finish(record.summary())

    async def _use_last_resort(
        self, record: CallRecord, error: CallError, feature: Feature, exchange: Exchange
    ) -> None:
        resort, request = feature.last_resort, record.arrival.request
        assert resort is not None
        assert isinstance(request, Request)
        loop = asyncio.get_running_loop()
        try:
            with self._alarms.at(loop.time() + record.deadline - self.clock.monotonic()):
                await exchange.use_last_resort(await resort.answer(request, error))
        except (InternalError, TimeoutError):  # it has none for this call, or not in time
            record.reply = exchange.reply  # the caller may have a part of one, but took no more
            raise error from None

    async def _fail(self, record: CallRecord, error: CallError, writer: Writer) -> None:
        record.close_attempts(error)
        record.outcome, record.error = "error", error
        if record.recorded:
            self.log.amend(record.event())
        else:
            self.log.append(record.event(), record.size)
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
        record.close_attempts(record.error)
        self.log.append(record.event(), record.size)

    async def _record(self, record: CallRecord) -> None:
        """Record an answer. Where the log is durable in "sync", its last byte waits for that, within the deadline."""
        event, record.recorded = record.event(), True
        if not self.log.sync:
            self.log.append(event, record.size)
            return
        try:
            async with asyncio.timeout(record.deadline - self.clock.monotonic()):
                await self.log.append_committed(event, record.size)
        except (LogError, TimeoutError) as error:
            message = "The call could not be recorded in time."
            raise Saturated(message, retry_after=SATURATED_RETRY_SECONDS) from error


def _open(arrival: Arrival, feature: Feature, writer: Writer) -> Exchange:
    """Return the exchange that this call is, with the feature's prompt before its messages.

    Raises:
        InvalidRequest: the prompt needs variables that the call does not bring.
    """
    request = arrival.request
    if isinstance(request, EmbeddingRequest):
        return Embeddings(request, writer)
    assert isinstance(request, Request)
    if feature.prompt is not None:
        prompt = feature.prompt.render(arrival.hints.variables)
        request = msgspec.structs.replace(request, messages=(prompt, *request.messages))
    chat = StreamedChat if request.stream else WholeChat
    return chat(arrival, request, writer, refuses=feature.rules.route_around_refusals)
