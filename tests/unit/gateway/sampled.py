"""One call of an exchange that asks a model several times, over models whose providers are played."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from random import Random
from typing import Any

import msgspec

import virtual_time
from holdfast.chat import Message, Request, Text
from holdfast.errors import CallError, DeadlineExceeded
from holdfast.gateway.alarm import Alarms
from holdfast.gateway.answers.exchange import Exchange
from holdfast.gateway.attempts import Attempts
from holdfast.gateway.catalog import Feature, Model, Rules
from holdfast.gateway.fallback import Answered, Fail, Fallback, Verdict
from holdfast.gateway.record import Arrival, CallRecord
from holdfast.gateway.settings import GatewaySettings
from holdfast.gateway.traffic.health import Health
from holdfast.http.base import Timeouts
from holdfast.providers.base import Endpoint, ModelSettings, Upstream
from holdfast.providers.openai import OpenAIUpstream
from holdfast.providers.prices import Price, PriceSettings
from holdfast.state.board import Row
from integration.gateway.staged import Caller, Play, Staged

DEADLINE = 10.0
PRICE = Price.of(PriceSettings(input=1.0, output=2.0))


def asked(**fields: Any) -> Request:
    """Return a question."""
    return Request(model="answer", messages=(Message(role="user", parts=(Text(text="?"),)),), **fields)


def says(
    *texts: str,
    after: float = 0.0,
    tokens: tuple[int, int] | None = (10, 5),
    finish: str = "stop",
    logprobs: Sequence[Mapping[str, Any]] | None = None,
    **message: Any,
) -> Play:
    """Return an answer of as many choices as texts, with its prompt and completion tokens."""
    told = None if logprobs is None else {"content": logprobs}
    choices = [
        {
            "index": i,
            "message": {"role": "assistant", "content": text, **message},
            "finish_reason": finish,
            "logprobs": told,
        }
        for i, text in enumerate(texts)
    ]
    body: dict[str, Any] = {"id": "c", "object": "chat.completion", "created": 1, "model": "m-1", "choices": choices}
    if tokens is not None:
        body["usage"] = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    return Play(((0.0, json.dumps(body).encode()),), after=after, headers=((b"content-type", b"application/json"),))


class Scene:
    """A call in the making: its models, and what came of it."""

    def __init__(self, loop: virtual_time.VirtualLoop) -> None:
        self.loop = loop
        self.models: list[Model] = []
        self.caller = Caller()
        self.verdict: Verdict | None = None
        self.record: CallRecord

    def model(self, *plays: Any, upstream: type[Upstream] = OpenAIUpstream, **settings: Any) -> Staged:
        """Make a model whose transport plays these, one after the other, the last one again and again."""
        name, transport = f"model-{len(self.models) + 1}", Staged(*plays)
        known = ModelSettings(provider="openai", **settings)
        self.models.append(
            Model(
                name=name,
                provider="openai",
                upstream=upstream(Endpoint(model="m", base_url=f"http://{name}", headers=((b"x-key", b"hush-hush"),))),
                transport=transport,
                timeouts=Timeouts(),
                price=PRICE,
                health=Health(Row.private(), self.loop, name, known, GatewaySettings(), Random(1)),
            )
        )
        return transport

    async def call(
        self,
        exchange_of: Callable[[Arrival, Caller, Callable[[Model], Any]], Exchange],
        request: Request,
        *,
        kind: Any = "chat",
        retries: int = 2,
        hedge: float | bool = False,
    ) -> None:
        """Let the models answer as the fallback policy says, as the pipeline does it."""
        arrival = Arrival(
            id="call-1", kind=kind, wire="openai", started=self.loop.monotonic(), at=self.loop.now(), request=request
        )
        feature = Feature(
            name="answer",
            models=tuple(self.models),
            deadline=DEADLINE,
            max_answer=10**6,
            rules=Rules(retries=retries, hedge=hedge),
        )
        ends = self.loop.time() + DEADLINE
        self.record = record = CallRecord(arrival=arrival, config="", clock=self.loop, deadline=ends, feature=feature)
        exchange = exchange_of(arrival, self.caller, lambda model: record.open_attempt(model, "sample", probe=False))
        attempts = Attempts(record, exchange, self.loop, ends)
        policy = Fallback(
            feature.models, feature.rules, last_resort=False, remaining=attempts.remaining, streamed=False,
            chance=Random(1),
        )  # fmt: skip
        try:
            with Alarms().at(ends) as alarm:
                self.verdict = await attempts.follow(policy.run(), alarm)
        except TimeoutError:
            error = DeadlineExceeded()
            record.close_attempts(error)
            self.verdict = Fail(error)
        if isinstance(self.verdict, Answered):
            record.outcome, record.answered_by, record.reply = "answered", exchange.speaker, exchange.reply
            await exchange.finish(record.summary())

    @property
    def error(self) -> CallError:
        assert isinstance(self.verdict, Fail)
        return self.verdict.error

    @property
    def attempts(self) -> list[tuple[str, str, str | None]]:
        """The model, reason and error of each attempt in the log."""
        return [(one.model, one.reason, one.error) for one in self.record.event().attempts]

    def check_nothing_left(self) -> None:
        """See to it that every attempt has ended, and gave back what it had."""
        for model in self.models:
            assert isinstance(model.transport, Staged)
            assert model.transport.open == 0, "a response was left open"
            assert model.health.outstanding() == 0, "a request counts as under way"
            gate = model.health.gate
            assert gate is None or (gate.inside, gate.waiting) == (0, 0), "a place was not given back"
        assert all(attempt.ended is not None for attempt in self.record.attempts)


def play(scene: Callable[[Scene], Coroutine[Any, Any, None]]) -> Scene:
    """Play a scene in virtual time, and see to it that nothing is left behind."""
    loop = virtual_time.VirtualLoop()
    made = Scene(loop)
    virtual_time.run(scene(made), loop)
    made.check_nothing_left()
    return made


def bodies(transport: Staged) -> list[dict[str, Any]]:
    """Return what the provider was sent."""
    return [msgspec.json.decode(request.body) for request in transport.requests]


async def cancelled_after(seconds: float, call: Coroutine[Any, Any, None]) -> None:
    """Make a call whose caller hangs up."""
    task = asyncio.create_task(call)
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
