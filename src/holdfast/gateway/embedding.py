"""The vectors by which a call finds the examples that are near to it, from a model that is configured."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from holdfast.chat import Chunk, EmbeddingReply, EmbeddingRequest, Reply
from holdfast.clock import Clock, NewId
from holdfast.errors import CallError, InternalError, ModelBusy, ModelDown, PhaseTimeout
from holdfast.gateway.alarm import Alarms
from holdfast.gateway.answers.exchange import Writer
from holdfast.gateway.answers.whole import Embeddings
from holdfast.gateway.attempts import Attempts
from holdfast.gateway.catalog import Feature, Model
from holdfast.gateway.fallback import Answered, Fail, Failed, Steps, Try
from holdfast.gateway.hints import Hints
from holdfast.gateway.record import Arrival, CallRecord, Summary
from holdfast.providers.vectors import floats

WIRE = "openai"
TAG = "examples"
"""The tag by which the log knows the calls for the vectors of examples: it names their feature."""

Serve = Callable[[Arrival, Writer, Feature], Awaitable[None]]
"""Serves a call to a feature."""


class CallVectors:
    """Implements `embed.near.Source` for one call.

    The vector of its question is an attempt of the call. Those of the examples are for all calls, so they are asked for
    by calls of their own, under the limits of the feature.
    """

    def __init__(
        self, record: CallRecord, vectors: Feature, clock: Clock, alarms: Alarms, serve: Serve, new_id: NewId
    ) -> None:
        self._record = record
        self._vectors = vectors
        self._model = vectors.models[0]
        self._clock = clock
        self._alarms = alarms
        self._serve = serve
        self._new_id = new_id

    async def of_texts(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Return the vectors of examples. Raises CallError."""
        feature = self._record.feature
        assert feature is not None
        arrival = Arrival(
            id=self._new_id(),
            kind="embeddings",
            wire=WIRE,
            started=self._clock.monotonic(),
            at=self._clock.now(),
            request=self._request(*texts),
            hints=Hints(priority="batch", tags={TAG: feature.name or ""}),
        )
        taken = _Taken()
        await self._serve(arrival, taken, self._vectors)
        if taken.error is not None:
            raise taken.error
        return _vectors(taken.answer)

    async def of_question(self, text: str, seconds: float) -> Sequence[float]:
        """Return the vector of what the call asks.

        Raises:
            CallError: there is none.
            TimeoutError: there was none within so many seconds.
        """
        record, exchange = self._record, Embeddings(self._request(text), _Taken())
        ends = asyncio.get_running_loop().time() + seconds
        try:
            with self._alarms.at(ends) as alarm:
                verdict = await Attempts(record, exchange, self._clock, ends).follow(_once(self._model), alarm)
        except TimeoutError:
            if not record.attempts:
                raise ModelBusy(f"No place of {self._model.name} came free in {seconds:.3g} s.") from None
            record.close_attempts(PhaseTimeout("answer", seconds, share=True))
            raise
        except CallError as error:
            record.close_attempts(error)
            raise
        except Exception:
            record.close_attempts(InternalError())
            raise
        if isinstance(verdict, Fail):
            raise verdict.error
        (vector,) = _vectors(exchange.reply)
        return vector

    def _request(self, *texts: str) -> EmbeddingRequest:
        return EmbeddingRequest(model=self._model.name, input=texts)


def _once(model: Model) -> Steps:
    """Ask a model once, unless it is known to be down."""
    state = model.health.breaker.ask()
    if state == "open":
        return Fail(ModelDown(f"Known to be down at the moment: {model.name}."))
    outcome = yield Try(model, "examples", last=True, probe=state == "probe")
    if isinstance(outcome, Answered):
        return outcome
    assert isinstance(outcome, Failed)
    return Fail(outcome.error)


def _vectors(reply: Reply | EmbeddingReply | None) -> Sequence[Sequence[float]]:
    assert isinstance(reply, EmbeddingReply)
    return [floats(vector) for vector in reply.vectors]


class _Taken:
    """Takes the answer of a call. Implements `gateway.answers.exchange.Writer`."""

    def __init__(self) -> None:
        self.answer: Reply | EmbeddingReply | None = None
        self.error: CallError | None = None

    async def reply(self, reply: Reply | EmbeddingReply, raw: bytes | None, wire: str, summary: Summary) -> None:
        self.answer = reply

    async def chunks(self, chunks: Sequence[Chunk], wire: str) -> None:
        raise AssertionError("vectors are not streamed")

    async def object(self, value: object, complete: Sequence[str]) -> None:
        raise AssertionError("vectors are not streamed")

    async def reset(self) -> None:
        raise AssertionError("vectors are not streamed")

    async def end(self, summary: Summary) -> None:
        raise AssertionError("vectors are not streamed")

    async def fail(self, error: CallError, summary: Summary) -> None:
        self.error = error
