"""The Gemini wire towards a model.

What this wire can't say, and what becomes of it:

- `parallel_tool_calls`, `strict`, names of messages and of schemas, `detail` of images, sealed reasoning: dropped.
- Arguments of a tool call that are no JSON object: shown to the model as `{"arguments": TEXT}`.
- Signatures of reasoning, when the request came on another wire: dropped, because nothing tells whose they are, and the
  wire refuses another provider's. A call that has none is marked as Google wants calls of other models to be marked
  (ai.google.dev/gemini-api/docs/thought-signatures), because from Gemini 3 on it would be refused.
- System messages: all of them become the systemInstruction; where nothing else was said, the user's words.
- Images and files in tool results that are not inline, files by another provider's id, parts that only another wire
  knows: refused with BadRequest.
- Fields that only another wire knows: its well-known private ones are dropped, the rest is sent by its own name.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any
from urllib.parse import quote, urlencode

from msgspec import Raw
from msgspec.structs import replace

from holdfast.chat import (
    Choice,
    EmbeddingReply,
    EmbeddingRequest,
    Message,
    Part,
    Reasoning,
    Reply,
    Request,
    Tool,
    ToolCall,
)
from holdfast.errors import BadRequest, MalformedResponse, ProviderError
from holdfast.http.base import Headers, HttpRequest
from holdfast.providers.base import Source, StreamDecoder, Upstream
from holdfast.providers.decoding import Malformed, Unsayable
from holdfast.providers.google.answers import CallIds, blocked, decode_logprobs, decode_usage, finish_of
from holdfast.providers.google.config import FIELDS, encode_choice, encode_config, version
from holdfast.providers.google.content import decode_content, encode_parts
from holdfast.providers.google.errors import event_error, response_error
from holdfast.providers.google.stream import GenerateDecoder
from holdfast.providers.google.wire import Candidate, EmbeddingResponse, Json, Response, encode_json, read
from holdfast.providers.private import private_to_others

_NEVER_SENT = frozenset({"holdfast", "model"})
_PRIVATE = _NEVER_SENT | private_to_others("google")
_BUILT_IN = frozenset(
    {
        *("googleSearch", "googleSearchRetrieval", "codeExecution", "urlContext", "googleMaps", "fileSearch"),
        *("computerUse", "mcpServers"),
    }
)
_OPTIONAL = frozenset({"systemInstruction", "tools", "generationConfig", "toolConfig"})
_UNSIGNED = "skip_thought_signature_validator"
_LEFT_OVER = ("safetyRatings", "citationMetadata", "groundingMetadata", "urlContextMetadata")


class GoogleUpstream(Upstream):
    """Speaks the Gemini wire to one model."""

    wire = "google"

    def encode(self, request: Request, source: Source | None = None) -> HttpRequest:
        own = source if source is not None and source.wire == self.wire else None
        body = merge(dict(self.endpoint.body), self._body(request, own, source is not own))
        return self._post("streamGenerateContent" if request.stream else "generateContent", body, stream=request.stream)

    def decode(self, body: bytes) -> Reply:
        response = self._read(body)
        if response.error is not None:
            raise event_error(response.error, model=self.endpoint.model, key=self.endpoint.api_key)
        if not response.candidates:
            raise blocked(response.prompt_feedback) or MalformedResponse("The response has no candidates.")
        ids = CallIds()
        ids.response = response.response_id or ""
        order = sorted(enumerate(response.candidates), key=_place)
        return Reply(
            id=response.response_id or "",
            model=response.model_version or self.endpoint.model,
            choices=tuple([self._choice(candidate, i, body, ids) for i, candidate in order]),
            usage=decode_usage(response.usage_metadata) if response.usage_metadata is not None else None,
            extra=_left_over([candidate for _, candidate in order]),
        )

    def stream(self) -> StreamDecoder:
        return GenerateDecoder(self.endpoint.model, self.endpoint.api_key)

    def error(self, status: int, headers: Headers, body: bytes) -> ProviderError:
        return response_error(status, headers, body, model=self.endpoint.model, key=self.endpoint.api_key)

    # --- embeddings

    def encode_embeddings(self, request: EmbeddingRequest) -> HttpRequest:
        common: Json = {"model": self._resource()}
        if request.dimensions is not None:
            common["outputDimensionality"] = request.dimensions
        common |= {name: value for name, value in request.extra.items() if name not in _PRIVATE}
        requests = []
        for text in request.input:
            if not isinstance(text, str):
                raise BadRequest("This wire embeds texts, not token ids.", param="input")
            requests.append(merge(dict(self.endpoint.body), common | {"content": {"parts": [{"text": text}]}}))
        return self._post("batchEmbedContents", {"requests": requests})

    def decode_embeddings(self, body: bytes) -> EmbeddingReply:
        try:
            response: EmbeddingResponse = read(body, EmbeddingResponse)
        except Malformed as error:
            raise MalformedResponse(f"The response is not of the Gemini wire: {error}") from None
        embeddings = response.embeddings or ([response.embedding] if response.embedding is not None else [])
        if not embeddings:
            raise MalformedResponse("The response has no embeddings.")
        usage = response.usage_metadata
        return EmbeddingReply(
            model=self.endpoint.model,
            vectors=tuple([tuple(embedding.values) for embedding in embeddings]),
            usage=decode_usage(usage) if usage is not None else None,
        )

    # --- parts of a request

    def _body(self, request: Request, own: Source | None, foreign: bool) -> Json:
        said = own.request.extra if own is not None else {}

        def raw(field: str, *names: str) -> Raw | None:
            """The field as it came, if nobody changed what it says, and the model's own settings add nothing to it."""
            if own is None or field in self.endpoint.body or request.extra.get(field) is not said.get(field):
                return None
            same = all(_same(getattr(request, name), getattr(own.request, name)) for name in names)
            return own.fields.get(field) if same else None

        dropped = _NEVER_SENT if own is not None else _PRIVATE
        body: Json = {name: raw(name) or value for name, value in request.extra.items() if name not in dropped}
        body["contents"], body["systemInstruction"] = self._contents(request, own, foreign)
        body["tools"] = raw("tools", "tools") or _encode_tools(request.tools, own)
        body["generationConfig"] = raw("generationConfig", *FIELDS) or self._config(request)
        body["toolConfig"] = raw("toolConfig", "tool_choice") or _tool_config(request)
        return {name: value for name, value in body.items() if value or name not in _OPTIONAL}

    def _config(self, request: Request) -> Any:
        return merge(encode_config(request, self.endpoint.model), request.extra.get("generationConfig"))

    def _contents(self, request: Request, own: Source | None, foreign: bool) -> tuple[list[Any], Any]:
        """Return the contents and the system instruction, each as it came where nobody changed it."""
        names: dict[str, str] = {}
        encoded: list[tuple[Message, Any]] = []
        for i, message in enumerate(request.messages):
            names |= {part.id: part.name for part in message.parts if isinstance(part, ToolCall)}
            said = own.message(message) if own is not None else None
            try:
                encoded.append((message, said or self._parts(message, names, foreign)))
            except Unsayable as problem:
                raise BadRequest(f"The google wire has no words for {problem}.", param=f"messages[{i}]") from None
        contents = list(_merged([pair for pair in encoded if pair[0].role != "system"]))
        system = [value for message, value in encoded if message.role == "system"]
        if not system:
            return contents, None
        if len(system) == 1 and contents and isinstance(system[0], Raw):
            return contents, system[0]
        parts = [part for value in system for part in (read(value, Any)["parts"] if isinstance(value, Raw) else value)]
        return (contents, {"parts": parts}) if contents else ([{"role": "user", "parts": parts}], None)

    def _parts(self, message: Message, names: Mapping[str, str], foreign: bool) -> list[Json]:
        parts = [_unsigned(part) for part in message.parts] if foreign else message.parts
        encoded = encode_parts(parts, names, self.endpoint.base_url)
        if (version(self.endpoint.model) or 0) >= 3:
            for call in [part for part in encoded if "functionCall" in part][:1]:  # the only one that Gemini signs
                call.setdefault("thoughtSignature", _UNSIGNED)
        return encoded

    # --- parts of an answer

    def _read(self, body: bytes) -> Response:
        try:
            response: Response = read(body, Response)
        except Malformed as error:
            raise MalformedResponse(f"The response is not of the Gemini wire: {error}") from None
        return response

    def _choice(self, candidate: Candidate, number: int, body: bytes, ids: CallIds) -> Choice:
        parts: tuple[Part, ...] = ()
        if candidate.content is not None:
            try:
                parts = decode_content(
                    candidate.content,
                    f"candidates[{number}].content",
                    lambda: read(body, Json)["candidates"][number]["content"],
                    ids.call,
                    ids.result,
                )
            except Malformed as error:
                raise MalformedResponse(f"The response is not of the Gemini wire: {error}") from None
        finish, reason = finish_of(candidate, any(isinstance(part, ToolCall) for part in parts))
        logprobs = decode_logprobs(candidate.logprobs_result)
        return Choice(parts=parts, finish=finish, logprobs=logprobs, refusal_reason=reason)

    # --- the request itself

    def _resource(self) -> str:
        model = self.endpoint.model
        return model if "/" in model else f"models/{model}"

    def _post(self, verb: str, body: Json, *, stream: bool = False) -> HttpRequest:
        endpoint = self.endpoint
        query = dict(endpoint.query) | ({"alt": "sse"} if stream else {})
        url = f"{endpoint.base_url}/{quote(self._resource())}:{verb}" + (f"?{urlencode(query)}" if query else "")
        key = ((b"x-goog-api-key", endpoint.api_key.encode()),) if endpoint.api_key is not None else ()
        headers = ((b"content-type", b"application/json"), *key, *endpoint.headers)
        return HttpRequest("POST", url, headers, encode_json(body))


def merge(under: Any, over: Any) -> Any:
    """Lay one object over another, and the objects in them; anything but an object replaces what is under it."""
    if over is None:
        return under
    if not isinstance(under, dict) or not isinstance(over, dict):
        return over
    return under | {name: merge(under.get(name), value) for name, value in over.items()}


def _same(mine: Any, theirs: Any) -> bool:
    """Whether nobody changed a value. Tools are told by identity, because that is how their bytes are found."""
    if isinstance(mine, tuple) and isinstance(theirs, tuple):
        pairs = zip(mine, theirs, strict=False)
        return len(mine) == len(theirs) and all(a is b or (isinstance(a, str) and a == b) for a, b in pairs)
    return bool(mine == theirs)


def _tool_config(request: Request) -> Any:
    choice = encode_choice(request.tool_choice) if request.tool_choice is not None else {}
    return merge(choice, request.extra.get("toolConfig"))


def _encode_tools(tools: Sequence[Tool], own: Source | None) -> list[Json]:
    functions = [_encode_tool(tool, own) for tool in tools if not tool.extra.keys() & _BUILT_IN]
    built_in = [dict(tool.extra) for tool in tools if tool.extra.keys() & _BUILT_IN]
    return ([{"functionDeclarations": functions}] if functions else []) + built_in


def _encode_tool(tool: Tool, own: Source | None) -> Raw | Json:
    said = own.tool(tool) if own is not None else None
    if said is not None:
        return said
    declaration: Json = {"name": tool.name}
    if tool.description is not None:
        declaration["description"] = tool.description
    if tool.parameters is not None:
        declaration["parametersJsonSchema"] = tool.parameters
    return declaration | (tool.extra if own is not None else {})


def _merged(encoded: Sequence[tuple[Message, Any]]) -> Iterator[Any]:
    """Yield the contents. Results that follow each other share one: the wire wants all results of a turn together."""

    def kind(pair: tuple[Message, Any]) -> bool:
        return pair[0].role == "tool" and not isinstance(pair[1], Raw)

    for results, pairs in groupby(encoded, kind):
        if results:
            yield {"role": "user", "parts": [part for _, parts in pairs for part in parts]}
            continue
        for message, value in pairs:
            role = "model" if message.role == "assistant" else "user"
            yield value if isinstance(value, Raw) else {"role": role, "parts": value or [{"text": ""}]}


def _unsigned(part: Part) -> Part:
    return replace(part, signature=None) if isinstance(part, Reasoning) else part


def _place(pair: tuple[int, Candidate]) -> int:
    position, candidate = pair
    return position if candidate.index is None else candidate.index


def _left_over(candidates: Sequence[Candidate]) -> Json:
    """Return what candidates say beyond a choice, in the order of the choices."""
    fields = [
        {name: value for name in _LEFT_OVER if (value := _field(candidate, name)) is not None}
        for candidate in candidates
    ]
    return {"candidates": fields} if any(fields) else {}


def _field(candidate: Candidate, name: str) -> Any:
    return getattr(candidate, Candidate.__struct_fields__[Candidate.__struct_encode_fields__.index(name)])
