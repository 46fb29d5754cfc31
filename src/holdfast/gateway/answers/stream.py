"""A streamed chat answer, which is taken up by another model where it breaks off."""

from collections.abc import Awaitable, Sequence

import msgspec

from holdfast.chat import Chunk, Logprob, Reply, Request
from holdfast.errors import BrokenStream, ProviderError, Truncated
from holdfast.gateway import fetch
from holdfast.gateway.answers.chat import Chat, refused
from holdfast.gateway.answers.exchange import LAST_RESORT, Writer
from holdfast.gateway.answers.follower import Follower
from holdfast.gateway.answers.judge import Judge
from holdfast.gateway.answers.seam import Seam
from holdfast.gateway.assembly import Assembly
from holdfast.gateway.fallback import Resume
from holdfast.gateway.fetch import Limits
from holdfast.gateway.record import Arrival, AttemptRecord, Summary, tokens, total


class StreamedChat(Chat):
    """A chat answer that is passed on as it comes. The caller always has the beginning of what `reply` is in the end.

    With a `judge` nothing is passed on after which the answer could not meet its contract any more.

    What a broken attempt said stays said. The next one goes on after it, or says it again, which is swallowed, or, for
    a caller who allows that, begins anew after a reset.
    """

    streamed = True

    def __init__(
        self, arrival: Arrival, request: Request, writer: Writer, judge: Judge | None, *, refuses: bool
    ) -> None:
        super().__init__(arrival, request, writer, judge, refuses=refuses)
        self._assembly = Assembly()

    # --- attempts ---

    async def attempt(self, attempt: AttemptRecord, limits: Limits) -> None:
        attempt.streamed = True
        run = self._take_up if self._assembly.began else self._begin
        watch, whole = self.watching(attempt), False
        try:
            await run(attempt, limits, watch)
            whole = True
            if self.judge is not None:
                await self.judge.check(attempt, self._assembly.reply())
        except ProviderError:
            if self.speaker is attempt:
                self.speaker = None
            self._settle(attempt, watch, whole=whole)
            raise
        finally:
            if attempt.spoke:
                self.reply = self._assembly.reply()

    async def _begin(self, attempt: AttemptRecord, limits: Limits, watch: Follower | None) -> None:
        """Relay the answer of a model from its start."""
        model, request, assembly = attempt.model, self._request, self._assembly
        write, add, wire, noticed = self._writer.chunks, assembly.add, model.upstream.wire, self.on_stall is not None
        limited = request.max_tokens is not None

        def relay(chunks: Sequence[Chunk]) -> Awaitable[None] | None:
            for chunk in chunks:
                add(chunk)
                if chunk.usage is not None:
                    attempt.usage = chunk.usage
            rest = write(chunks, wire)
            return self._write(rest) if noticed and rest is not None else rest

        async def check(chunks: Sequence[Chunk]) -> None:
            whole, error = await self._passable(attempt, chunks, watch)
            if whole and not attempt.spoke:
                if not any(chunk.speaks for chunk in whole):
                    await self._check_silent(attempt, whole)
                self._hear(attempt)
            if whole and (rest := relay(whole)) is not None:
                await rest
            if error is not None:
                raise error

        def emit(chunks: Sequence[Chunk]) -> Awaitable[None] | None:
            if attempt.spoke and watch is None and (limited or _before_limit(chunks) is chunks):
                return relay(chunks)  # as most go: a plain call
            return check(chunks)

        encoded = model.upstream.encode(self._asked(attempt), self._arrival.source)
        try:
            await fetch.stream(attempt, request, encoded, limits, emit)
        finally:
            if attempt.spoke:
                attempt.served_model, attempt.fingerprint = assembly.model or None, assembly.fingerprint

    async def _check_silent(self, attempt: AttemptRecord, chunks: Sequence[Chunk]) -> None:
        """Check an answer that ended without a word, of which this is all. Raises ContractViolated, ContentRefused."""
        if self.judge is not None:
            silent = Assembly()
            for chunk in chunks:
                silent.add(chunk)
            await self.judge.check(attempt, silent.reply())
        if self._refuses and any(chunk.finish == "refused" for chunk in chunks):
            raise refused(chunks)

    async def _take_up(self, attempt: AttemptRecord, limits: Limits, watch: Follower | None) -> None:
        """Relay what comes after what the caller has."""
        model, request = attempt.model, self._request
        continues = attempt.reason == "continue" and model.upstream.continues_request(request)
        attempt.reason = "continue" if continues else "restart"
        seam = Seam(self._assembly.text, continues, repeats=model.upstream.repeats)
        seam.diverged = not self._joinable
        joint = _Joint(self, attempt, seam, watch)
        if continues:
            left = _less(request, seam.prefill)
            encoded = model.upstream.encode_continued(left, seam.prefill, self._arrival.source)
        else:
            encoded = model.upstream.encode(self._asked(attempt), self._arrival.source)
        try:
            await fetch.stream(attempt, request, encoded, limits, joint.emit)
        except ProviderError:
            if joint.heard:
                self._estimate(attempt, said=joint.said, given=len(seam.prefill) if continues else 0)
            raise

    def _asked(self, attempt: AttemptRecord) -> Request:
        return self._request if self.judge is None else self.judge.put(self._request, attempt)

    def watching(self, attempt: AttemptRecord) -> Follower | None:
        """Return what follows an answer from where the caller has it, None where it need not meet a contract."""
        if self.judge is None or self._request.n > 1:
            return None
        return self.judge.follower(attempt, self._assembly.text)

    async def _passable(
        self, attempt: AttemptRecord, chunks: Sequence[Chunk], watch: Follower | None
    ) -> tuple[Sequence[Chunk], ProviderError | None]:
        """Return those of the next chunks that may be passed on, and what is wrong with what comes after them."""
        whole = chunks if self._request.max_tokens is not None else _before_limit(chunks)
        judge = self.judge
        if watch is not None and judge is not None:
            for index, chunk in enumerate(whole):
                if (chunk.text or chunk.tool_calls) and (violation := await watch.take(chunk)) is not None:
                    said = self._assembly.text + "".join([one.text for one in whole[: index + 1]])
                    return _spoken(whole[:index]), judge.given_up(attempt, violation, said)
        return whole, None if whole is chunks else Truncated()

    @property
    def _joinable(self) -> bool:
        """Whether another answer can be joined to what was said."""
        return self._assembly.text_alone and self._request.n == 1

    def resumption(self) -> Resume:
        if not self._assembly.began:
            return "no"
        if not self._joinable:
            return "restart" if self.may_reset else "no"
        format = self._request.response_format
        return "continue" if format is None or format.type == "text" else "restart"

    # --- for the joint ---

    @property
    def may_reset(self) -> bool:
        """Whether the caller takes a new answer after a part of another."""
        return self._arrival.hints.on_break == "reset"

    async def reset(self) -> None:
        """Take back what the caller has: the answer begins anew."""
        self._assembly = Assembly()
        await self._writer.reset()

    async def pass_on(self, attempt: AttemptRecord, chunks: Sequence[Chunk], watch: Follower | None) -> None:
        """Give the caller pieces that were made or changed here."""
        whole, error = await self._passable(attempt, chunks, watch)
        if whole and not attempt.spoke:
            self._hear(attempt)
        assembly = self._assembly
        for chunk in whole:
            chunk.raw = None
            if assembly.began:
                chunk.id, chunk.model = assembly.id, assembly.model
            if chunk.usage is not None:
                attempt.usage = chunk.usage
                chunk.usage = total(self._spent, chunk.usage)
            assembly.add(chunk)
        if whole and (rest := self._writer.chunks(whole, LAST_RESORT)) is not None:
            await self._write(rest)
        if error is not None:
            raise error

    # --- ends ---

    async def use(self, reply: Reply, raw: bytes | None = None, wire: str = LAST_RESORT) -> None:
        self.reply = reply
        await self._say(reply)

    async def finish(self, summary: Summary) -> None:
        await self._writer.end(summary)

    # --- inside ---

    def _hear(self, attempt: AttemptRecord) -> None:
        super()._hear(attempt)
        attempt.spoke = True

    def _settle(self, attempt: AttemptRecord, watch: Follower | None, *, whole: bool) -> None:
        """Settle what an attempt used that was to no avail, although its answer may be `whole`."""
        if whole and attempt.usage is not None:
            self._spent = total(self._spent, attempt.usage)
            return
        said = 0 if watch is None else watch.length  # also what was not passed on
        if (attempt.spoke or said) and not attempt.estimated:
            self._estimate(attempt, said=max(said, len(self._assembly.text) if attempt.spoke else 0))

    def _estimate(self, attempt: AttemptRecord, *, said: int, given: int = 0) -> None:
        """Tell the usage of a broken attempt as well as can be: it said so many characters after those it was given."""
        attempt.estimate(sum([len(message.text) for message in self._request.messages]) + given, said)
        self._spent = total(self._spent, attempt.usage)


class _Joint:
    """Passes on of an answer what goes beyond what the caller has."""

    def __init__(self, exchange: StreamedChat, attempt: AttemptRecord, seam: Seam, watch: Follower | None) -> None:
        self._exchange = exchange
        self._attempt = attempt
        self._seam = seam
        self._watch = watch
        self._own: list[Chunk] | None = []
        """What the attempt has said so far, to be said anew after a reset; None once that is done."""
        self.heard = False
        self.said = 0
        """How many characters the attempt has said, whether or not they were passed on."""

    async def emit(self, chunks: Sequence[Chunk]) -> None:
        """Take the next pieces of the attempt. Raises BrokenStream where they can't be joined."""
        attempt, self.heard = self._attempt, True
        if attempt.first_token is None:  # before the caller hears of it, for whom it may only repeat
            attempt.first_token = attempt.clock.monotonic()
        for chunk in chunks:
            self.said += len(chunk.text) + len(chunk.reasoning)
            attempt.usage = chunk.usage or attempt.usage
            attempt.served_model = attempt.served_model or chunk.model or None
            attempt.fingerprint = attempt.fingerprint or chunk.fingerprint
        if self._own is None:
            await self._exchange.pass_on(attempt, chunks, self._watch)
            return
        if self._exchange.may_reset:
            self._own += [msgspec.structs.replace(chunk) for chunk in chunks]
        joined = [piece for chunk in chunks if (piece := self._join(chunk)) is not None]
        if not self._seam.diverged:
            if joined:
                await self._exchange.pass_on(attempt, joined, self._watch)
        elif self._exchange.may_reset:
            await self._exchange.reset()
            self._watch = self._exchange.watching(attempt)
            own, self._own = self._own, None
            await self._exchange.pass_on(attempt, own, self._watch)
        else:
            raise BrokenStream(
                f"The stream broke off, and {attempt.model.name}, asked again, gave another answer than the caller"
                ' had a part of. A caller who sends "x-holdfast-on-break: reset" gets the new one.'
            )

    def _join(self, chunk: Chunk) -> Chunk | None:
        """Return what of a chunk goes beyond what was sent, None if nothing does."""
        if chunk.tool_calls or chunk.refusal:
            self._seam.diverged = True
        text = self._seam.feed(chunk.text) if chunk.text else ""
        if chunk.finish is not None:
            text += self._seam.end()
        if not (text or chunk.finish or chunk.usage):
            return None
        return Chunk(
            choice=chunk.choice,
            text=text,
            logprobs=_of_end(chunk.logprobs, text) if chunk.logprobs else None,
            finish=chunk.finish,
            stop_sequence=chunk.stop_sequence,
            refusal_reason=chunk.refusal_reason,
            usage=chunk.usage,
        )


def _before_limit(chunks: Sequence[Chunk]) -> Sequence[Chunk]:
    """Return what was said before a limit that the caller did not set: all of it, the same object, if there is none."""
    for index, chunk in enumerate(chunks):
        if chunk.finish == "length":
            return _spoken(chunks[:index])
    return chunks


def _spoken(chunks: Sequence[Chunk]) -> Sequence[Chunk]:
    """Return chunks if anything is said in them."""
    return chunks if any(chunk.speaks for chunk in chunks) else ()


def _of_end(logprobs: Sequence[Logprob], text: str) -> tuple[Logprob, ...] | None:
    """Return those of the last tokens, which make up `text`."""
    first, left = len(logprobs), len(text)
    while first and left > 0:
        first -= 1
        left -= len(logprobs[first].token)
    return tuple(logprobs[first:]) or None


def _less(request: Request, said: str) -> Request:
    """Return a request for the rest of an answer."""
    if request.max_tokens is None:
        return request
    return msgspec.structs.replace(request, max_tokens=max(1, request.max_tokens - tokens(len(said))))
