"""The record of a call in progress, which becomes its event in the log."""

import functools
from collections.abc import Awaitable
from typing import Any, Literal

import msgspec

from holdfast import events
from holdfast.chat import EmbeddingReply, EmbeddingRequest, Reply, Request, Usage
from holdfast.clock import Clock
from holdfast.contracts.base import Contract
from holdfast.errors import (
    CallError,
    ProviderError,
)
from holdfast.gateway.access import LOCAL, Caller
from holdfast.gateway.catalog import Feature, Model
from holdfast.gateway.hints import NO_HINTS, Hints
from holdfast.gateway.replay import Kept
from holdfast.gateway.spending.budgets import Need, Purse, Reservation
from holdfast.gateway.spending.charges import counts, may_be_charged, used
from holdfast.gateway.spending.worst_case import need
from holdfast.log.view import usd
from holdfast.providers.base import Source

Kind = Literal["chat", "embeddings", "distribution"]
ONE_REQUEST = Need(1, 0, 0)
"""The worst case of an attempt under limits that count neither tokens nor money."""
CHARACTERS_A_TOKEN = 4
"""What a token is taken for where its provider never told the usage."""


class Summary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the caller is told of how the call went: as headers, or as the `holdfast` object that ends a stream.

    `model` is the one that answered, `cost` US dollars as a decimal; None is unknown.
    """

    call: str
    outcome: events.Outcome | None = None
    model: str | None = None
    attempts: int | None = None
    cost: str | None = None
    replayed: str | None = None
    """The call whose answer this is, where it was given again."""
    agreement: float | None = None
    """The share of the answers that agree with this one, where they voted."""


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """A call as it arrived: `started` is the clock's monotonic seconds, `at` its seconds since 1970.

    `request` is None when it could not be decoded.
    """

    id: str
    kind: Kind
    wire: str
    started: float
    at: float
    request: Request | EmbeddingRequest | None = None
    source: Source | None = None
    hints: Hints = NO_HINTS
    size: int = 0
    """Bytes of the body."""
    returns: Contract | None = None
    """What the answer must be, where the call is made in process and says so."""
    caller: Caller = LOCAL
    """On whose authority it is made."""


class AttemptRecord(msgspec.Struct, kw_only=True):
    """One attempt in progress. Times are the clock's monotonic seconds."""

    model: Model
    clock: Clock
    started: float
    reason: events.Reason = "first"
    probe: bool = False
    """Whether it finds out if the model is back, and has not yet."""
    ended: float | None = None
    first_token: float | None = None
    served_model: str | None = None
    fingerprint: str | None = None
    usage: Usage | None = None
    estimated: bool = False
    cost_nanousd: int | None = None
    error: CallError | None = None
    streamed: bool = False
    spoke: bool = False
    """Whether the caller has received a part of it."""
    saved_tokens: int = 0
    ignored: bool = False
    """Whether the server broke a constraint that it had accepted."""
    ledger: tuple[events.Repair, ...] = ()
    """What its answer needed to meet the contract."""
    purse: Purse | None = None
    """What it may spend, where limits hold, and what is set aside of that."""
    reservation: Reservation | None = None

    def afford(self, asked: Request | EmbeddingRequest, size: int, seconds: float) -> Awaitable[None] | None:
        """Set aside the most that it may use; `size` is the bytes that are sent. Return what to wait for, if anything:
        for `seconds` at most.

        Raises:
            LimitExceeded, PriceUnknown, Saturated: at once, or in the end.
        """
        purse = self.purse
        assert purse is not None
        most = need(self.model, asked, size) if purse.measures else ONE_REQUEST
        self.reservation = purse.try_reserve(most)
        return None if self.reservation is not None else self._draw(purse, most, seconds)

    async def _draw(self, purse: Purse, most: Need, seconds: float) -> None:
        self.reservation = await purse.reserve(most, self.clock.monotonic() + seconds)

    def close(self, error: CallError | None) -> None:
        """End it, and settle what it cost: nothing if the provider refused or never spoke."""
        if self.ended is not None:
            return
        self.ended, self.error = self.clock.monotonic(), error
        usage = self.usage
        if usage is not None and not counts(usage):
            usage = self.usage = None
        if usage is not None:
            self.cost_nanousd = None if self.model.price is None else self.model.price.cost_nanousd(usage)
        elif error is not None and self.first_token is None and not may_be_charged(error, streamed=self.streamed):
            self.cost_nanousd = 0
        if self.reservation is not None:
            self.reservation.settle(
                *used(
                    self.usage,
                    self.cost_nanousd,
                    error,
                    estimated=self.estimated,
                    streamed=self.streamed,
                    seconds=self.ended - self.started,
                )
            )

    def estimate(self, asked: int, said: int) -> None:
        """Tell its usage as well as can be, as its provider did not, or not all: from characters asked and said."""
        told = self.usage or Usage()
        self.estimated = True
        self.usage = msgspec.structs.replace(
            told,
            input_tokens=told.input_tokens or tokens(asked),
            output_tokens=max(told.output_tokens, tokens(said)),
        )

    def event(self, start: float) -> events.Attempt:
        """Return what the log keeps of it, once it is closed."""
        error, ended, started, first_token = self.error, self.ended, self.started, self.first_token
        assert ended is not None
        event = events.Attempt(
            model=self.model.name,
            provider=self.model.provider,
            started_us=int((started - start) * 1e6 + 0.5),
            duration_us=int((ended - started) * 1e6 + 0.5),
            first_token_us=None if first_token is None else int((first_token - started) * 1e6 + 0.5),
            served_model=self.served_model,
            usage=self.usage,
            cost_nanousd=self.cost_nanousd,
            reason=self.reason,
        )
        if error is None:  # as most are
            return event
        return msgspec.structs.replace(
            event,
            provider_status=error.provider_status if isinstance(error, ProviderError) else None,
            error=error.code,
            message=error.message,
            estimated=self.estimated,
            saved_tokens=self.saved_tokens,
            ignored=self.ignored,
        )


class CallRecord(msgspec.Struct, kw_only=True):
    """One call in progress. `deadline` is on the clock's monotonic seconds, `subject` the keyed hash."""

    arrival: Arrival
    config: str
    clock: Clock
    deadline: float
    feature: Feature | None = None
    name: str = ""
    subject: str | None = None
    attempts: list[AttemptRecord] = []
    answered_by: AttemptRecord | None = None
    outcome: events.Outcome | None = None
    error: CallError | None = None
    reply: Reply | EmbeddingReply | None = None
    recorded: bool = False
    """Whether the log has been given an end of it."""
    contract: str | None = None
    """The name of what the answer must meet."""
    replayed: Kept | None = None
    """The answer that was given again, where one was."""
    question: bytes | None = None
    """What stands for the question, where the same one gets the same answer."""
    samples: int | None = None
    agreement: float | None = None
    purse: Purse | None = None
    """What it may spend, where limits hold."""

    def open_attempt(self, model: Model, reason: events.Reason, *, probe: bool) -> AttemptRecord:
        """Begin an attempt."""
        attempt = AttemptRecord(
            model=model,
            clock=self.clock,
            started=self.clock.monotonic(),
            reason=reason,
            probe=probe,
            purse=self.purse,
        )
        self.attempts.append(attempt)
        return attempt

    def open_sample(self, model: Model) -> AttemptRecord:
        """Begin an attempt beside another one at the same model: another answer to the same question."""
        return self.open_attempt(model, "sample", probe=False)

    def close_attempts(self, error: CallError) -> None:
        """End the attempts that have not ended."""
        for attempt in self.attempts:
            attempt.close(error)

    def let_go(self) -> None:
        """Forget where errors were raised: that leads back to here, so what is there would be kept for long."""
        for error in (self.error, *[attempt.error for attempt in self.attempts]):
            if error is not None:
                error.__traceback__ = None

    @property
    def spoke(self) -> bool:
        """Whether the caller has received a part of an answer."""
        return any(attempt.spoke for attempt in self.attempts)

    @property
    def cost_nanousd(self) -> int | None:
        """The sum over the attempts, None as soon as one is unknown."""
        if len(self.attempts) == 1:
            return self.attempts[0].cost_nanousd
        costs = [attempt.cost_nanousd for attempt in self.attempts]
        return None if None in costs else sum(cost for cost in costs if cost is not None)

    @property
    def usage(self) -> Usage | None:
        """The sum over the attempts whose usage is known."""
        if len(self.attempts) == 1:
            return self.attempts[0].usage
        return functools.reduce(total, [attempt.usage for attempt in self.attempts], None)

    @property
    def size(self) -> int:
        """About how many bytes its event is, while it waits for the log."""
        reply = self.reply
        answer = sum([len(vector) * 8 for vector in reply.vectors]) if isinstance(reply, EmbeddingReply) else 2_000
        return 1_000 + 2 * self.arrival.size + answer

    def summary(self) -> Summary:
        """Return what the caller is told."""
        answer, again = self.answered_by, self.replayed
        model = again.model if again is not None else None if answer is None else answer.model.name
        return Summary(
            call=self.arrival.id,
            outcome=self.outcome,
            model=model,
            attempts=len(self.attempts),
            cost=usd(self.cost_nanousd),
            replayed=None if again is None else again.call,
            agreement=self.agreement,
        )

    def event(self) -> events.Call:
        """Return what the log keeps of it, ending now."""
        arrival, feature, request, attempts = self.arrival, self.feature, self.arrival.request, self.attempts
        start, hints = arrival.started, arrival.hints
        rare: dict[str, Any] = {}
        if hints is not NO_HINTS:
            rare = {"session": hints.session, "subject": self.subject, "tags": hints.tags}
        if (caller := arrival.caller) is not LOCAL:
            rare["tenant"], rare["key"] = caller.tenant, caller.key or f"account:{caller.account}"
        if self.error is not None:
            rare["error"], rare["message"] = self.error.code, self.error.message
        if self.samples is not None:
            rare |= {"samples": self.samples, "agreement": self.agreement}
        if self.contract is not None:
            ledger = self._ledger()
            rare |= {"contract": self.contract, "repairs": len(ledger), "ledger": ledger}
        return events.Call(
            id=arrival.id,
            at_us=int(arrival.at * 1e6 + 0.5),
            kind=arrival.kind,
            wire=arrival.wire,
            name=self.name,
            config=self.config,
            outcome=self.outcome or "error",
            status=200 if self.error is None or self.outcome == "last_resort" else self.error.status,
            duration_us=int((self.clock.monotonic() - start) * 1e6 + 0.5),
            store="all" if feature is None else feature.store,
            feature=None if feature is None else feature.name,
            stream=type(request) is Request and request.stream,
            usage=self.usage,
            cost_nanousd=self.cost_nanousd,
            attempts=(attempts[0].event(start),) if len(attempts) == 1 else tuple([a.event(start) for a in attempts]),
            request=request,
            **self._answer(start),
            **rare,
        )

    def _ledger(self) -> tuple[events.Repair, ...]:
        """Return what the answer needed to meet its contract, also in the answers that it mends."""
        answer = self.answered_by
        if answer is None:
            return ()
        last = next(number for number, attempt in enumerate(self.attempts) if attempt is answer)
        first = last
        while first and self.attempts[first].reason == "reask":
            first -= 1
        return tuple(
            msgspec.structs.replace(repair, attempt=number)
            for number in range(first, last + 1)
            for repair in self.attempts[number].ledger
        )

    def _answer(self, start: float) -> dict[str, Any]:
        """Return what the log keeps of the answer."""
        answer, reply, again = self.answered_by, self.reply, self.replayed
        finish = reply.choices[0].finish if type(reply) is Reply and reply.choices else None
        if again is not None:
            told = {name: getattr(again, name) for name in ("model", "provider", "served_model", "fingerprint")}
            return {"reply": reply, "finish": finish, "replayed": again.call, **told}
        if answer is None:
            return {"reply": reply, "finish": finish}
        first_token = answer.first_token
        if len(self.attempts) > 1:
            first_token = min([a.first_token for a in self.attempts if a.spoke and a.first_token], default=first_token)
        return {
            "reply": reply,
            "finish": finish,
            "model": answer.model.name,
            "provider": answer.model.provider,
            "served_model": answer.served_model,
            "fingerprint": answer.fingerprint,
            "first_token_us": None if first_token is None else int((first_token - start) * 1e6 + 0.5),
        }


def total(one: Usage | None, other: Usage | None) -> Usage | None:
    """Return the sum of what attempts used, as far as it is known."""
    if one is None or other is None:
        return one or other
    return Usage(**{field: getattr(one, field) + getattr(other, field) for field in Usage.__struct_fields__})


def tokens(characters: int) -> int:
    """Return about how many tokens a text of so many characters is."""
    return -(-characters // CHARACTERS_A_TOKEN)
