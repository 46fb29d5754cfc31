"""A streamed chat answer that the caller gets only once it is known to meet its contract."""

from collections.abc import Sequence
from typing import Final

import msgspec

from holdfast.chat import Chunk, Request
from holdfast.errors import BrokenStream, ProviderError
from holdfast.gateway import fetch
from holdfast.gateway.answers.chat import Chat
from holdfast.gateway.answers.exchange import Writer
from holdfast.gateway.answers.follower import Follower
from holdfast.gateway.answers.judge import Judge
from holdfast.gateway.assembly import Assembly
from holdfast.gateway.fetch import Limits
from holdfast.gateway.record import Arrival, AttemptRecord, Summary, total

SMALL: Final = 4096
"""Characters of an answer up to which every piece of it is told at once..."""
NEWS: Final = 1 / 64
"""...and how much it must have grown beyond that, as every event tells all of it."""


class HeldChat(Chat):
    """A chat answer that a model streams, and that the caller gets when it has been checked.

    It is given up as soon as it can't be right any more. With `objects` the caller is told meanwhile what is known of
    it. Each such event stands for itself, so another attempt just begins with less.
    """

    streamed = True
    judge: Judge

    def __init__(
        self, arrival: Arrival, request: Request, writer: Writer, judge: Judge, *, refuses: bool, objects: bool
    ) -> None:
        super().__init__(arrival, request, writer, judge, refuses=refuses)
        self._objects = objects and judge.of_json and request.n == 1

    async def attempt(self, attempt: AttemptRecord, limits: Limits) -> None:
        attempt.streamed = True
        assembly = Assembly()
        try:
            await self._fetch(attempt, assembly, limits)
            reply = assembly.reply()
            self._check_end(reply)
            reply = await self.judge.judge(attempt, reply)
        except ProviderError as error:
            self._failed(attempt, assembly, error)
            raise
        self.reply = msgspec.structs.replace(reply, usage=total(self._spent, reply.usage))

    async def finish(self, summary: Summary) -> None:
        await self._finish_stream(summary, objects=self._objects)

    async def _fetch(self, attempt: AttemptRecord, assembly: Assembly, limits: Limits) -> None:
        """Take in the answer to its end, or until it can't be right. Raises ProviderError."""
        judge, add = self.judge, assembly.add
        watch = judge.watch(attempt) if self._request.n == 1 else None
        feed = None if watch is None else Follower(watch).feed
        said = told = 0

        async def emit(chunks: Sequence[Chunk]) -> None:
            nonlocal said, told
            if attempt.first_token is None:
                self._hear(attempt)
            for chunk in chunks:
                add(chunk)
                said += len(chunk.text)
                if chunk.usage is not None:
                    attempt.usage = chunk.usage
                if feed is not None and chunk.text and (violation := await feed(chunk.text)) is not None:
                    raise judge.given_up(attempt, violation, assembly.text)
            if self._objects and watch is not None and said - told > (0 if said < SMALL else said * NEWS):
                told, partial = said, watch.partial()
                if partial.value is not None:
                    await self._write(self._writer.object(partial.value, partial.complete))

        request = judge.put(self._request, attempt)
        encoded = attempt.model.upstream.encode(request, self._arrival.source)
        try:
            await fetch.stream(attempt, request, encoded, limits, emit)
        finally:
            if assembly.began:
                attempt.served_model, attempt.fingerprint = assembly.model or None, assembly.fingerprint

    def _failed(self, attempt: AttemptRecord, assembly: Assembly, error: ProviderError) -> None:
        if isinstance(error, BrokenStream):
            error.same_model_again = True  # the caller has nothing of it
        if not assembly.began:
            return
        self.reply = assembly.reply()
        if self.speaker is attempt:
            self.speaker = None
        if attempt.usage is None or any(choice.finish == "cut" for choice in self.reply.choices):
            attempt.estimate(sum([len(message.text) for message in self._request.messages]), len(assembly.text))
        self._spent = total(self._spent, attempt.usage)
