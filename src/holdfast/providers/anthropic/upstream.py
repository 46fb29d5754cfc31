"""The Anthropic Messages wire towards a model.

What this wire can't say, and what becomes of it:

- `n` above 1 and log-probabilities: refused with BadRequest, because the caller would wait for them in vain.
- `seed` and the penalties: dropped. They are hints, and a fallback must not fail for a hint. So are `temperature`,
  `top_p` and `top_k` where the model takes none or thinks within a budget; a temperature above 1 becomes 1.
- "json" without a schema: asked for in the system prompt. The wire enforces only schemas.
- A schema, where the model knows none: the input of a tool that it is forced to call, or told of in the system prompt;
  see `answer_tool.py`. The caller sees nothing of the tool.
- Reasoning that no signature vouches for, names of messages, `detail` of images: dropped.
- Forced tools are always sent as such, even to models that refuse them: "required" is a promise, not a hint. Thinking
  gives way to them, and a budget for it also to a prefill and to calls of tools that were made without thinking.
- Fields that only another wire knows: its well-known private ones are dropped, the rest is sent by its own name.

`max_tokens`, which the wire requires, is the model's `body.max_tokens` or 4096 where the request sets none; a budget
for thinking then comes on top. A last message from the assistant is a prefill; the space at its end, which the wire
refuses, is cut.

What only this wire says of an answer (citations, blocks of the provider's own tools, service tier, ...) travels in
`Reply.extra["anthropic"]`, from where the surface takes it as long as nobody changed the answer.
"""

from urllib.parse import urlencode

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from holdfast.chat import Choice, Part, Reply, Request
from holdfast.errors import MalformedResponse, ProviderError
from holdfast.http.base import Headers, HttpRequest
from holdfast.providers.anthropic import answer_tool
from holdfast.providers.anthropic.abilities import abilities
from holdfast.providers.anthropic.answers import StopDetails, WireUsage, encode_ending, encode_usage, finish_of
from holdfast.providers.anthropic.content import Json, decode_content, encode_json, encode_parts
from holdfast.providers.anthropic.errors import ENVELOPE, event_error, response_error
from holdfast.providers.anthropic.request import RequestEncoder
from holdfast.providers.anthropic.stream import MessagesDecoder
from holdfast.providers.base import Endpoint, Source, Upstream
from holdfast.providers.decoding import Malformed, Unsayable, read
from holdfast.providers.dialects.servers import Server

_KNOWN = frozenset({"type", "role", "id", "model", "content", "stop_reason", "stop_sequence", "stop_details", "usage"})
_ANSWERS = f'"{answer_tool.NAME}"'.encode()
_FIELDS = msgspec.json.Decoder(dict[str, Raw])
_ANY = msgspec.json.Decoder()


class _Answer(msgspec.Struct):
    content: Raw
    stop_reason: str
    id: str = ""
    model: str = ""
    stop_sequence: str | None = None
    stop_details: StopDetails | None = None
    usage: WireUsage | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


class AnthropicUpstream(Upstream):
    """Speaks POST {base_url}/v1/messages."""

    wire = "anthropic"

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._able = abilities(endpoint.model)
        base = endpoint.base_url.removesuffix("/v1")
        self._url = f"{base}/v1/messages" + (f"?{urlencode(endpoint.query)}" if endpoint.query else "")
        self._headers = _headers(endpoint)

    def encode(self, request: Request, source: Source | None = None) -> HttpRequest:
        body = RequestEncoder(request, source, self.endpoint, self._able).body()
        return HttpRequest("POST", self._url, self._headers, body)

    @property
    def server(self) -> Server:
        """What the model is held to. Those before 4.5 know no format, and a tool's schema is only a hint to them."""
        known = self.endpoint.server
        return known if self._able.structured else replace(known, dialect=None, unsuited="schema")

    @property
    def continues(self) -> bool:
        prefill = self.endpoint.prefill
        return self._able.prefill if prefill is None else prefill

    def continues_request(self, request: Request) -> bool:
        return super().continues_request(request) and not _thinks(self.endpoint.body.get("thinking"))

    def decode(self, body: bytes) -> Reply:
        try:
            return self._decode(body)
        except (Malformed, Unsayable) as error:
            raise MalformedResponse(f"The provider's answer is not a message of its own format: {error}") from None

    def forwardable(self, body: bytes) -> bytes | None:
        return None if _ANSWERS in body else body

    def stream(self) -> MessagesDecoder:
        return MessagesDecoder(self.endpoint.api_key)

    def error(self, status: int, headers: Headers, body: bytes) -> ProviderError:
        return response_error(status, headers, body, model=self.endpoint.model, key=self.endpoint.api_key)

    def _decode(self, body: bytes) -> Reply:
        fields: dict[str, Raw] = read(_FIELDS, body)
        if "error" in fields and "content" not in fields:
            raise event_error(read(ENVELOPE, body).error, key=self.endpoint.api_key)
        answer: _Answer = read(_ANSWER, body)
        parts = decode_content(answer.content, "content")
        finish = finish_of(answer.stop_reason)
        if (told := answer_tool.said(parts, finish)) is not None:
            parts, finish = told
            fields = {name: raw for name, raw in fields.items() if name not in ("content", "stop_reason")}
        choice = Choice(
            parts=parts,
            finish=finish,
            stop_sequence=answer.stop_sequence,
            refusal_reason=answer.stop_details.reason if answer.stop_details and finish == "refused" else None,
        )
        usage = answer.usage.usage() if answer.usage else None
        only_here = _only_here(fields, choice, encode_usage(usage) if usage else None)
        extra = {"anthropic": only_here} if only_here else {}
        return Reply(id=answer.id, model=answer.model, choices=(choice,), usage=usage, extra=extra)


def _headers(endpoint: Endpoint) -> Headers:
    headers = {b"content-type": b"application/json", b"anthropic-version": b"2023-06-01"}
    if endpoint.api_key is not None:
        headers[b"x-api-key"] = endpoint.api_key.encode()
    return tuple((headers | dict(endpoint.headers)).items())


def _thinks(config: object) -> bool:
    """Whether the settings of a model make it think, which goes with no prefill."""
    return isinstance(config, dict) and config.get("type") not in (None, "disabled", "between_tools")


def _only_here(fields: dict[str, Raw], choice: Choice, usage: Json | None) -> Json:
    """Return what the neutral values don't carry, by its name on the wire."""
    said = {name: read(_ANY, raw, name) for name, raw in fields.items() if name not in _KNOWN}
    only = {name: value for name, value in said.items() if value is not None}
    if "content" in fields and not _says_all(choice.parts, fields["content"]):
        only["content"] = read(_ANY, fields["content"], "content")
    ending = encode_ending(choice)
    for name, value in (
        ("usage", usage),
        ("stop_reason", ending["stop_reason"]),
        ("stop_details", ending.get("stop_details")),
    ):
        whole = read(_ANY, fields[name], name) if name in fields else None
        if whole is not None and whole != value:
            only[name] = whole
    return only


def _says_all(parts: tuple[Part, ...], content: Raw) -> bool:
    """Whether the content can be made again from its parts."""
    made = encode_json(encode_parts(parts))
    return made == bytes(content) or _ANY.decode(made) == read(_ANY, content, "content")
