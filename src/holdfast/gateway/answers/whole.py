"""Answers that the caller gets in one piece: a chat's, and vectors."""

import msgspec

from holdfast.chat import EmbeddingRequest, Reply
from holdfast.gateway import fetch
from holdfast.gateway.answers.chat import Chat
from holdfast.gateway.answers.exchange import LAST_RESORT, Exchange, Writer
from holdfast.gateway.fetch import Limits
from holdfast.gateway.record import AttemptRecord, Summary, total


class WholeChat(Chat):
    """A chat answer that is not streamed."""

    async def attempt(self, attempt: AttemptRecord, limits: Limits) -> None:
        model, request, judge = attempt.model, self._request, self.judge
        upstream = model.upstream
        if judge is not None:
            request = judge.put(request, attempt)
        body = await fetch.whole(attempt, request, upstream.encode(request, self._arrival.source), limits)
        reply = upstream.decode(body)
        attempt.served_model, attempt.fingerprint, attempt.usage = reply.model, reply.fingerprint, reply.usage
        spent, self._spent = self._spent, total(self._spent, reply.usage)
        self._check_end(reply)
        raw = upstream.forwardable(body)
        if judge is not None:
            self.reply = reply  # for the log, should it fail
            if (judged := await judge.judge(attempt, reply)) is not reply:
                reply, raw = judged, None
        self._speak(attempt)
        if spent is not None:
            reply, raw = msgspec.structs.replace(reply, usage=self._spent), None
        if not reply.created:  # not every wire dates its answers
            reply = msgspec.structs.replace(reply, created=int(self._arrival.at))
        self.reply, self.raw, self.wire = reply, raw, upstream.wire


class Embeddings(Exchange):
    """Vectors."""

    takes_last_resort = False

    def __init__(self, request: EmbeddingRequest, writer: Writer) -> None:
        self._request = request
        self._writer = writer

    async def attempt(self, attempt: AttemptRecord, limits: Limits) -> None:
        model = attempt.model
        raw = await fetch.whole(attempt, self._request, model.upstream.encode_embeddings(self._request), limits)
        reply = model.upstream.decode_embeddings(raw)
        attempt.served_model, attempt.usage = reply.model, reply.usage
        self._speak(attempt)
        self.reply, self.raw, self.wire = reply, raw, model.upstream.wire

    async def use(self, reply: Reply, raw: bytes | None = None, wire: str = LAST_RESORT) -> None:
        raise AssertionError("a text is no vector")

    async def finish(self, summary: Summary) -> None:
        assert self.reply is not None
        await self._writer.reply(self.reply, self.raw, self.wire, summary)
