"""The simulated providers, without their sockets: a request in, a plan of the response out."""

import itertools
from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.parse import quote

import msgspec

from holdfast.chat import Request
from holdfast.clock import Clock
from holdfast.errors import InvalidRequest
from holdfast.providers.anthropic import AnthropicSurface
from holdfast.providers.base import Surface, Wire
from holdfast.providers.google import GoogleSurface
from holdfast.providers.openai import OpenAISurface
from holdfast.providers.simulated import replies
from holdfast.providers.simulated.behaviour import PRESETS, Behaviour
from holdfast.providers.simulated.corpus import Corpus, load_corpus
from holdfast.providers.simulated.failures import Failure, key_refused, unknown_model
from holdfast.providers.simulated.faults import Moment, strike
from holdfast.providers.simulated.plan import Piece, Plan
from holdfast.providers.simulated.recorder import Record, Recorder
from holdfast.providers.simulated.routes import Address, Route, guess_wire, route
from holdfast.providers.simulated.script import Progress, Script

SURFACES: Mapping[Wire, Surface] = {
    "openai": OpenAISurface(),
    "anthropic": AnthropicSurface(),
    "google": GoogleSurface(),
}
_IDS = {"openai": "chatcmpl-", "anthropic": "msg_", "google": ""}
_REQUEST_IDS = {"openai": "x-request-id", "anthropic": "request-id", "google": "x-request-id"}
_SSE = "text/event-stream; charset=utf-8"


class Incoming(msgspec.Struct, frozen=True):
    """A request as it arrived. `headers` by name in lower case; of a repeated one the last. `kept`: its connection has
    served another before."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    kept: bool = False

    @property
    def address(self) -> Address:
        """The target, split up."""
        return Address.parse(self.target)

    @property
    def keys(self) -> set[str]:
        """The API keys that came with it, in whichever place a wire keeps them."""
        found = {self.headers.get("x-api-key"), self.headers.get("api-key"), self.headers.get("x-goog-api-key")}
        found |= {self.headers.get("authorization", "").removeprefix("Bearer "), self.address.query.get("key")}
        return {key for key in found if key}


class Providers:
    """All of them at once, behaving as a script says.

    Raises:
        ConfigError: a corpus that the script names can't be read.
    """

    def __init__(self, script: Script, clock: Clock, recorder: Recorder) -> None:
        self.clock = clock
        self.recorder = recorder
        self._numbers = itertools.count(1)
        self._corpora: dict[tuple[str, ...], Corpus] = {}
        self.follow(script)

    def follow(self, script: Script) -> None:
        """Begin a script, in the place of the one before. Raises ConfigError, and then nothing changes."""
        behaviours: list[Behaviour] = [script.default]
        for model in script.models.values():
            behaviours += [model, *model.steps]
        wanted = {behaviour.corpus for behaviour in behaviours if behaviour.corpus}
        self._corpora = {files: self._corpora.get(files) or load_corpus(files) for files in wanted}
        self.progress = Progress(script, self.clock)

    @property
    def script(self) -> Script:
        """The script in force."""
        return self.progress.script

    def respond(self, incoming: Incoming, record: Record) -> Plan:
        """Plan the response to a request, and note in its record what it was."""
        answer = _Answer(self, incoming, record, next(self._numbers))
        try:
            plan = answer.plan()
        except InvalidRequest as error:
            plan = answer.failed(Failure(400, error.message, param=error.param))
        except Failure as failure:
            plan = answer.failed(failure)
        record.status = plan.status
        return plan

    def corpus(self, behaviour: Behaviour) -> Corpus | None:
        """Return the recorded outputs that a behaviour answers from."""
        return self._corpora[behaviour.corpus] if behaviour.corpus else None

    def models(self) -> list[str]:
        """Return the names of the models that a list of them shows."""
        return [*self.script.models, *([] if self.script.strict else PRESETS)]


class _Answer:
    """The answer to one request."""

    def __init__(self, providers: Providers, incoming: Incoming, record: Record, number: int) -> None:
        self.providers = providers
        self.incoming = incoming
        self.record = record
        self.number = number
        self.wire: Wire = guess_wire(incoming.address, incoming.headers)

    @cached_property
    def created(self) -> int:
        return int(self.providers.clock.now())

    @property
    def request_id(self) -> str:
        return f"req_{self.number:012d}"

    def headers(self, content_type: str = "application/json") -> list[tuple[str, str]]:
        return [("content-type", content_type), (_REQUEST_IDS[self.wire], self.request_id)]

    def whole(self, body: bytes, wait: float = 0.0, tokens: int = 0) -> Plan:
        return Plan(wire=self.wire, headers=self.headers(), pieces=[Piece(body, tokens, wait)])

    def failed(self, failure: Failure) -> Plan:
        plan = self.whole(failure.body(self.wire, self.request_id))
        plan.status = failure.status
        plan.headers += failure.headers()
        return plan

    def plan(self) -> Plan:
        found = route(self.incoming.method, self.incoming.address, self.incoming.headers)
        self.wire = found.wire
        self.record.wire, self.record.operation = found.wire, found.operation
        allowed = self.providers.script.api_keys
        if allowed and not self.incoming.keys.intersection(allowed):
            raise key_refused(self.wire)
        if found.operation in ("models", "model"):
            return self.whole(self._list(found.model))
        return {"chat": self._chat, "embeddings": self._embed, "count": self._count}[found.operation](found)

    # --- models -------------------------------------------------------------------------------------------------------

    def _list(self, only: str | None) -> bytes:
        entries = [self._entry(name) for name in self.providers.models() if only in (None, name)]
        if only is not None:
            if not entries:
                raise unknown_model(self.wire, only)
            return msgspec.json.encode(entries[0])
        if self.wire == "google":
            return msgspec.json.encode({"models": entries})
        if self.wire == "anthropic":
            ends = {"first_id": entries[0]["id"], "last_id": entries[-1]["id"]} if entries else {}
            return msgspec.json.encode({"data": entries, "has_more": False, "first_id": None, "last_id": None} | ends)
        return msgspec.json.encode({"object": "list", "data": entries})

    def _entry(self, name: str) -> dict[str, Any]:
        if self.wire == "google":
            methods = ["generateContent", "streamGenerateContent", "embedContent", "batchEmbedContents", "countTokens"]
            return {"name": f"models/{name}", "displayName": name, "supportedGenerationMethods": methods}
        if self.wire == "anthropic":
            return {"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"}
        return {"id": name, "object": "model", "created": self.created, "owned_by": "simulated"}

    # --- chat ---------------------------------------------------------------------------------------------------------

    def _chat(self, found: Route) -> Plan:
        request, _ = SURFACES[self.wire].decode(self._body(found), self._path(found, found.verb))
        streamed = found.verb == "streamGenerateContent" or (request.stream and not found.verb)
        self.record.model, self.record.stream = request.model, streamed
        behaviour = self._behaviour(request.model)
        try:
            plan = self._answered(request, behaviour, streamed)
        except Failure as failure:
            plan = self.failed(failure)
        return self._struck(plan, behaviour)

    def _answered(self, request: Request, behaviour: Behaviour, streamed: bool) -> Plan:
        source = replies.Source(
            wire=self.wire,
            behaviour=behaviour,
            corpus=self.providers.corpus(behaviour),
            id=f"{_IDS[self.wire]}{self.number:012d}",
            created=self.created,
        )
        reply = replies.reply(request, source)
        first = self._first_token(request.model, behaviour)
        if self.wire == "google" and behaviour.refuse in ("prompt", "block"):
            body = _blocked(request)
            return self._streamed([Piece(b"data: " + body + b"\n\n", 0, first)], behaviour) if streamed else (
                self.whole(body, first)
            )  # fmt: skip
        if not streamed:
            tokens = sum([1 for chunk in replies.chunks(reply) if chunk.speaks])
            pause = max(tokens - 1, 0) / behaviour.tps if behaviour.tps else 0.0
            return self.whole(SURFACES[self.wire].encode(reply), first + pause, tokens)
        encoder = SURFACES[self.wire].stream(request, id=reply.id, model=reply.model, created=self.created)
        pause = 1 / behaviour.tps if behaviour.tps else 0.0
        pieces: list[Piece] = []
        for chunk in replies.chunks(reply):
            wait = (pause if pieces else first) if chunk.speaks or not pieces else 0.0
            if not pieces and self.wire == "anthropic" and reply.usage is not None:  # told when the message starts
                chunk.usage = msgspec.structs.replace(reply.usage, output_tokens=1, reasoning_tokens=0)
            pieces.append(Piece(encoder.chunk(chunk, "simulated"), int(chunk.speaks), wait))
        pieces.append(Piece(encoder.end({})))
        return self._streamed(pieces, behaviour)

    def _streamed(self, pieces: list[Piece], behaviour: Behaviour) -> Plan:
        as_array = self.wire == "google" and self.incoming.address.query.get("alt") != "sse"
        return Plan(
            wire=self.wire,
            headers=self.headers("application/json" if as_array else _SSE),
            pieces=_array(pieces) if as_array else pieces,
            stream=True,
            framing=behaviour.framing,
            late_head=behaviour.late_headers,
        )

    def _body(self, found: Route) -> bytes:
        """Return the body, with the model in it where only the address names one."""
        if found.model is None or self.wire != "openai":
            return self.incoming.body
        try:
            fields = msgspec.json.decode(self.incoming.body, type=dict[str, msgspec.Raw])
        except (ValueError, RecursionError):
            return self.incoming.body  # the surface says what is wrong
        return msgspec.json.encode({**fields, "model": msgspec.Raw(msgspec.json.encode(found.model))})

    def _path(self, found: Route, verb: str) -> str:
        """Return the address in the form that the wire is documented with, whatever prefix it came with."""
        if self.wire != "google":
            return self.incoming.address.path
        return f"/v1beta/models/{quote(found.model or '', safe='')}:{verb}"

    def _behaviour(self, model: str) -> Behaviour:
        try:
            behaviour = self.providers.progress.behaviour(model)
        except ValueError as error:
            raise Failure(400, f"Model {model}: {error}", param="model") from error
        if behaviour is None:
            raise unknown_model(self.wire, model)
        if behaviour.concurrency is not None and self.providers.recorder.active[model] >= behaviour.concurrency:
            raise Failure(429, f"Too many requests at once: the limit is {behaviour.concurrency}.")
        return behaviour

    def _first_token(self, model: str, behaviour: Behaviour) -> float:
        if not behaviour.jitter:
            return float(behaviour.ttft)
        return behaviour.ttft * self.providers.progress.chance(model).lognormvariate(0, behaviour.jitter)

    def _struck(self, plan: Plan, behaviour: Behaviour) -> Plan:
        if behaviour.faults:
            model, progress = self.record.model, self.providers.progress
            moment = Moment(progress.chance(model), *progress.count(model), self.incoming.kept)
            self.record.faults = strike(plan, behaviour.faults, moment)
        return plan

    # --- vectors and counts -------------------------------------------------------------------------------------------

    def _embed(self, found: Route) -> Plan:
        surface = SURFACES[self.wire]
        request = surface.decode_embeddings(self._body(found), self._path(found, found.verb))
        self.record.model = request.model
        behaviour = self._behaviour(request.model)
        reply = replies.vectors(request, behaviour)
        body = surface.encode_embeddings(reply, request.encoding_format)
        return self._struck(self.whole(body, self._first_token(request.model, behaviour)), behaviour)

    def _count(self, found: Route) -> Plan:
        body = _countable(self.incoming.body)
        request, _ = SURFACES[self.wire].decode(body, self._path(found, "generateContent"))
        self.record.model = request.model
        tokens = replies.prompt_tokens(request)
        told = {"totalTokens": tokens} if self.wire == "google" else {"input_tokens": tokens}
        return self.whole(msgspec.json.encode(told))


def _countable(body: bytes) -> bytes:
    """Turn a request to count tokens into one to answer, which the surfaces can decode."""
    try:
        fields = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return body
    if not isinstance(fields, dict):
        return body
    inner = fields.get("generateContentRequest")
    return msgspec.json.encode(inner if isinstance(inner, dict) else {"max_tokens": 1, **fields})


def _blocked(request: Request) -> bytes:
    """Return what Gemini says of a prompt that it doesn't answer: no candidate, but why."""
    tokens = replies.prompt_tokens(request)
    return msgspec.json.encode(
        {
            "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
            "usageMetadata": {"promptTokenCount": tokens, "totalTokenCount": tokens},
            "modelVersion": request.model,
        }
    )


def _array(pieces: list[Piece]) -> list[Piece]:
    """Turn events into the elements of one JSON array, as Gemini streams where nobody asks for `alt=sse`."""
    separator = b"["
    turned = []
    for piece in pieces:
        payloads = [line[len(b"data: ") :] for line in piece.data.splitlines() if line.startswith(b"data: ")]
        data = b""
        for payload in payloads:
            data, separator = data + separator + payload, b",\r\n"
        turned.append(Piece(data, piece.tokens, piece.wait))
    return [*turned, Piece(b"]")]
