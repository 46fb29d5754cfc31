"""What the answers of one call must be: checked, repaired, and where that fails, what a model is asked to mend."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from holdfast.chat import (
    Choice,
    Part,
    Refusal,
    Reply,
    Request,
    ResponseFormat,
    Text,
    ToolCall,
)
from holdfast.contracts.answer import MISSING, Met, Unmet, heavy, meet
from holdfast.contracts.base import Checked, Contract, Violation, shortened
from holdfast.contracts.forms.schema import decode
from holdfast.contracts.streaming.watch import Watch
from holdfast.errors import ContentRefused, ContractViolated
from holdfast.events import Repair
from holdfast.gateway.answers.follower import LIGHT, Follower, aside
from holdfast.gateway.answers.mending import Mend, mend_calls, mend_text
from holdfast.gateway.answers.terms import terms_of, warn_of_ignored
from holdfast.gateway.record import AttemptRecord, tokens

TOLD: Final = 3
"""Violations that an error message names."""
_AT_LIMIT: Final = Violation("", "it was cut off at the limit of tokens (max_tokens)", "cut")
_NOT_OFFERED: Final = Violation("", "it calls a tool, and there is none", "tool")


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
        self._mends: dict[str, Mend] = {}

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
        mend = mend_text(self._contracts[0], Unmet(said, (violation,), MISSING)) if self._contracts else None
        return self.violated(attempt, (violation,), mend)

    def violated(
        self, attempt: AttemptRecord, violations: Sequence[Violation], mend: Mend | None = None
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
            mend = mend_text(self._contracts[0], Unmet("", (_NOT_OFFERED,))) if alone else None
            raise self.violated(attempt, (_NOT_OFFERED,), mend)
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

    async def _mended(self, unmet: Unmet) -> Mend:
        """Return how to mend a text, put together in a thread where that could take long."""
        contract = self._contracts[0]
        return mend_text(contract, unmet) if len(unmet.text) <= LIGHT else await aside(mend_text, contract, unmet)

    async def _calls(
        self, attempt: AttemptRecord, index: int, choice: Choice, repairs: list[Repair], *, alone: bool
    ) -> Choice:
        """Return the choice with the arguments of its tool calls as they meet their contracts."""
        wrong: dict[str, tuple[Violation, ...]] = {}
        repaired: dict[int, ToolCall] = {}
        calls = [(at, part) for at, part in enumerate(choice.parts) if isinstance(part, ToolCall)]
        for number, (at, call) in enumerate(calls):
            met = await self._arguments(call, cut=choice.finish == "length")
            if isinstance(met, Unmet):
                wrong[call.id] = met.violations
            elif met is not None and met.text != call.arguments:
                repairs += [msgspec.structs.replace(repair, choice=index, tool=number) for repair in met.ledger]
                repaired[at] = msgspec.structs.replace(call, arguments=met.text)
        if wrong:
            violations = [violation for found in wrong.values() for violation in found]
            raise self.violated(attempt, violations, mend_calls(choice, wrong) if alone else None)
        if not repaired:
            return choice
        parts = tuple([repaired.get(at, part) for at, part in enumerate(choice.parts)])
        return msgspec.structs.replace(choice, parts=parts)

    async def _arguments(self, call: ToolCall, *, cut: bool) -> Met | Unmet | None:
        contract = self._tools.get(call.name)
        return None if contract is None else await _meet(contract, call.arguments, cut=cut)


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
