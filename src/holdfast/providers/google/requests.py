"""Requests as callers send them on the Gemini wire.

As the real service does, names of fields are taken in snake case as well. A content that holds results of tools among
other parts becomes several messages. Built-in tools (`{"googleSearch": {}}`) become tools by their own name, with the
rest in `extra`; so do the fields of generationConfig and toolConfig that a request has no field for, under those names.
"""

import re
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from msgspec import Raw

from holdfast.chat import EmbeddingRequest, Message, Part, Request, Role, Tool, ToolChoice, ToolResult
from holdfast.providers.base import Source
from holdfast.providers.decoding import Malformed
from holdfast.providers.google.config import decode_choice, decode_config, json_schema, unknown_config
from holdfast.providers.google.content import decode_content
from holdfast.providers.google.wire import (
    Content,
    EmbedContent,
    FunctionCall,
    FunctionDeclaration,
    FunctionResponse,
    GenerationConfig,
    Json,
    Shape,
    ToolConfig,
    encode_json,
    read,
)

_MAX_DEPTH = 100  # as in every JSON parser of protobuf
_OPAQUE: Final = frozenset(
    {
        *("args", "response", "parameters", "parameters_json_schema", "parametersJsonSchema", "response_schema"),
        *("responseSchema", "response_json_schema", "responseJsonSchema", "holdfast", "labels"),
    }
)
_SNAKE_NAMES: Final = frozenset(
    {
        *(
            "system_instruction",
            "generation_config",
            "tool_config",
            "safety_settings",
            "cached_content",
            "service_tier",
        ),
        *("function_declarations", "part_metadata", "media_resolution", "video_metadata"),
        *("executable_code", "code_execution_result", "task_type"),
        *(name for shape in Shape.__subclasses__() for name in shape.__struct_fields__ if "_" in name),
    }
)
_SNAKE = re.compile(rf'"({"|".join(sorted(_SNAKE_NAMES))})"\s*:'.encode())
_OWN_FIELDS: Final = frozenset({"contents", "systemInstruction", "tools", "model", "generationConfig", "toolConfig"})
_READ: Final = _OWN_FIELDS | {"content", "requests"}
_ROLES: Final[dict[str, Role]] = {"user": "user", "model": "assistant", "function": "tool", "": "user"}


def read_fields(body: bytes) -> dict[str, Raw]:
    """Return the fields of a body, by their names in camel case. Raises Malformed."""
    if body.count(b"[") + body.count(b"{") > _MAX_DEPTH and _depth(read(body, Any)) > _MAX_DEPTH:
        raise Malformed("", "The JSON is nested too deeply")
    if _SNAKE.search(body):
        body = _in_camel_case(body)
    fields: dict[str, Raw] = read(body, dict[str, Raw])
    return {name: value for name, value in fields.items() if name not in _OWN_FIELDS or bytes(value) != b"null"}


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level and depth <= _MAX_DEPTH:
        depth += 1
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = [item for items in inner for item in items]
    return depth


def _in_camel_case(body: bytes) -> bytes:
    """Return a body with the fields that we read in camel case; one without any in snake case stays as it is."""
    said: Json = read(body, Json)
    names = {name: _camel_name(name) for name in said}
    camel = {names[name]: _camel(value) if names[name] in _READ else value for name, value in said.items()}
    return encode_json(camel) if camel != said else body


def _camel(value: Any) -> Any:
    if isinstance(value, list):
        return [_camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {_camel_name(name): inner if name in _OPAQUE else _camel(inner) for name, inner in value.items()}


def _camel_name(name: str) -> str:
    return re.sub(r"(?<=[a-z])_([a-z])", lambda match: match[1].upper(), name) if name in _SNAKE_NAMES else name


class Reader:
    """Reads one request. Ids of calls that have none are their numbers; a result answers the first call of its name."""

    def __init__(self, fields: dict[str, Raw]) -> None:
        self._fields = fields
        self._calls = 0
        self._open: dict[str, deque[str]] = defaultdict(deque)

    def request(self, model: str, *, stream: bool) -> tuple[Request, Source]:
        messages: dict[int, Raw] = {}
        tools: dict[int, Raw] = {}
        said = [*self._system(messages), *self._messages(messages)]
        choice, extra = self._tool_choice(), self._extra()
        config: GenerationConfig = self._field("generationConfig", GenerationConfig) or GenerationConfig()
        request = Request(
            model=model,
            messages=tuple(said),
            tools=tuple(self._tools(tools)),
            tool_choice=choice,
            stream=stream,
            stream_usage=stream,
            extra=extra,
            **decode_config(config),
        )
        source = Source(wire="google", request=request, fields=self._fields, messages=messages, tools=tools)
        return request, source

    def _field(self, name: str, type: Any) -> Any:
        raw = self._fields.get(name)
        return read(raw, type, name) if raw is not None else None

    def _extra(self) -> dict[str, Any]:
        extra = {name: read(raw, Any, name) for name, raw in self._fields.items() if name not in _OWN_FIELDS}
        if rest := unknown_config(self._field("generationConfig", Json) or {}):
            extra["generationConfig"] = rest
        tool_config = self._field("toolConfig", Json) or {}
        if rest := {name: value for name, value in tool_config.items() if name != "functionCallingConfig"}:
            extra["toolConfig"] = rest
        return extra

    def _tool_choice(self) -> ToolChoice | None:
        config: ToolConfig | None = self._field("toolConfig", ToolConfig)
        return decode_choice(config.function_calling_config) if config is not None else None

    # --- messages

    def _system(self, raws: dict[int, Raw]) -> Iterator[Message]:
        content: Content | None = self._field("systemInstruction", Content)
        if content is not None:
            raw = self._fields["systemInstruction"]
            parts = self._parts(content, raw, "systemInstruction")
            message = Message(role="system", parts=parts)
            raws[id(message)] = raw
            yield message

    def _messages(self, raws: dict[int, Raw]) -> Iterator[Message]:
        contents: list[Content] = self._field("contents", list[Content]) or []
        if not contents:
            raise Malformed("contents", "contents is not specified")
        for i, (content, raw) in enumerate(zip(contents, read(self._fields["contents"], list[Raw]), strict=True)):
            path = f"contents[{i}]"
            role = _ROLES.get(content.role or "")
            if role is None:
                raise Malformed(f"{path}.role", f"Please use a valid role: user, model; got {content.role!r}")
            parts = self._parts(content, raw, path)
            messages = list(_split(role, parts))
            if len(messages) == 1:
                raws[id(messages[0])] = raw
            yield from messages

    def _parts(self, content: Content, raw: Raw, path: str) -> tuple[Part, ...]:
        if not content.parts:
            raise Malformed(f"{path}.parts", "contents.parts must not be empty")
        return decode_content(content, path, lambda: read(raw, Json), self._call_id, self._result_id)

    def _call_id(self, call: FunctionCall) -> str:
        id = call.id or f"call_{self._calls}"
        self._calls += 1
        self._open[call.name].append(id)
        return id

    def _result_id(self, result: FunctionResponse) -> str:
        waiting = self._open[result.name]
        if result.id:
            if result.id in waiting:
                waiting.remove(result.id)
            return result.id
        return waiting.popleft() if waiting else f"call_{result.name}"

    # --- tools

    def _tools(self, raws: dict[int, Raw]) -> Iterator[Tool]:
        for i, entry in enumerate(self._field("tools", list[dict[str, Raw]]) or ()):
            for name, raw in entry.items():
                path = f"tools[{i}].{name}"
                if name == "functionDeclarations":
                    yield from self._functions(raw, path, raws)
                else:
                    yield Tool(name=name, extra={name: read(raw, Any, path)})

    @staticmethod
    def _functions(raw: Raw, path: str, raws: dict[int, Raw]) -> Iterator[Tool]:
        declarations: list[FunctionDeclaration] = read(raw, list[FunctionDeclaration], path)
        known = FunctionDeclaration.__struct_encode_fields__
        for declaration, own in zip(declarations, read(raw, list[Raw]), strict=True):
            parameters = declaration.parameters_json_schema
            if parameters is None and declaration.parameters is not None:
                parameters = json_schema(declaration.parameters)
            whole: Json = read(own, Json)
            tool = Tool(
                name=declaration.name,
                description=declaration.description,
                parameters=parameters,
                extra={name: value for name, value in whole.items() if name not in known},
            )
            raws[id(tool)] = own
            yield tool


def _split(role: Role, parts: Sequence[Part]) -> Iterator[Message]:
    """Yield one message for each run of results of tools, or of other parts."""
    for results, run in groupby(parts, lambda part: isinstance(part, ToolResult)):
        yield Message(role="tool" if results else "user" if role == "tool" else role, parts=tuple(run))


def decode_embeddings(model: str, fields: dict[str, Raw], *, batch: bool) -> EmbeddingRequest:
    requests: list[dict[str, Raw]] = [fields]
    if batch:
        requests = read(fields.get("requests", Raw(b"[]")), list[dict[str, Raw]], "requests")
    if not requests:
        raise Malformed("requests", "requests is not specified")
    said = [
        {name: read(raw, Any, name) for name, raw in request.items() if name not in ("content", "model")}
        for request in requests
    ]
    if any(other != said[0] for other in said):
        raise Malformed("requests", "All requests of a batch must have the same settings")
    shapes = [read(encode_json(each), EmbedContent, f"requests[{i}]" * batch) for i, each in enumerate(requests)]
    texts = [_embedded(shape, f"requests[{i}].content" if batch else "content") for i, shape in enumerate(shapes)]
    extra = {name: value for name, value in said[0].items() if name != "outputDimensionality"}
    return EmbeddingRequest(model=model, input=tuple(texts), dimensions=shapes[0].output_dimensionality, extra=extra)


def _embedded(shape: EmbedContent, path: str) -> str:
    texts = [part.text for part in shape.content.parts or () if part.text is not None]
    if not texts or len(texts) != len(shape.content.parts or ()):
        raise Malformed(f"{path}.parts", "Only text can be embedded here")
    return "".join(texts)
