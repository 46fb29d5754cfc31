"""What the answers of one call must be: checked, repaired, and where that fails, what a model is asked to mend."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from holdfast.chat import (
    Choice,
    Message,
    Part,
    Refusal,
    Reply,
    Request,
    ResponseFormat,
    Text,
    ToolCall,
    ToolResult,
)
from holdfast.contracts.answer import MISSING, Met, Unmet, heavy, meet
from holdfast.contracts.base import Checked, Contract, Violation, shortened
from holdfast.contracts.forms.schema import JsonForm, decode
from holdfast.contracts.reask import Reask, reask
from holdfast.contracts.requested import arguments_of, at_hand, requested
from holdfast.contracts.streaming.watch import Watch
from holdfast.errors import ContentRefused, ContractViolated, InvalidRequest
from holdfast.events import Repair
from holdfast.gateway.answers.follower import LIGHT, Follower, aside
from holdfast.gateway.answers.terms import terms_of, warn_of_ignored
from holdfast.gateway.record import Arrival, AttemptRecord, tokens
from holdfast.providers.base import Source

TOLD: Final = 3
"""Violations that an error message names."""
WITH_THE_CALL: Final = "request"
"""The name of a contract that came with the call."""
_AT_LIMIT: Final = Violation("", "it was cut off at the limit of tokens (max_tokens)", "cut")
_NOT_OFFERED: Final = Violation("", "it calls a tool, and there is none", "tool")


class _Mend(msgspec.Struct, frozen=True):
    """What a model is told of its answer that fails, and what becomes of its next one."""

    messages: tuple[Message, ...]
    part: Reask | None = None
    """None where the whole answer is asked for again."""
    violations: tuple[Violation, ...] = ()


class Judge:
    """What the answers of one call must be. The first of the contracts is what models are asked to keep."""

    def __init__(
        self,
        contracts: Sequence[Contract],
        tools: Mapping[str, Contract],
        *,
        name: str,
        said: ResponseFormat | None = None,
        reask_tokens: int = 0,
        offers: bool = True,
    ) -> None:
        self.name = name
        """What the log calls the contract."""
        self._contracts = contracts
        self._said = said
        """How the caller said the first contract, if it came with the call."""
        self._terms = terms_of(contracts[0]) if contracts else None
        self._tools = tools
        self._offers = offers
        """Whether the model may call a tool instead of giving an answer."""
        self._tokens = reask_tokens
        self._mends: dict[str, _Mend] = {}

    def put(self, request: Request, attempt: AttemptRecord) -> Request:
        """Return what to ask the model of an attempt for."""
        mend = self._mends.get(attempt.model.name) if attempt.reason == "reask" else None
        if mend is not None:
            request = msgspec.structs.replace(request, messages=(*request.messages, *mend.messages))
            if mend.part is not None:
                return terms_of(mend.part.contract).put(request, attempt.model)
        return request if self._terms is None else self._terms.put(request, attempt.model, self._said)

    def follower(self, attempt: AttemptRecord, said: str) -> Follower | None:
        """Return what follows an answer that the caller gets as it comes, after what was said of it already."""
        watch = self.watch(attempt, strict=True)
        if watch is None and not self._tools:
            return None
        if watch is not None:
            watch.feed(said)
        return Follower(watch, self._tools)

    def watch(self, attempt: AttemptRecord, *, strict: bool = False) -> Watch | None:
        """Return what follows the text of an answer as it comes, None where there is nothing to follow."""
        if not self._contracts:
            return None
        mend = self._mends.get(attempt.model.name) if attempt.reason == "reask" else None
        if mend is not None and mend.part is not None and mend.part.contract is not self._contracts[0]:
            return None  # what comes is no more than a part
        return Watch(self._contracts[0], strict=strict)

    async def judge(self, attempt: AttemptRecord, reply: Reply) -> Reply:
        """Return the answer as it meets its contract: the same object where nothing had to be repaired.

        What had to be is then the ledger of the attempt.

        Raises:
            ContractViolated: it does not, and can't be repaired.
        """
        self._spend(attempt, reply.text if attempt.usage is None else "")
        repairs: list[Repair] = []
        choices = [await self._choice(attempt, at, choice, repairs, reply) for at, choice in enumerate(reply.choices)]
        attempt.ledger = tuple(repairs)
        if all(judged is choice for judged, choice in zip(choices, reply.choices, strict=True)):
            return reply
        return msgspec.structs.replace(reply, choices=tuple(choices))

    async def check(self, attempt: AttemptRecord, reply: Reply) -> None:
        """Check an answer that the caller has as it is. Raises ContractViolated, ContentRefused."""
        for choice in reply.choices:
            if not _is_refusal(choice):
                await self._check(attempt, choice)

    async def _check(self, attempt: AttemptRecord, choice: Choice) -> None:
        calls = [part for part in choice.parts if isinstance(part, ToolCall)]
        if calls and not self._offers:
            raise self.violated(attempt, (_NOT_OFFERED,))
        texts = [(self._tools[call.name], call.arguments) for call in calls if call.name in self._tools]
        if not calls:
            texts = [(contract, choice.text) for contract in self._contracts]
        for contract, text in texts:
            violations = (await check(contract, text)).violations
            if not violations and choice.finish == "length":  # it may have been about to go on
                met = await _meet(contract, text, cut=True)
                violations = met.violations if isinstance(met, Unmet) else ()
            if violations:
                raise _refused(choice) or self.violated(attempt, violations)

    async def accepts(self, text: str) -> bool:
        """Whether a text that no model gave can stand for the answer."""
        return all([(await check(contract, text)).ok for contract in self._contracts])

    @property
    def of_json(self) -> bool:
        """Whether the answer is JSON."""
        return bool(self._contracts) and self._contracts[0].is_json

    def value(self, reply: Reply) -> Any:
        """Return the JSON that an answer which has been judged is, UNSET where it is none: a refusal, or a call."""
        choice = reply.choices[0] if reply.choices else None
        if choice is None or not self.of_json or _is_refusal(choice):
            return msgspec.UNSET
        if any(isinstance(part, ToolCall) for part in choice.parts):
            return msgspec.UNSET
        return decode(choice.text)

    def given_up(self, attempt: AttemptRecord, violation: Violation, said: str) -> ContractViolated:
        """Return the error that an answer is which can't be right any more, after so much of it."""
        self._spend(attempt, said)
        if self._terms is not None:
            attempt.saved_tokens = self._terms.left(said)
        mend = self._mend(Unmet(said, (violation,), MISSING)) if self._contracts else None
        return self.violated(attempt, (violation,), mend)

    def violated(
        self, attempt: AttemptRecord, violations: Sequence[Violation], mend: _Mend | None = None
    ) -> ContractViolated:
        """Return the error that an answer is with these violations."""
        told = "; ".join(shortened(str(violation)) for violation in violations[:TOLD])
        more = f" (and {len(violations) - TOLD} more)" if len(violations) > TOLD else ""
        if self._terms is not None and attempt.reason != "reask":
            ignored = self._terms.ignored(attempt.model, violations, self._said)
            if ignored is not None:
                attempt.ignored = True
                warn_of_ignored(attempt.model.name, ignored.keyword)
        if mend is not None:
            self._mends[attempt.model.name] = mend
        again = mend is not None and self._tokens > 0
        return ContractViolated(f"The answer does not meet its contract {self.name!r}: {told}{more}.", reask=again)

    def _spend(self, attempt: AttemptRecord, said: str) -> None:
        """Take what an attempt at mending said from the tokens for that. Its provider may not have told, or not yet."""
        if attempt.reason == "reask":
            told = 0 if attempt.usage is None else attempt.usage.output_tokens
            self._tokens -= max(told, tokens(len(said)))

    async def _choice(
        self, attempt: AttemptRecord, index: int, choice: Choice, repairs: list[Repair], reply: Reply
    ) -> Choice:
        if _is_refusal(choice):
            return choice
        try:
            return await self._answer(attempt, index, choice, repairs, alone=len(reply.choices) == 1)
        except ContractViolated as error:
            raise _refused(choice) or error from None

    async def _answer(
        self, attempt: AttemptRecord, index: int, choice: Choice, repairs: list[Repair], *, alone: bool
    ) -> Choice:
        calls = [part for part in choice.parts if isinstance(part, ToolCall)]
        if calls and not self._offers:
            raise self.violated(attempt, (_NOT_OFFERED,), self._mend(Unmet("", (_NOT_OFFERED,))) if alone else None)
        if calls:
            return await self._calls(attempt, index, choice, repairs, alone=alone)
        if not self._contracts:
            return choice
        met = await self._text(attempt, choice, alone=alone)
        if self._terms is not None:
            self._terms.met(len(met.text))
        repairs += [msgspec.structs.replace(repair, choice=index) for repair in met.ledger]
        return choice if met.text == choice.text else _said(choice, met.text)

    async def _text(self, attempt: AttemptRecord, choice: Choice, *, alone: bool) -> Met:
        """Return the text of a choice as it meets the contracts, a mended part put into what it is of."""
        cut = choice.finish == "length"
        mend = self._mends.get(attempt.model.name) if attempt.reason == "reask" else None
        text = choice.text
        ledger: tuple[Repair, ...] = ()
        if mend is not None and mend.part is not None:
            part = await _meet(mend.part.contract, text, cut=cut)
            if isinstance(part, Unmet):
                if isinstance(whole := await self._all(text, cut=cut), Met):
                    return whole  # it gave all of the answer anew, though it was asked for a part
                if cut or not isinstance(part.data, dict) or not part.data.keys() <= {*mend.part.contract.keys}:
                    raise self.violated(attempt, mend.violations or part.violations, None if cut else mend)
            try:  # also what is still wrong: it is told by its place in the answer
                text, ledger = mend.part.join(Met(part.text, None)), part.ledger
            except ValueError as error:
                raise self.violated(attempt, (Violation("", str(error), "limit"),)) from None
        met = await self._all(text, cut=cut)
        if isinstance(met, Unmet):
            attempt.ledger = ledger or met.ledger
            told = (_AT_LIMIT, *met.violations) if cut else met.violations
            raise self.violated(attempt, told, await self._mended(met) if alone and not cut else None)
        return msgspec.structs.replace(met, ledger=ledger) if ledger else met

    async def _all(self, text: str, *, cut: bool) -> Met | Unmet:
        first, *others = self._contracts
        met = await _meet(first, text, cut=cut)
        for other in others:
            if isinstance(met, Met) and (checked := await check(other, met.text)).violations:
                return Unmet(met.text, checked.violations, met.value, met.ledger)
        return met

    async def _mended(self, unmet: Unmet) -> _Mend:
        return self._mend(unmet) if len(unmet.text) <= LIGHT else await aside(self._mend, unmet)

    def _mend(self, unmet: Unmet) -> _Mend:
        part = reask(self._contracts[0], unmet)
        told = Message(role="user", parts=(Text(text=part.message),))
        if not unmet.text.strip():  # not every wire takes a message that says nothing
            return _Mend((told,), part, unmet.violations)
        return _Mend((Message(role="assistant", parts=(Text(text=unmet.text),)), told), part, unmet.violations)

    async def _calls(
        self, attempt: AttemptRecord, index: int, choice: Choice, repairs: list[Repair], *, alone: bool
    ) -> Choice:
        """Return the choice with the arguments of its tool calls as they meet their contracts."""
        parts: list[Part] = []
        wrong: dict[str, tuple[Violation, ...]] = {}
        calls = 0
        for part in choice.parts:
            met = await self._arguments(part, cut=choice.finish == "length") if isinstance(part, ToolCall) else None
            if isinstance(part, ToolCall) and isinstance(met, Unmet):
                wrong[part.id] = met.violations
            elif isinstance(part, ToolCall) and isinstance(met, Met) and met.text != part.arguments:
                repairs += [msgspec.structs.replace(repair, choice=index, tool=calls) for repair in met.ledger]
                parts.append(msgspec.structs.replace(part, arguments=met.text))
                calls += 1
                continue
            parts.append(part)
            calls += isinstance(part, ToolCall)
        if wrong:
            violations = [violation for found in wrong.values() for violation in found]
            raise self.violated(attempt, violations, _Mend(_results(choice, wrong)) if alone else None)
        same = all(part is before for part, before in zip(parts, choice.parts, strict=True))
        return choice if same else msgspec.structs.replace(choice, parts=tuple(parts))

    async def _arguments(self, call: ToolCall, *, cut: bool) -> Met | Unmet | None:
        contract = self._tools.get(call.name)
        return None if contract is None else await _meet(contract, call.arguments, cut=cut)


async def judge_of(own: Contract | None, arrival: Arrival, reask_tokens: int) -> Judge | None:
    """Return what judges the answers of a call, by the contract of its feature and those that came with it.

    Raises:
        InvalidRequest: a schema that came with the call can't be used.
    """
    request, source = arrival.request, arrival.source
    assert isinstance(request, Request)
    format = request.response_format
    if format is not None and format.type == "text":
        format = None
    if own is None and arrival.returns is None and format is None and not request.tools:
        return None
    if at_hand(format, _raw(source), request.tools):
        return _judge(own, arrival, format, reask_tokens)
    return await aside(_judge, own, arrival, format, reask_tokens)


def _judge(own: Contract | None, arrival: Arrival, format: ResponseFormat | None, reask_tokens: int) -> Judge | None:
    request, source, returns = arrival.request, arrival.source, arrival.returns
    assert isinstance(request, Request)
    came = None
    if format is not None:
        try:
            came = requested(format, _raw(source))
        except InvalidRequest as error:
            raise _as_written(error, source) from error
        if request.stream and came is not None and isinstance(came.form, JsonForm):
            came.form.subschemas.validators(())  # which compiles them all, and not when the answer begins
    contracts = [contract for contract in (own, came, returns) if contract is not None]
    strict = [tool for tool in request.tools if tool.strict]
    tools = {tool.name: contract for tool in strict if (contract := arguments_of(tool)) is not None}
    if not contracts and not tools:
        return None
    name = WITH_THE_CALL if own is None else own.name
    said = None if own is not None or came is None else format
    offers = bool(request.tools) or "functions" in request.extra
    return Judge(contracts, tools, name=name, said=said, reask_tokens=reask_tokens, offers=offers)


def _raw(source: Source | None) -> bytes | None:
    """Return the bytes that the format of the answer came in, None where they are not at hand."""
    raw = None if source is None else source.fields.get("response_format")
    return None if raw is None else bytes(raw)


def _as_written(error: InvalidRequest, source: Source | None) -> InvalidRequest:
    """Name the schema at fault as the caller's wire does."""
    if source is None or source.wire != "anthropic" or error.param is None:
        return error
    name = "output_format.schema" if "output_format" in source.fields else "output_config.format.schema"
    return InvalidRequest(error.message.replace(error.param, name, 1), param=name)


async def check(contract: Contract, text: str) -> Checked:
    """Do what `contract.check` does, in a thread where it could take long."""
    return await aside(contract.check, text) if heavy(contract, text) else contract.check(text)


async def _meet(contract: Contract, text: str, *, cut: bool) -> Met | Unmet:
    """Do what `meet` does, in a thread where it could take long: most answers are valid, and that takes little."""
    if not heavy(contract, text) and (len(text) <= LIGHT or contract.check(text).ok):
        return meet(contract, text, cut=cut)
    return await aside(meet, contract, text, cut=cut)


def _is_refusal(choice: Choice) -> bool:
    """Whether there is nothing but a refusal, so no answer to be judged."""
    if choice.text.strip() or any(isinstance(part, ToolCall) for part in choice.parts):
        return False
    return choice.finish == "refused" or any(isinstance(part, Refusal) for part in choice.parts)


def _refused(choice: Choice) -> ContentRefused | None:
    """Return the error that an answer is which was broken off by a refusal, None where it was not."""
    return ContentRefused(choice.refusal_reason or "") if choice.finish == "refused" else None


def _said(choice: Choice, text: str) -> Choice:
    """Return a choice with its text replaced. Its log-probabilities are of another text, so they go."""
    parts: list[Part] = []
    put = False
    for part in choice.parts:
        if not isinstance(part, Text):
            parts.append(part)
        elif not put:
            parts.append(Text(text=text))
            put = True
    return msgspec.structs.replace(choice, parts=tuple(parts), logprobs=None)


def _results(choice: Choice, wrong: Mapping[str, Sequence[Violation]]) -> tuple[Message, ...]:
    """Return the conversation's next messages, in which the tools refuse their arguments."""
    calls = [part for part in choice.parts if isinstance(part, ToolCall)]
    results = []
    for call in calls:
        violations = wrong.get(call.id)
        told = "Not called, because the arguments of another call are wrong. Call it again."
        if violations is not None:
            listed = "\n".join(f"- {shortened(str(violation))}" for violation in violations)
            told = f"The arguments do not meet the schema of the tool. Call it again with right ones.\n{listed}"
        results.append(ToolResult(call_id=call.id, name=call.name, content=(Text(text=told),), is_error=True))
    return (
        Message(role="assistant", parts=choice.parts),
        *(Message(role="tool", parts=(result,)) for result in results),
    )
