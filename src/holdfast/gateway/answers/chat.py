"""What all answers of a chat have in common, however the caller gets them."""

from collections.abc import Iterable

import msgspec

from holdfast.chat import Choice, Chunk, Reply, Request, Usage
from holdfast.contracts.streaming.watch import complete_of
from holdfast.errors import ContentRefused, Truncated
from holdfast.gateway.answers.exchange import LAST_RESORT, Exchange, Writer
from holdfast.gateway.answers.judge import Judge
from holdfast.gateway.assembly import chunks_of
from holdfast.gateway.record import Arrival, Summary


class Chat(Exchange):
    """A chat answer. What it must be, `judge` knows.

    With `refuses` an answer that is nothing but a refusal is a failed attempt.
    """

    def __init__(
        self, arrival: Arrival, request: Request, writer: Writer, judge: Judge | None, *, refuses: bool
    ) -> None:
        self.judge = judge
        self._refuses = refuses
        self._arrival = arrival
        self._request = request
        self._writer = writer
        self._spent: Usage | None = None
        """What answers used that were to no avail, as far as can be told."""

    def _check_end(self, reply: Reply) -> None:
        """Raise Truncated or ContentRefused where the end of an answer makes it none, whatever it says."""
        if self._request.max_tokens is None:
            for choice in reply.choices:
                if choice.finish == "length":
                    raise Truncated
        if self._refuses:
            for choice in reply.choices:
                if choice.finish == "refused" and not choice.parts:
                    raise refused(reply.choices)

    async def use(self, reply: Reply, raw: bytes | None = None, wire: str = LAST_RESORT) -> None:
        self.reply, self.raw, self.wire = reply, raw, wire

    async def finish(self, summary: Summary) -> None:
        assert self.reply is not None
        await self._writer.reply(self.reply, self.raw, self.wire, summary)

    async def _say(self, reply: Reply) -> None:
        """Stream an answer of which all is known."""
        if (rest := self._writer.chunks(tuple(chunks_of(reply)), LAST_RESORT)) is not None:
            await rest

    async def _finish_stream(self, summary: Summary, *, objects: bool) -> None:
        """Stream all of the answer, with `objects` also as the JSON that it is."""
        assert isinstance(self.reply, Reply)
        value = self.judge.value(self.reply) if objects and self.judge is not None else msgspec.UNSET
        if value is not msgspec.UNSET:
            await self._writer.object(value, complete_of(value))
        await self._say(self.reply)
        await self._writer.end(summary)


def refused(said: Iterable[Choice | Chunk]) -> ContentRefused:
    """Return the error that an answer is which is nothing but a refusal, with the first reason that it tells."""
    return ContentRefused(next((one.refusal_reason for one in said if one.refusal_reason), ""))
