"""Several requests to one model within one attempt, at once as far as the model has room, each in the log."""

import asyncio
import functools
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Final, Self

import msgspec

from holdfast.chat import Reply, Request, Usage
from holdfast.errors import Cancelled, ConnectionFailed, ProviderError
from holdfast.gateway import fetch
from holdfast.gateway.catalog import Model
from holdfast.gateway.conceal import conceal
from holdfast.gateway.fetch import Limits
from holdfast.gateway.record import AttemptRecord, total
from holdfast.gateway.traffic.breaker import NO_FAILURES
from holdfast.providers.base import Source

LANES: Final = 8
"""Requests of one attempt that run at once, at most."""

LARGEST_SEED: Final = 2**63 - 1

Check = Callable[[AttemptRecord, Reply], Awaitable[Reply]]
"""Returns an answer that is good enough, changed where that is needed. Raises ProviderError."""
OpenSample = Callable[[Model], AttemptRecord]
"""Begins the record of a further request, whose reason is "sample"."""


class Sample(msgspec.Struct, frozen=True):
    """One request that has ended: with a reply, or with the error that stands for it."""

    request: Request
    record: AttemptRecord
    reply: Reply | None = None
    error: ProviderError | None = None


class _Job(msgspec.Struct, frozen=True):
    request: Request
    again: bool = False


class Samples:
    """The requests of one attempt to its model. The first is the attempt itself, further ones have their own records.

    `check` looks at each reply, may change it, and raises a ProviderError for one that is not good enough. All of them
    together take no longer than `limits.answer`. The attempt has a place at its model's gate; further requests run
    beside it where there is a place left, and else after it.

    Leaving the `async with` block cancels what still runs, and settles what that is likely to have cost.
    """

    def __init__(
        self,
        attempt: AttemptRecord,
        limits: Limits,
        open_sample: OpenSample,
        *,
        source: Source | None = None,
        check: Check | None = None,
    ) -> None:
        self.last = attempt
        """The last request that was answered."""
        self._attempt = attempt
        self._limits = limits
        self._open_sample = open_sample
        self._source = source
        self._check = check
        self._loop = asyncio.get_running_loop()
        self._ends = self._loop.time() + limits.answer
        self._records: list[AttemptRecord] = []
        self._waiting: deque[_Job] = deque()
        self._running: dict[asyncio.Task[tuple[_Job, Sample]], bool] = {}
        """What runs, and whether on the place of the attempt."""
        self._own_place = True
        """Whether the place that the attempt has at the gate is free."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.clear()
        for task in self._running:
            task.cancel()
        try:
            await asyncio.gather(*self._running, return_exceptions=True)
        finally:
            for own in self._running.values():
                self._leave(own)
            self._close(decided=kind is None)

    def _close(self, *, decided: bool) -> None:
        """End what was cancelled."""
        for record in self._records:
            if record.ended is None and decided:
                self._estimate(record)
                record.close(Cancelled("The other answers had decided already."))
            elif record is not self._attempt:  # whose end others tell
                record.close(Cancelled("The attempt that it was a sample of has ended."))

    def ask(self, requests: Iterable[Request]) -> None:
        """Send requests, in their order, as there is room for them."""
        self._waiting += [_Job(request) for request in requests]
        self._fill()

    async def next(self) -> Sample | None:
        """Return how the next request ended, None if all have."""
        while self._running:
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            task = next(task for task in self._running if task.done())
            self._leave(self._running.pop(task))
            job, sample = task.result()
            again = _stale(sample.error) and not job.again
            if again:
                self._waiting.appendleft(_Job(job.request, again=True))
            self._fill()
            if sample.reply is not None:
                self.last = sample.record
            if not again:
                return sample
        return None

    async def only(self, request: Request) -> Sample:
        """Send a request while no other runs, and return how it ended."""
        self.ask([request])
        sample = await self.next()
        assert sample is not None
        return sample

    @property
    def usage(self) -> Usage | None:
        """What all of them used, as far as it is known: of those that were cancelled once the block is left."""
        return functools.reduce(total, [record.usage for record in self._records], None)

    # --- inside ---

    def _fill(self) -> None:
        gate = self._attempt.model.health.gate
        while self._waiting and len(self._running) < LANES:
            own, self._own_place = self._own_place, False
            if not own and gate is not None and not gate.try_enter():
                return
            job, first = self._waiting.popleft(), not self._records
            record = self._attempt if first else self._open_sample(self._attempt.model)
            self._records.append(record)
            self._running[asyncio.create_task(self._send(job, record))] = own
            if not own:
                self._attempt.model.health.begin()

    def _leave(self, own: bool) -> None:
        health = self._attempt.model.health
        if own:
            self._own_place = True
            return
        health.end()
        if health.gate is not None:
            health.gate.leave()

    async def _send(self, job: _Job, record: AttemptRecord) -> tuple[_Job, Sample]:
        model, breaker = record.model, record.model.health.breaker
        ours = record is self._attempt  # whose end the breaker is told by others
        try:
            reply = await self._fetch(job.request, record)
        except ProviderError as error:
            conceal(error, model)
            record.close(error)
            if not ours and not isinstance(error, NO_FAILURES) and not _stale(error):
                breaker.failed(error.retry_after, probe=False)
            return job, Sample(job.request, record, error=error)
        record.close(None)
        if not ours:
            breaker.succeeded(probe=False)
        return job, Sample(job.request, record, reply=reply)

    async def _fetch(self, request: Request, record: AttemptRecord) -> Reply:
        upstream, limits = record.model.upstream, self._limits
        rest = max(0.0, self._ends - self._loop.time())
        limits = msgspec.structs.replace(limits, answer=rest, connect=min(limits.connect, rest))
        body = await fetch.whole(record, request, upstream.encode(request, self._source), limits)
        reply = upstream.decode(body)
        record.served_model, record.fingerprint, record.usage = reply.model, reply.fingerprint, reply.usage
        return reply if self._check is None else await self._check(record, reply)

    def _estimate(self, record: AttemptRecord) -> None:
        """Tell the usage of a request that was cancelled as well as can be: by those that were asked the same."""
        told = [other for other in self._records if other.usage is not None and other.ended is not None]
        if not told:
            return
        spans = [(other.usage, (other.ended or 0.0) - other.started) for other in told]
        said = sum([usage.output_tokens for usage, _ in spans if usage is not None])
        seconds = sum([span for _, span in spans])
        share = min(1.0, (record.clock.monotonic() - record.started) * len(told) / seconds) if seconds else 1.0
        first = told[0].usage
        assert first is not None
        record.estimated = True
        record.usage = Usage(
            input_tokens=first.input_tokens,
            cache_read_tokens=first.cache_read_tokens,
            output_tokens=round(said / len(told) * share),
        )


def seed_of(seed: int, number: int) -> int:
    """Return the seed of a sample: another for each, within the 64 bits that providers take."""
    return seed + number if seed + number <= LARGEST_SEED else seed - number


def most_telling(errors: Sequence[ProviderError]) -> ProviderError:
    """Return the last error that may pass by itself; if the caller is at fault everywhere, the first."""
    passing = [error for error in errors if not error.callers_fault]
    return passing[-1] if passing else errors[0]


def _stale(error: ProviderError | None) -> bool:
    return isinstance(error, ConnectionFailed) and error.stale
