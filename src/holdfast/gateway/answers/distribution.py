"""How likely a model finds each of a closed set of answers: `POST /v1/distribution`."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Raw
from msgspec.structs import replace

from holdfast.chat import Choice, Logprob, Message, Reasoning, Reply, Request, ResponseFormat, Text, Usage
from holdfast.contracts.agreement import plain
from holdfast.errors import (
    AuthenticationFailed,
    BadRequest,
    ContentRefused,
    ContractViolated,
    InvalidRequest,
    ProviderError,
)
from holdfast.gateway.answers.exchange import LAST_RESORT, Exchange, Writer
from holdfast.gateway.answers.likelihood import Choices, Estimate, from_counts, from_logprobs
from holdfast.gateway.answers.samples import OpenSample, Sample, Samples, most_telling, seed_of
from holdfast.gateway.catalog import Model
from holdfast.gateway.fetch import Limits
from holdfast.gateway.record import Arrival, AttemptRecord, Summary, total
from holdfast.providers.base import Source, Surface
from holdfast.providers.decoding import Malformed, read

Method = Literal["logprobs", "samples"]
_VISIBLE: Final = r"[^\s\x00-\x1f\x7f-\xa0\ufeff]"
Answer = Annotated[str, Meta(max_length=200, pattern=rf"^{_VISIBLE}([\s\S]*{_VISIBLE})?$")]

FIELD: Final = "distribution"
"""Where a request, and in the log its reply, carries what belongs to the distribution."""
ALTERNATIVES: Final = (20, 5)
"""How many alternatives to a token are asked for: as many as any provider tells, and as many as most do."""
ENOUGH: Final = 0.5
"""The least share of the probability that log-probabilities have to tell of, or samples are taken."""
AT_ONCE: Final = 8
"""The most answers that one request asks for."""
TEMPERATURE: Final = 1.0
"""Of samples where the caller sets none: what the model itself finds likely."""

_OWN: Final = ("choices", "samples", "method")
DECIDED: Final = (
    *("stream", "stream_options", "n", "logprobs", "top_logprobs", "response_format", "tools", "tool_choice"),
    *("functions", "function_call", "parallel_tool_calls", "stop"),
)
"""Fields of a chat that a distribution decides by itself."""
SWITCHES: Final = ("stream", "logprobs", "parallel_tool_calls")
"""Those of them that may be off."""
_NEVER: Final = re.compile(r"(?:not|n't) (?:\w+ )?(?:support|allow|permit|available)|unsupported|unavailable|tells no")


# --- what is asked ----------------------------------------------------------------------------------------------------


class Asked(msgspec.Struct, frozen=True):
    """What a distribution asks for beyond a chat."""

    choices: Annotated[tuple[Answer, ...], Meta(min_length=2, max_length=64)]
    """What may be answered: each once, without white space around it."""
    samples: Annotated[int, Meta(ge=1, le=100)] = 20
    """How many answers are counted where log-probabilities don't tell enough."""
    method: Method | None = None
    """Default: log-probabilities where the model tells them, else samples."""


_ASKED: Final = msgspec.json.Decoder(Asked)
_FIELDS: Final = msgspec.json.Decoder(dict[str, Raw])


def decode(body: bytes, path: str, surface: Surface) -> tuple[Request, Source]:
    """Decode a distribution: a chat on the wire of `surface`, with the fields of `Asked`.

    Raises:
        InvalidRequest: with `param` naming the field at fault.
    """
    try:
        asked: Asked = read(_ASKED, body)
        fields: dict[str, Raw] = read(_FIELDS, body)
    except Malformed as error:
        around = "matching regex" in error.message
        raise _fault(error.path, "Expected a text without white space around it" if around else error.message) from None
    if len({plain(choice) for choice in asked.choices}) < len(asked.choices):
        raise _fault("choices", "Expected each of them once")
    for name in DECIDED:
        if name in fields and bytes(fields[name]) not in ((b"null", b"false") if name in SWITCHES else (b"null",)):
            raise _fault(name, "A distribution decides this by itself")
    chat = {name: raw for name, raw in fields.items() if name not in _OWN and name not in DECIDED}
    request, source = surface.decode(msgspec.json.encode(chat), path)
    extra = {FIELD: {"samples": asked.samples, "method": asked.method}}
    format = ResponseFormat(type="choice", choices=asked.choices)
    return replace(request, response_format=format, extra=request.extra | extra), source


def _fault(param: str, message: str) -> InvalidRequest:
    name = param.partition("[")[0] or None
    return InvalidRequest(f"Invalid value for '{param}': {message}." if param else f"{message}.", param=name)


# --- the call ---------------------------------------------------------------------------------------------------------


class Distribution(Exchange):
    """The probabilities of the choices that `decode` put into the request.

    They come from the log-probabilities of one answer where the model tells those of most of its probability, and does
    not think first; else, or with the method "samples", from so many answers. All of one attempt is one model's.
    """

    takes_last_resort = False

    def __init__(self, arrival: Arrival, request: Request, writer: Writer, *, open_sample: OpenSample) -> None:
        format = request.response_format
        assert format is not None
        asked = request.extra[FIELD]
        self._wanted: int = asked["samples"]
        self._method: Method | None = asked["method"]
        self._choices = Choices(format.choices)
        self._arrival = arrival
        self._request = replace(
            request,
            messages=_told(request.messages, format.choices),
            extra={name: value for name, value in request.extra.items() if name != FIELD},
        )
        self._writer = writer
        self._open_sample = open_sample
        self._spent: Usage | None = None
        self.estimate: Estimate | None = None

    async def attempt(self, attempt: AttemptRecord, limits: Limits) -> None:
        model = attempt.model
        asked = self._constrained(model)
        samples = Samples(attempt, limits, self._open_sample, source=self._arrival.source)
        try:
            async with samples:
                found = None if self._method == "samples" else await self._by_logprobs(samples, asked, model)
                if found is None:
                    found = await _Count(self._choices, self._wanted, asked, model).run(samples)
        except ProviderError as error:
            attempt.error = attempt.error or error
            raise
        finally:
            self._spent = total(self._spent, samples.usage)
        self._speak(attempt)
        self.speaker = samples.last
        self.estimate = found
        self.reply = Reply(
            id=self._arrival.id,
            model=samples.last.served_model or model.name,
            choices=(Choice(parts=(Text(text=found.best.choice),)),),
            usage=self._spent,
            fingerprint=samples.last.fingerprint,
            created=int(self._arrival.at),
            extra={FIELD: msgspec.to_builtins(found)},
        )

    def _constrained(self, model: Model) -> Request:
        """Return the request with the choices as a constraint, where the model's server enforces them."""
        request = self._request
        assert request.response_format is not None
        format = model.upstream.constrain(request.response_format).format
        enforced = format is not None and format.type == "choice"
        return replace(request, response_format=format if enforced else None)

    # --- log-probabilities ---

    async def _by_logprobs(self, samples: Samples, request: Request, model: Model) -> Estimate | None:
        """Return what log-probabilities tell; None if it is not enough. Raises ProviderError."""
        forced = self._method == "logprobs"
        if model.health.alternatives == 0 and not forced:
            return None
        sample = await self._with_logprobs(samples, request, model)
        if sample.reply is None:
            assert sample.error is not None
            if forced or not _refuses_logprobs(sample.error):
                raise sample.error
            return None
        choice = sample.reply.choices[0]
        logprobs = choice.logprobs or ()
        if not logprobs:
            model.health.alternatives = 0
        enforced = request.response_format is not None
        found = from_logprobs(self._choices, logprobs, choice.text, enforced=enforced)
        if forced:
            return found or _none_told(model, logprobs)
        enough = found is not None and found.coverage >= ENOUGH and not _thought(sample.reply)
        return found if enough else None

    async def _with_logprobs(self, samples: Samples, request: Request, model: Model) -> Sample:
        """Ask for one answer with as many alternatives as the model tells."""
        known = model.health.alternatives
        most, *fewer = [most for most in ALTERNATIVES if not known or most <= known]
        sample = await samples.only(replace(request, top_logprobs=most))
        if fewer and sample.error is not None and _refuses_logprobs(sample.error) and not _refuses_all(sample.error):
            most, *_ = fewer
            sample = await samples.only(replace(request, top_logprobs=most))
        if sample.error is None:
            model.health.alternatives = most
        elif _refuses_logprobs(sample.error):
            model.health.alternatives = 0
        return sample

    # --- ends ---

    async def use(self, reply: Reply, raw: bytes | None = None, wire: str = LAST_RESORT) -> None:
        raise AssertionError("a text is no distribution")

    async def finish(self, summary: Summary) -> None:
        assert isinstance(self.reply, Reply)
        assert self.estimate is not None
        body = encode(self.estimate, self.reply, summary)
        await self._writer.reply(self.reply, body, self._arrival.wire, summary)


def encode(estimate: Estimate, reply: Reply, summary: Summary) -> bytes:
    """Encode the answer."""
    told = msgspec.to_builtins(estimate)
    usage = reply.usage
    body = {
        "id": reply.id,
        "object": "distribution",
        "created": reply.created,
        "model": reply.model,
        **{name: told[name] for name in ("choices", "method", "samples", "coverage", "other", "interval")},
        "usage": None if usage is None else _usage(usage),
        "holdfast": msgspec.to_builtins(summary),
    }
    return msgspec.json.encode({name: value for name, value in body.items() if value is not None})


def estimate_of(reply: Reply) -> Estimate:
    """Return the distribution that a reply holds."""
    return msgspec.convert(reply.extra[FIELD], Estimate)


def _usage(usage: Usage) -> dict[str, int]:
    asked, said = usage.input_tokens, usage.output_tokens
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def _told(messages: Sequence[Message], choices: Sequence[str]) -> tuple[Message, ...]:
    """Tell the model what it may answer: a server that enforces it does not tell."""
    listed = ", ".join([json.dumps(choice, ensure_ascii=False) for choice in choices])
    part = Text(text=f"Answer with exactly one of the following, without quotes, and say nothing else: {listed}.")
    if messages and messages[0].role == "system":
        first, *rest = messages
        return replace(first, parts=(*first.parts, Text(text="\n\n"), part)), *rest
    return Message(role="system", parts=(part,)), *messages


def _refuses_logprobs(error: ProviderError) -> bool:
    about = "logprob" in f"{error.message} {error.param}".lower().replace("-prob", "prob")
    return about and isinstance(error, BadRequest | AuthenticationFailed)


def _refuses_all(error: ProviderError) -> bool:
    """Whether fewer alternatives would be refused too."""
    return _NEVER.search(error.message.lower()) is not None


def _none_told(model: Model, logprobs: Sequence[Logprob]) -> Estimate:
    """Raise what is wrong where log-probabilities had to tell."""
    if not logprobs:
        raise BadRequest(f"{model.name} tells no log-probabilities.", param="method")
    raise ContractViolated("None of the choices is among the alternatives that the model tells.")


def _thought(reply: Reply) -> bool:
    """Whether the model thought first: then its log-probabilities are those after this one thought."""
    thoughts = any(isinstance(part, Reasoning) for part in reply.choices[0].parts)
    return thoughts or (reply.usage is not None and reply.usage.reasoning_tokens > 0)


# --- samples ----------------------------------------------------------------------------------------------------------


class _Count:
    """Counts the answers to one request, asked for several at once where the model gives several."""

    def __init__(self, choices: Choices, wanted: int, request: Request, model: Model) -> None:
        temperature = TEMPERATURE if request.temperature is None else request.temperature
        self._request = replace(request, temperature=temperature)
        self._choices = choices
        self._wanted = wanted
        self._health = model.health
        self._counts = [0] * len(choices.texts)
        self._others = 0
        self._asked = 0
        self._errors: list[ProviderError] = []
        self._failed = 0
        self._refusal: str | None = None

    async def run(self, samples: Samples) -> Estimate:
        """Return what so many answers tell. Raises ProviderError: more than half failed, or none is a choice."""
        while (left := self._wanted - self._counted - self._failed) > 0:
            samples.ask(self._requests(left))
            while (sample := await samples.next()) is not None:
                self._take(sample)
                if 2 * self._failed > self._wanted:
                    raise most_telling(self._errors)
        if any(self._counts):
            return from_counts(self._choices, self._counts, self._others)
        if self._refusal is not None:
            raise ContentRefused(self._refusal)
        raise ContractViolated(f"None of {self._counted} answers is one of the choices.")

    @property
    def _counted(self) -> int:
        return sum(self._counts) + self._others

    def _requests(self, left: int) -> Iterator[Request]:
        """Yield requests for so many answers; a single one where it is to find out whether the model gives several."""
        several, seed = self._health.several, self._request.seed
        while left > 0:
            size = 1 if several is False else min(AT_ONCE, left)
            yield replace(self._request, n=size, seed=None if seed is None else seed_of(seed, self._asked))
            self._asked += size
            left = 0 if several is None and size > 1 else left - size

    def _take(self, sample: Sample) -> None:
        size, reply, error = sample.request.n, sample.reply, sample.error
        if reply is not None:
            if size > 1:
                self._health.several = len(reply.choices) >= size
            for choice in reply.choices[:size]:
                self._add(choice)
        elif size > 1 and isinstance(error, BadRequest):
            self._health.several = False
        elif error is not None:
            self._errors.append(error)
            self._failed += size

    def _add(self, choice: Choice) -> None:
        found = self._choices.match(choice.text)
        if choice.finish == "refused":
            self._refusal = choice.refusal_reason or ""
        if found is None:
            self._others += 1
        else:
            self._counts[found] += 1
