"""The Anthropic Messages wire towards callers.

Tools that the provider runs itself ("web_search_20260318", ...) become a `Tool` whose `extra` has their `type` and
settings; another wire can't serve them. Blocks that the neutral values have no place for become `Unknown` parts. Both,
like `cache_control` and other settings of blocks, reach an Anthropic model as they came.
"""

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw

from holdfast.chat import (
    Choice,
    Effort,
    Message,
    Part,
    Reasoning,
    Reply,
    Request,
    ResponseFormat,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Unknown,
)
from holdfast.errors import CallError, InvalidRequest
from holdfast.providers.anthropic.answers import WireUsage, encode_ending, encode_usage, finish_of
from holdfast.providers.anthropic.content import (
    Json,
    decode_blocks,
    decode_content,
    encode_json,
    encode_part,
    is_null,
)
from holdfast.providers.anthropic.errors import encode_error
from holdfast.providers.anthropic.stream import MessagesEncoder
from holdfast.providers.base import Source, Surface
from holdfast.providers.decoding import Malformed, Unsayable, read

_EFFORTS: dict[str | None, Effort] = {
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "xhigh",
}
_MODES: dict[str, Literal["auto", "none", "required", "named"]] = {
    "auto": "auto",
    "none": "none",
    "any": "required",
    "tool": "named",
}
_MADE_HERE = frozenset({"content", "usage", "stop_reason", "stop_details"})
_ONLY_ASSISTANTS = (ToolCall, Reasoning)
_NONE = type(None)
_CHECKS = (("description", (str, _NONE)), ("input_schema", (dict,)), ("strict", (bool, _NONE)))
_NAMED = frozenset({"name", "description", "input_schema", "strict"})
_OFF = ("disabled", "between_tools")


class _Message(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[Raw]


class _Thinking(msgspec.Struct):
    type: str
    budget_tokens: Annotated[int, Meta(ge=1)] | None = None


class _Format(msgspec.Struct):
    type: str
    schema: dict[str, Any] | None = None


class _OutputConfig(msgspec.Struct):
    effort: str | None = None
    format: _Format | None = None


class _ToolChoice(msgspec.Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Body(msgspec.Struct):
    """The fields that we know; objects are decoded on their own, so that what can't be used is never built."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[Raw], Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=0, le=2**53)]
    system: Raw = Raw(b"null")
    tools: list[Raw] | None = None
    tool_choice: _ToolChoice | None = None
    thinking: _Thinking | None = None
    output_config: _OutputConfig | None = None
    output_format: _Format | None = None
    stop_sequences: tuple[str, ...] | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    stream: bool | None = None


_KNOWN = frozenset(_Body.__struct_fields__)
_BODY = msgspec.json.Decoder(_Body)
_FIELDS = msgspec.json.Decoder(dict[str, Raw])
_MESSAGE = msgspec.json.Decoder(_Message)
_TOOL = msgspec.json.Decoder(dict[str, Any])
_ANY = msgspec.json.Decoder()


class AnthropicSurface(Surface):
    """Speaks POST /v1/messages."""

    wire = "anthropic"

    def decode(self, body: bytes, path: str) -> tuple[Request, Source]:
        try:
            return _Decoding(body).request()
        except Malformed as error:
            raise _invalid(error) from None

    def encode(self, reply: Reply) -> bytes:
        choice = reply.choices[0] if reply.choices else Choice()
        only = reply.extra.get("anthropic")
        only = only if isinstance(only, dict) else {}
        return encode_json(
            {
                "id": reply.id,
                "type": "message",
                "role": "assistant",
                "model": reply.model,
                "content": _content(choice.parts, only.get("content")),
                **_ending(choice, only),
                "usage": _usage(reply, only.get("usage")),
                **{name: value for name, value in only.items() if name not in _MADE_HERE},
            }
        )

    def stream(self, request: Request, *, id: str, model: str, created: int) -> MessagesEncoder:
        return MessagesEncoder(id=id, model=model)

    def error(self, error: CallError, call: str) -> bytes:
        return encode_json({"type": "error", "error": encode_error(error), "request_id": call})


# --- requests ---------------------------------------------------------------------------------------------------------


def _invalid(error: Malformed) -> InvalidRequest:
    """Name the field at fault as the wire does: "messages.0.content"."""
    path = re.sub(r"\[(\d+)\]", r".\1", error.path)
    return InvalidRequest(f"{path}: {error.message}" if path else error.message, param=path or None)


class _Decoding:
    """Decodes one request. Every method raises Malformed."""

    def __init__(self, body: bytes) -> None:
        self.body: _Body = read(_BODY, body)
        self.fields: dict[str, Raw] = read(_FIELDS, body)
        self.messages: dict[int, Raw] = {}
        self.tools: dict[int, Raw] = {}

    def request(self) -> tuple[Request, Source]:
        body = self.body
        choice, parallel = _tool_choice(body.tool_choice)
        effort, budget = _thinking(body)
        request = Request(
            model=body.model,
            messages=(*self._system(), *self._messages()),
            tools=self._tools() if body.tools else (),
            tool_choice=choice,
            parallel_tool_calls=parallel,
            response_format=_response_format(body),
            max_tokens=body.max_tokens,
            temperature=body.temperature,
            top_p=body.top_p,
            top_k=body.top_k,
            stop=body.stop_sequences or (),
            reasoning_effort=effort,
            reasoning_tokens=budget,
            stream=body.stream or False,
            stream_usage=body.stream or False,
            extra={name: read(_ANY, raw, name) for name, raw in self.fields.items() if name not in _KNOWN},
        )
        return request, Source(
            wire="anthropic", request=request, fields=self.fields, messages=self.messages, tools=self.tools
        )

    def _system(self) -> tuple[Message, ...]:
        if is_null(self.body.system):
            return ()
        parts = decode_content(self.body.system, "system")
        _only_text(parts, "system")
        return (Message(role="system", parts=parts),) if parts else ()

    def _messages(self) -> Iterator[Message]:
        for i, raw in enumerate(self.body.messages):
            path = f"messages.{i}"
            message: _Message = read(_MESSAGE, raw, path)
            content, role = message.content, message.role
            if isinstance(content, str):
                said = Message(role=role, parts=(Text(text=content),))
                self.messages[id(said)] = raw
                yield said
            elif role == "user":
                yield from self._turn(content, raw, f"{path}.content")
            else:
                yield self._said(role, content, raw, f"{path}.content")

    def _said(self, role: Literal["assistant", "system"], blocks: list[Raw], raw: Raw, path: str) -> Message:
        parts = decode_blocks(blocks, path)
        if role == "system":
            _only_text(parts, path)
        said = Message(role=role, parts=parts)
        if _check_assistant(parts, path):
            self.messages[id(said)] = raw
        return said

    def _turn(self, blocks: list[Raw], raw: Raw, path: str) -> Iterator[Message]:
        """Yield the user's words and the results of tools, which share a turn on this wire, as messages apart."""
        parts = decode_blocks(blocks, path)
        roles = [_role(part, path, i) for i, part in enumerate(parts)]
        if "tool" not in roles or "user" not in roles:
            said = Message(role=roles[0] if roles else "user", parts=parts)
            self.messages[id(said)] = raw
            yield said
            return
        for role, run in groupby(range(len(parts)), roles.__getitem__):
            numbers = list(run)
            said = Message(role=role, parts=tuple([parts[n] for n in numbers]))
            self.messages[id(said)] = Raw(encode_json({"role": "user", "content": [blocks[n] for n in numbers]}))
            yield said

    def _tools(self) -> tuple[Tool, ...]:
        tools = []
        for i, raw in enumerate(self.body.tools or ()):
            tool = _tool(read(_TOOL, raw, f"tools.{i}"), f"tools.{i}")
            self.tools[id(tool)] = raw
            tools.append(tool)
        return tuple(tools)


def _tool_choice(choice: _ToolChoice | None) -> tuple[ToolChoice | None, bool | None]:
    if choice is None:
        return None, None
    if choice.type == "tool" and choice.name is None:
        raise Malformed("tool_choice.name", "Field required")
    single = choice.disable_parallel_tool_use
    name = choice.name if choice.type == "tool" else None
    return ToolChoice(mode=_MODES[choice.type], name=name), None if single is None else not single


def _thinking(body: _Body) -> tuple[Effort | None, int | None]:
    effort, thinking = body.output_config.effort if body.output_config else None, body.thinking
    if effort is not None and effort not in _EFFORTS:
        raise Malformed("output_config.effort", "Input should be low, medium, high, xhigh or max")
    if thinking is not None and thinking.type in _OFF:
        return "none", None
    if thinking is None or thinking.type != "enabled":
        return _EFFORTS.get(effort), None
    if thinking.budget_tokens is None:
        raise Malformed("thinking.budget_tokens", "Field required")
    return _EFFORTS.get(effort), thinking.budget_tokens


def _response_format(body: _Body) -> ResponseFormat | None:
    modern = body.output_config.format if body.output_config else None
    asked, path = (modern, "output_config.format") if modern else (body.output_format, "output_format")
    if asked is None:
        return None
    if asked.type != "json_schema":
        raise Malformed(f"{path}.type", "Input should be json_schema")
    if asked.schema is None:
        raise Malformed(f"{path}.schema", "Field required")
    return ResponseFormat(type="schema", schema=asked.schema)


def _only_text(parts: tuple[Part, ...], path: str) -> None:
    for i, part in enumerate(parts):
        if not isinstance(part, Text):
            raise Malformed(f"{path}.{i}.type", "Input should be text")


def _role(part: Part, path: str, i: int) -> Literal["user", "tool"]:
    """Return whose words a block of a user's turn is. Raises Malformed if it can only be an assistant's."""
    if isinstance(part, ToolResult):
        return "tool"
    if isinstance(part, _ONLY_ASSISTANTS):
        raise Malformed(f"{path}.{i}", "This block can only be in an assistant's message")
    return "tool" if isinstance(part, Unknown) and part.value.get("type") == "tool_result" else "user"


def _check_assistant(parts: tuple[Part, ...], path: str) -> bool:
    """Return whether a message may go out as it came: not with thinking that no signature vouches for."""
    for i, part in enumerate(parts):
        if isinstance(part, ToolResult):
            raise Malformed(f"{path}.{i}", "tool_result blocks can only be in a user's message")
    return not any(isinstance(part, Reasoning) and not (part.signature or part.redacted) for part in parts)


def _tool(fields: Json, path: str) -> Tool:
    """Return a tool: a function of the caller's, or one that the provider runs itself."""
    type_, name = fields.get("type"), fields.get("name")
    if not isinstance(type_, (str, _NONE)):
        raise Malformed(f"{path}.type", "Input should be a valid string")
    own = type_ in (None, "custom")
    if not isinstance(name, str) and (own or name is not None):
        raise Malformed(f"{path}.name", "Field required" if name is None else "Input should be a valid string")
    if not own:
        return Tool(name=name or type_ or "", extra={key: value for key, value in fields.items() if key != "name"})
    for field, kinds in _CHECKS:
        if not isinstance(fields.get(field), kinds):
            raise Malformed(f"{path}.{field}", f"Input should be {kinds[0].__name__}")
    return Tool(
        name=name or "",
        description=fields.get("description"),
        parameters=fields["input_schema"],
        strict=fields.get("strict"),
        extra={key: value for key, value in fields.items() if key not in _NAMED},
    )


# --- answers ----------------------------------------------------------------------------------------------------------


def _content(parts: tuple[Part, ...], whole: Any) -> Any:
    """Return the blocks of an answer: the whole ones as the model gave them, if they still say the same."""
    if whole is not None and _same(parts, whole):
        return whole
    return [block for part in parts if (block := _block(part)) is not None]


def _same(parts: tuple[Part, ...], whole: Any) -> bool:
    try:
        return decode_content(Raw(encode_json(whole)), "") == parts
    except Malformed:
        return False


def _block(part: Part) -> Json | None:
    """Return the block of a part, None for what an answer on this wire has no words for."""
    if isinstance(part, ToolResult) or (isinstance(part, Text) and not part.text):
        return None
    try:
        return encode_part(part)
    except Unsayable:
        return None


def _ending(choice: Choice, only: Json) -> Json:
    ending = {"stop_details": None} | encode_ending(choice)
    reason, details = only.get("stop_reason"), only.get("stop_details")
    if isinstance(reason, str) and finish_of(reason) == choice.finish:
        ending["stop_reason"] = reason
    if choice.finish == "refused" and isinstance(details, dict):
        ending["stop_details"] = details
    return ending


def _usage(reply: Reply, whole: Any) -> Json:
    """Return usage, in full as the provider gave it if it still counts the same."""
    try:
        if isinstance(whole, dict) and msgspec.convert(whole, WireUsage).usage() == reply.usage:
            return whole
    except msgspec.ValidationError:
        pass
    return encode_usage(reply.usage)
