"""The request path: `Pipeline.run` reads like the list of its steps."""

import asyncio
import logging
import random
from collections.abc import Sequence

import msgspec

from holdfast.chat import EmbeddingRequest, Message, Reply, Request
from holdfast.clock import Clock, UlidFactory
from holdfast.errors import (
    CallError,
    Cancelled,
    DeadlineExceeded,
    FeatureDisabled,
    InternalError,
    InvalidRequest,
    LogError,
    Saturated,
)
from holdfast.gateway.alarm import Alarms
from holdfast.gateway.answers.binding import judge_of
from holdfast.gateway.answers.distribution import Distribution
from holdfast.gateway.answers.exchange import Exchange, Writer, fixed_reply
from holdfast.gateway.answers.held import HeldChat
from holdfast.gateway.answers.judge import Judge
from holdfast.gateway.answers.stream import StreamedChat
from holdfast.gateway.answers.vote import VotedChat, equality_of
from holdfast.gateway.answers.whole import Embeddings, WholeChat
from holdfast.gateway.attempts import Attempts, reserve
from holdfast.gateway.catalog import Catalog, Feature, Replay
from holdfast.gateway.embedding import CallVectors
from holdfast.gateway.fallback import Answered, Fail, Fallback, UseLastResort, Verdict
from holdfast.gateway.fingerprints import Fingerprints
from holdfast.gateway.questions.canonical import canonical_source, key_of, reproduce
from holdfast.gateway.questions.examples import TAG
from holdfast.gateway.record import Arrival, CallRecord
from holdfast.gateway.replay import Kept, Replays
from holdfast.gateway.spending.budgets import Budgets
from holdfast.gateway.traffic.admission import Gate, Refusals
from holdfast.gateway.traffic.balance import order
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
        budgets: Budgets | None = None,
    ) -> None:
        self.log = log
        self.clock = clock
        self._subjects = subjects
        self._budgets = budgets or Budgets(None, clock)
        self._chance = chance
        self.refusals = refusals or Refusals(Row.private())
        """Of the calls that are turned away."""
        self._gate = Gate(catalog.settings.concurrency, catalog.settings.queue, clock, refusals=self.refusals)
        self._alarms = Alarms()
        self.replays = Replays(catalog.settings.replay_size, clock)
        """The answers that may be given again."""
        self._fingerprints = Fingerprints(clock)
        self._new_id = UlidFactory(clock)
        self._catalog = catalog

    @property
    def catalog(self) -> Catalog:
        """What can be called."""
        return self._catalog

    @catalog.setter
    def catalog(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._gate.resize(catalog.settings.concurrency, catalog.settings.queue)
        self.replays.resize(catalog.settings.replay_size)

    async def run(self, arrival: Arrival, writer: Writer, feature: Feature | None = None) -> None:
        """Serve one call, to what it names or to `feature`.

        Raises only CancelledError, when its task is cancelled because the caller hung up.
        """
        catalog, gate = self._catalog, self._gate
        record = self._record_of(arrival)
        if (saturated := self._saturated()) is not None:
            self.refusals.count("log")
            await self._tell(record, saturated, writer)  # and not recorded: what waits for the log must not grow
            return
        exchange: Exchange | None = None
        inside = False
        try:
            feature = self._resolve(record, catalog, feature)
            if not gate.try_enter():
                await gate.enter(arrival.hints.priority, record.deadline)
            inside = True
            exchange = await self._open(record, feature, writer)
            verdict = await self._reply(record, feature, exchange)
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
            record.let_go()
            if inside:
                gate.leave()

    async def reject(self, arrival: Arrival, error: CallError, writer: Writer) -> None:
        """End a call that could not even be decoded."""
        record = self._record_of(arrival)
        end = self._fail if self._saturated() is None else self._tell
        await end(record, error, writer)

    # --- the steps ---

    def _record_of(self, arrival: Arrival) -> CallRecord:
        record = CallRecord(arrival=arrival, config=self._catalog.config, clock=self.clock, deadline=arrival.started)
        if arrival.hints.subject is not None:  # whatever becomes of the call: what the log keeps of it can be erased
            record.subject = self._subjects.hash(arrival.hints.subject, arrival.caller.tenant)
        return record

    def _saturated(self) -> Saturated | None:
        """Say why no call is admitted; None if calls are."""
        log = self.log
        if log.full:
            return Saturated("The log can't keep up with the calls.", retry_after=SATURATED_RETRY_SECONDS)
        if log.sync and log.failing is not None:  # an answer could be paid for, but not be given
            return Saturated("The log can't be written at the moment.", retry_after=SATURATED_RETRY_SECONDS)
        return None

    def _resolve(self, record: CallRecord, catalog: Catalog, feature: Feature | None) -> Feature:
        arrival, hints, caller = record.arrival, record.arrival.hints, record.arrival.caller
        assert arrival.request is not None
        feature = record.feature = feature or catalog.feature(arrival.request.model)
        record.name = arrival.request.model
        seconds = feature.deadline
        if hints.deadline_ms is not None:
            seconds = min(hints.deadline_ms / 1000, catalog.settings.max_deadline)
        record.deadline = arrival.started + seconds
        tenant = () if caller.tenant is None else catalog.tenants.get(caller.tenant, ())
        if caller.limits or tenant or feature.limits:
            record.purse = self._budgets.joint(caller.key, caller.limits, tenant, feature.name, feature.limits)
        return feature

    async def _open(self, record: CallRecord, feature: Feature, writer: Writer) -> Exchange:
        """Return the exchange that this call is: what models are asked, and what their answers must be.

        Raises:
            InvalidRequest: the prompt needs variables that the call does not bring, or a schema in it can't be used.
        """
        arrival = record.arrival
        request = arrival.request
        if isinstance(request, EmbeddingRequest):
            return Embeddings(request, writer)
        assert isinstance(request, Request)
        distribution = arrival.kind == "distribution"  # which has neither a contract nor the same answer again
        judge = None if distribution else await judge_of(feature.contract, arrival, feature.reask_tokens)
        if judge is not None:
            record.contract = judge.name
        if feature.prompt is not None:
            prompt = feature.prompt.render(arrival.hints.variables)
            request = msgspec.structs.replace(request, messages=(prompt, *request.messages))
        if feature.replay is not None and not distribution:
            request, arrival = _reproducible(record, feature.replay, request)
        if feature.examples is not None:
            source, left = self._source(record, feature), record.deadline - self.clock.monotonic()
            shown = await feature.examples.messages(request, arrival.hints.tags, seconds=left, source=source)
            request = _with_examples(request, shown)
        return _exchange(record, arrival, request, writer, feature, judge)

    def _source(self, record: CallRecord, feature: Feature) -> CallVectors | None:
        """Return what gives vectors to find examples by; None where words do, as where no model will be shown them."""
        vectors, arrival = feature.vectors, record.arrival
        if vectors is None or not feature.serves(arrival.hints.session or arrival.id):
            return None
        if record.question is not None and self.replays.find(record.question) is not None:
            return None
        return CallVectors(record, vectors, self.clock, self._alarms, self.run, self._new_id)

    async def _reply(self, record: CallRecord, feature: Feature, exchange: Exchange) -> Verdict | Kept:
        """Answer as the same question was answered before, else let models do it."""
        arrival = record.arrival
        resort = feature.last_resort is not None and exchange.takes_last_resort
        if not feature.serves(arrival.hints.session or arrival.id):
            off = FeatureDisabled(f"The feature {feature.name} is not served to this session.")
            return UseLastResort(off) if resort else Fail(off)
        if feature.replay is None or record.question is None:
            return await self._attempt(record, feature, exchange, resort=resort)
        until = record.deadline - reserve(record.deadline - self.clock.monotonic())
        key, ttl = record.question, feature.replay.ttl
        async with self.replays.turn(key, ttl=ttl, until=until, subject=record.subject) as turn:
            if turn.kept is not None:
                return turn.kept
            if turn.late is not None:
                return UseLastResort(turn.late) if resort else Fail(turn.late)
            exchange.on_stall = turn.release  # nobody waits for a caller who is slow
            verdict = await self._attempt(record, feature, exchange, resort=resort)
            if isinstance(verdict, Answered):
                turn.keep(_kept(record, exchange))
            return verdict

    async def _attempt(self, record: CallRecord, feature: Feature, exchange: Exchange, *, resort: bool) -> Verdict:
        """Let models answer, as the fallback policy says, in the time that the deadline leaves them."""
        arrival = record.arrival
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

    async def _answer(self, record: CallRecord, verdict: Verdict | Kept, feature: Feature, exchange: Exchange) -> None:
        match verdict:
            case Kept():
                record.outcome, record.replayed = "answered", verdict
                await exchange.use(verdict.reply, verdict.raw, verdict.wire)
            case Fail(error):
                record.reply = exchange.reply
                raise error
            case UseLastResort(error):
                await self._use_last_resort(record, error, feature, exchange)
                record.outcome, record.error = "last_resort", error
            case Answered():
                self._answered(record, exchange)
        record.reply = exchange.reply
        await self._record(record)
        await exchange.finish(record.summary())

    def _answered(self, record: CallRecord, exchange: Exchange) -> None:
        """Take note of who answered, and how."""
        speaker = exchange.speaker
        record.outcome, record.answered_by = "answered", speaker
        record.samples, record.agreement = exchange.samples, exchange.agreement
        if speaker is not None:
            model = speaker.model
            changed = self._fingerprints.seen(model.name, model.provider, speaker.served_model, speaker.fingerprint)
            if changed is not None:
                self.log.append(changed)

    async def _use_last_resort(
        self, record: CallRecord, error: CallError, feature: Feature, exchange: Exchange
    ) -> None:
        resort, request = feature.last_resort, record.arrival.request
        assert resort is not None
        assert isinstance(request, Request)
        loop = asyncio.get_running_loop()
        try:
            with self._alarms.at(loop.time() + record.deadline - self.clock.monotonic()):
                text = await resort.answer(request, error)
                if exchange.judge is not None and not await exchange.judge.accepts(text):
                    logger.error("the last resort of %s does not meet the contract of the call", feature.name)
                    raise InternalError("The last resort does not meet the contract.")
                await exchange.use(fixed_reply(text, record.arrival))
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


def _reproducible(record: CallRecord, replay: Replay, request: Request) -> tuple[Request, Arrival]:
    """Return the request and its arrival in the one form of all that ask the same."""
    arrival = record.arrival
    source, variables = arrival.source, arrival.hints.variables
    request = reproduce(request)
    returns = None if arrival.returns is None else (arrival.returns.name, arrival.returns.schema)
    shots = None if record.feature is None else record.feature.examples
    itself = None if shots is None else arrival.hints.tags.get(TAG)  # which is not shown, whatever the question
    asked = replay.hash + repr((arrival.caller.tenant, returns, itself)).encode()
    record.question = key_of(asked, request, source, subject=record.subject, variables=variables)
    if source is None:
        return request, arrival
    return request, msgspec.structs.replace(arrival, source=canonical_source(source))


def _with_examples(request: Request, shown: Sequence[Message]) -> Request:
    """Return a request with examples before what the caller says, but for system messages: they come first."""
    said = request.messages
    first = next((number for number, message in enumerate(said) if message.role != "system"), len(said))
    return msgspec.structs.replace(request, messages=(*said[:first], *shown, *said[first:]))


def _kept(record: CallRecord, exchange: Exchange) -> Kept:
    """Return an answer so that it can be given again."""
    assert isinstance(exchange.reply, Reply)
    assert exchange.speaker is not None
    speaker = exchange.speaker
    return Kept(
        call=record.arrival.id,
        reply=exchange.reply,
        raw=exchange.raw,
        wire=exchange.wire,
        model=speaker.model.name,
        provider=speaker.model.provider,
        served_model=speaker.served_model,
        fingerprint=speaker.fingerprint,
    )


def _exchange(
    record: CallRecord, arrival: Arrival, request: Request, writer: Writer, feature: Feature, judge: Judge | None
) -> Exchange:
    """Return how the caller gets the answer: voted on, whole, as it comes, or held until it is known to be right.

    Raises:
        InvalidRequest: there is no such way for this call.
    """
    if arrival.kind == "distribution":
        return Distribution(arrival, request, writer, open_sample=record.open_sample)
    refuses = feature.rules.route_around_refusals
    how = arrival.hints.stream or feature.stream
    if arrival.hints.stream == "object" and request.stream and (judge is None or not judge.of_json or request.n > 1):
        raise InvalidRequest(
            "Objects come of one answer that is JSON under a contract, and this call has none: give it a"
            " `response_format`, or the feature a contract.",
            param="holdfast.stream",
        )
    if feature.vote is not None:
        equality = equality_of(feature.vote, request, feature.contract)
        return VotedChat(
            arrival,
            request,
            writer,
            vote=feature.vote,
            equality=equality,
            open_sample=record.open_sample,
            refuses=refuses,
            judge=judge,
            objects=how == "object",
        )
    if not request.stream:
        return WholeChat(arrival, request, writer, judge, refuses=refuses)
    if judge is None or (how == "pass" and request.n == 1):  # several at once are not watched as they come
        return StreamedChat(arrival, request, writer, judge, refuses=refuses)
    return HeldChat(arrival, request, writer, judge, refuses=refuses, objects=how == "object")
