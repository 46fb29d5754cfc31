"""An answer that most of several answers to the same question agree on (see `contracts.agreement`)."""

from collections.abc import Iterable

import msgspec

from holdfast.chat import Choice, Reply, Request, Text, ToolCall
from holdfast.contracts.agreement import FAILED, Ballot, Equality, Result
from holdfast.contracts.base import Contract
from holdfast.errors import ContractViolated, InvalidRequest, NoAgreement, ProviderError
from holdfast.gateway.answers.chat import Chat
from holdfast.gateway.answers.exchange import LAST_RESORT, Writer
from holdfast.gateway.answers.judge import Judge
from holdfast.gateway.answers.samples import OpenSample, Sample, Samples, most_telling, seed_of
from holdfast.gateway.fetch import Limits
from holdfast.gateway.record import Arrival, AttemptRecord, Summary, total
from holdfast.gateway.settings import Vote

_JSON = msgspec.json.Encoder()


class VotedChat(Chat):
    """A chat answer that a model is asked for several times in one attempt, until enough answers agree.

    The caller gets the answer that most agree on as it came, with the usage of all of them. Where it is put together
    from the fields of several answers, it is checked again. `samples` and `agreement` say how the vote went.
    """

    samples: int | None = None
    """How many samples were counted, those that failed among them."""
    agreement: float | None = None
    """The share of them that agree with the answer."""

    def __init__(
        self,
        arrival: Arrival,
        request: Request,
        writer: Writer,
        *,
        vote: Vote,
        equality: Equality,
        open_sample: OpenSample,
        refuses: bool,
        judge: Judge | None = None,
        objects: bool = False,
    ) -> None:
        """Raise InvalidRequest for a request that asks for several answers, of which none could be the one."""
        if request.n != 1:
            raise InvalidRequest("Answers that are voted on come one at a time: n must be 1.", param="n")
        super().__init__(arrival, request, writer, judge, refuses=refuses)
        self._vote = vote
        self._equality = equality
        self._open_sample = open_sample
        self._objects = objects

    # --- one attempt ---

    async def attempt(self, attempt: AttemptRecord, limits: Limits) -> None:
        vote = self._vote
        ballot = Ballot(vote.samples, vote.agree, self._equality, fields=vote.fields)
        samples = Samples(attempt, limits, self._open_sample, source=self._arrival.source, check=self._check)
        ended: list[Sample] = []
        async with samples:
            samples.ask(self._requests(attempt))
            while ballot.state == "open" and (sample := await samples.next()) is not None:
                ended.append(sample)
                ballot.add(FAILED if sample.reply is None else self._value(sample.reply))
        self._spent = total(self._spent, samples.usage)
        try:
            reply, winner = await self._elected(ballot, ended)
        except ProviderError as error:
            attempt.error = attempt.error or error
            if isinstance(error, ContractViolated):
                error.reask = False  # a single answer can't be mended where several are voted on
            raise
        self._speak(attempt)
        self.speaker = winner.record
        created = reply.created or int(self._arrival.at)
        self.reply = msgspec.structs.replace(reply, usage=self._spent, created=created)
        self.wire = attempt.model.upstream.wire

    def _requests(self, attempt: AttemptRecord) -> Iterable[Request]:
        request, vote = self._request, self._vote
        if self.judge is not None:
            request = self.judge.put(request, attempt)
        if request.stream:
            request = msgspec.structs.replace(request, stream=False, stream_usage=False)
        if vote.temperature is not None:
            request = msgspec.structs.replace(request, temperature=vote.temperature)
        if (seed := request.seed) is None:
            return [request] * vote.samples
        return [msgspec.structs.replace(request, seed=seed_of(seed, number)) for number in range(vote.samples)]

    async def _check(self, record: AttemptRecord, reply: Reply) -> Reply:
        self._check_end(reply)
        return reply if self.judge is None else await self.judge.judge(record, reply)

    def _value(self, reply: Reply) -> object:
        """Return what is voted on: what the text stands for, which tools are called, or that the answer is refused."""
        choice = _only(reply)
        if choice.finish == "refused":
            return [{"refused": True}]
        calls = [part for part in choice.parts if isinstance(part, ToolCall)]
        if calls:
            arguments = Equality("json")
            return [{"tool": call.name, "arguments": arguments.value(call.arguments)} for call in calls]
        return self._equality.value(choice.text)

    # --- its outcome ---

    async def _elected(self, ballot: Ballot, samples: list[Sample]) -> tuple[Reply, Sample]:
        """Return what most agree on, and the sample that said so. Raises ProviderError."""
        result, errors = ballot.result(), [sample.error for sample in samples if sample.error is not None]
        if result is None:
            raise most_telling(errors)
        if ballot.state != "decided":
            raise self._disagreed(result, errors)
        self.samples, self.agreement = result.samples, result.agreement
        if result.sample is not None:
            winner = samples[result.sample]
            assert winner.reply is not None
            return winner.reply, winner
        return await self._put_together(result, samples)

    async def _put_together(self, result: Result, samples: list[Sample]) -> tuple[Reply, Sample]:
        base = next(sample for sample in samples if sample.reply is not None and _only(sample.reply).text)
        assert base.reply is not None
        said = Text(text=_JSON.encode(result.value).decode())
        choice = msgspec.structs.replace(_only(base.reply), parts=(said,), logprobs=None)
        reply = msgspec.structs.replace(base.reply, choices=(choice,), extra={})
        return (reply if self.judge is None else await self.judge.judge(base.record, reply)), base

    def _disagreed(self, result: Result, errors: list[ProviderError]) -> ProviderError:
        """Say why there is no winner: those that answered may agree, only that too many did not."""
        votes, answered = round(result.agreement * result.samples), result.samples - len(errors)
        if errors and votes >= self._vote.agree * answered:
            return most_telling(errors)
        failed = f", {len(errors)} failed" if errors else ""
        return NoAgreement(
            f"Of {result.samples} answers at most {votes} agree{failed};"
            f" {self._vote.agree:.0%} of {self._vote.samples} must."
        )

    # --- ends ---

    async def use(self, reply: Reply, raw: bytes | None = None, wire: str = LAST_RESORT) -> None:
        self.samples = self.agreement = None
        await super().use(reply, raw, wire)

    async def finish(self, summary: Summary) -> None:
        if self._request.stream:
            await self._finish_stream(summary, objects=self._objects)
        else:
            await super().finish(summary)


def equality_of(vote: Vote, request: Request, contract: Contract | None) -> Equality:
    """Return when two answers to a request say the same, under its contract if it has one."""
    constraint = None if contract is None else contract.constraint
    asked = None if request.response_format is None else request.response_format.type
    kind = asked if constraint is None else constraint.kind
    if kind in ("json", "schema", "json_schema"):
        return Equality("json", vote.tolerance, vote.on)
    return Equality("choice" if kind == "choice" else "text", vote.tolerance, vote.on)


def _only(reply: Reply) -> Choice:
    return reply.choices[0] if reply.choices else Choice()
